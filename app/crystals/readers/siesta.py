"""SIESTA's SystemLabel.XV: the last structure of a run, lengths in bohr."""

import re

import numpy as np

from app.crystals.elements import SYMBOLS, check_element
from app.crystals.limits import Limits
from app.crystals.readers.frames import Frame
from app.crystals.readers.neb_x import BOHR_ANGSTROM
from app.crystals.readers.numbers import NUMBER, number_of
from app.crystals.validation import check_cell
from app.errors import FormatError

#: Three vectors with their velocities, then the number of atoms.
_HEAD = re.compile(rf"\A(?:[ \t]*+{NUMBER}(?:[ \t]++{NUMBER}){{5}}[ \t]*+\n){{3}}[ \t]*+\d++[ \t]*+\n")
#: Larger than any length in bohr, and far below overflow.
_LARGEST = 1e9
_MOST_DIGITS = 9
_FIRST_ATOM = 4
_FORMAT = (
    "the .XV of SIESTA: three vectors with their velocities, the number of atoms, then an atom a line: its species, "
    "atomic number, position and velocity"
)


def is_xv(text: str) -> bool:
    """Whether a text is an XV file of SIESTA."""
    return _HEAD.match(text) is not None


def read_xv(text: str, name: str, limits: Limits) -> tuple[Frame, ...]:
    """Read the one structure; velocities are ignored.

    Raises:
        FormatError: kind "unreadable-xv"; `where` names the line.
        InputError: kinds "element-not-covered", "not-a-cell".
        TooLargeError: atoms.
    """
    lines = text.split("\n")
    lattice = np.array([_three(lines, row, 0, name) for row in range(3)]) * BOHR_ANGSTROM
    check_cell(lattice, f"{name}, lines 1 to 3")
    count = lines[_FIRST_ATOM - 1].strip()
    if len(count) > _MOST_DIGITS or int(count) == 0:
        raise _unreadable(f"Expected the number of atoms in line 4, not {count[:40]!r}", f"{name}, line 4")
    limits.check_atoms(int(count), f"{name}, line 4")
    rows = range(_FIRST_ATOM, _FIRST_ATOM + int(count))
    positions = np.array([_three(lines, row, 2, name) for row in rows]) * BOHR_ANGSTROM
    frame = Frame(
        lattice_angstrom=lattice,
        species=tuple(_symbol(lines, row, name) for row in rows),
        frac_coords=positions @ np.linalg.inv(lattice),
        name=name,
    )
    return (frame,)


def _symbol(lines: list[str], row: int, name: str) -> str:
    number = lines[row].split()[1]
    if not number.isdecimal() or len(number) > _MOST_DIGITS or not 0 < int(number) <= len(SYMBOLS):
        raise _unreadable(
            f"Line {row + 1} has {number[:20]!r} as an atomic number: ghost and mixed atoms are not read",
            f"{name}, line {row + 1}",
        )
    symbol = SYMBOLS[int(number) - 1]
    check_element(symbol, f"{name}, line {row + 1}")
    return symbol


def _three(lines: list[str], row: int, first: int, name: str) -> list[float]:
    fields = lines[row].split()[first : first + 3] if row < len(lines) else []
    numbers = [number_of(field) for field in fields]
    if len(numbers) != 3 or not all(abs(number) < _LARGEST for number in numbers):  # noqa: PLR2004 - so that NaN fails
        raise _unreadable(
            f"Expected three numbers in line {row + 1}, not {' '.join(fields)[:60]!r}", f"{name}, line {row + 1}"
        )
    return numbers


def _unreadable(detail: str, where: str) -> FormatError:
    return FormatError(f"{detail}.", kind="unreadable-xv", where=where, expected=_FORMAT)
