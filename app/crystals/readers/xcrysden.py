"""XCrySDen's XSF and its animated form AXSF, in which Quantum ESPRESSO's neb.x writes the images of a path."""

import re

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.elements import SYMBOLS, plain_symbol
from app.crystals.limits import Limits
from app.crystals.readers.frames import Frame
from app.crystals.validation import check_cell
from app.errors import FormatError

_HEAD = re.compile(r"^[ \t]*+(?:animsteps[ \t]++\d++|primvec)\b", re.IGNORECASE | re.MULTILINE)
#: Of a file's text, so much is looked at to recognise it.
_MOST_HEAD = 20_000
#: Larger than any length in angstrom, and far below overflow.
_LARGEST = 1e9
_MOST_DIGITS = 9
_FORMAT = "XSF: CRYSTAL, PRIMVEC with three vectors, PRIMCOORD with a count, then an element and three numbers a line"


def is_xsf(text: str) -> bool:
    """Whether a text is an XSF or AXSF file."""
    return _HEAD.search(text[:_MOST_HEAD]) is not None


def read_xsf(text: str, name: str, limits: Limits) -> tuple[Frame, ...]:
    """Read every image: http://www.xcrysden.org/doc/XSF.html.

    Forces and grids are ignored. Images without a cell of their own have the one before.

    Raises:
        FormatError: kind "unreadable-xsf"; `where` names the line.
        InputError: kinds "unknown-element", "not-a-cell".
        TooLargeError: atoms or images.
    """
    lines = [line.split("#")[0].split() for line in text.split("\n")]
    lattice: FloatArray | None = None
    frames: list[Frame] = []
    at = 0
    while at < len(lines):
        word = lines[at][0].upper() if lines[at] else ""
        at += 1
        if word == "PRIMVEC":
            lattice = np.array([_three(lines, at + k, 0, name) for k in range(3)])
            check_cell(lattice, f"{name}, line {at + 1}")
            at += 3
        elif word == "PRIMCOORD":
            if lattice is None:
                raise _unreadable("There is no PRIMVEC before the atoms", f"{name}, line {at}")
            limits.check_images(len(frames) + 1, name)
            count = _count(lines, at, name)
            limits.check_atoms(count, f"{name}, line {at + 1}")
            rows = range(at + 1, at + 1 + count)
            positions = np.array([_three(lines, row, 1, name) for row in rows])
            frames.append(
                Frame(
                    lattice_angstrom=lattice,
                    species=tuple(_symbol(lines[row][0], f"{name}, line {row + 1}") for row in rows),
                    frac_coords=positions @ np.linalg.inv(lattice),
                    name=f"{name}, image {len(frames)}",
                )
            )
            at += 1 + count
    if not frames:
        raise _unreadable("There are no atoms (PRIMCOORD)", f"{name}, line {len(lines)}")
    return tuple(frames)


def _count(lines: list[list[str]], at: int, name: str) -> int:
    field = lines[at][0] if at < len(lines) and lines[at] else ""
    if not field.isdecimal() or len(field) > _MOST_DIGITS or int(field) == 0:
        raise _unreadable(f"Expected the number of atoms here, not {field[:40]!r}", f"{name}, line {at + 1}")
    return int(field)


def _three(lines: list[list[str]], at: int, first: int, name: str) -> list[float]:
    fields = lines[at][first : first + 3] if at < len(lines) else []
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not all(abs(number) < _LARGEST for number in numbers):  # noqa: PLR2004 - so that NaN fails
        raise _unreadable(f"Expected three numbers here, not {' '.join(fields)[:60]!r}", f"{name}, line {at + 1}")
    return numbers


def _symbol(text: str, where: str) -> str:
    if text.isdecimal() and len(text) <= _MOST_DIGITS and 0 < int(text) <= len(SYMBOLS):
        return SYMBOLS[int(text) - 1]
    return plain_symbol(text, where)


def _unreadable(detail: str, where: str) -> FormatError:
    return FormatError(f"{detail}.", kind="unreadable-xsf", where=where, expected=_FORMAT)
