"""VASP's POSCAR and CONTCAR, read line by line so that an error can name the line."""

import re

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.elements import plain_symbol
from app.crystals.limits import Limits
from app.crystals.readers.frames import Frame
from app.crystals.validation import check_cell
from app.errors import FormatError

_COUNTS_LINE = 6
#: Larger than any length in angstrom, and far below overflow in a volume.
_LARGEST = 1e9
_FORMAT = (
    "the POSCAR format of VASP 5 and later: title, scale, three vectors, element names, counts, Direct or Cartesian"
)


def read_poscar(text: str, name: str, limits: Limits) -> Frame:
    """Read one POSCAR: https://www.vasp.at/wiki/index.php/POSCAR.

    Selective dynamics, velocities and anything else after the positions are ignored.

    Raises:
        FormatError: kinds "no-element-names" (VASP 4), "unreadable-poscar"; `where` names the line.
        InputError: kinds "unknown-element", "not-a-cell".
        TooLargeError: atoms.
    """
    lines = text.split("\n")
    lattice, scales = _lattice(lines, name)
    names_line = _fields(lines, 5, name)
    if all(field.isdigit() for field in names_line):
        raise FormatError(
            f"{name} does not name its elements: line 6 has counts only, as VASP 4 wrote it.",
            kind="no-element-names",
            where=f"{name}, line 6",
            expected="a line of element symbols, such as Li Fe P O, before the line of counts",
        )
    # pseudopotential names ("Li_sv", "Fe_pv/3f2a...") stand for their element
    symbols = [plain_symbol(re.split(r"[_/.]", field)[0], f"{name}, line 6") for field in names_line]
    counts = _counts(lines, name, len(symbols))
    limits.check_atoms(sum(counts), name)
    species = tuple(symbol for symbol, count in zip(symbols, counts, strict=True) for _ in range(count))
    mode_line = 7
    if _fields(lines, mode_line, name)[0][0] in "sS":
        mode_line += 1
    cartesian = _fields(lines, mode_line, name)[0][0] in "cCkK"
    positions = np.array([_floats(lines, mode_line + 1 + k, name, 3) for k in range(len(species))])
    check_cell(lattice, f"{name}, lines 2 to 5")
    if cartesian:
        positions = (positions * scales) @ np.linalg.inv(lattice)
    return Frame(lattice_angstrom=lattice, species=species, frac_coords=positions, name=name)


def _lattice(lines: list[str], name: str) -> tuple[FloatArray, FloatArray]:
    """The scaled vectors, shape [3, 3], angstrom, and the scales along x, y and z, shape [3]."""
    given = _fields(lines, 1, name)
    scales = np.array(_floats(lines, 1, name, 3 if len(given) >= 3 and _is_number(given[2]) else 1))  # noqa: PLR2004
    vectors = np.array([_floats(lines, k, name, 3) for k in (2, 3, 4)])
    volume = abs(float(np.linalg.det(vectors)))
    if len(scales) == 1 and scales[0] < 0 and volume > 0:
        scales = np.array([(-scales[0] / volume) ** (1 / 3)])  # a negative scale is the volume
    if not np.isfinite(scales).all() or (scales <= 0).any():
        raise _unreadable("The scale is not a positive number", f"{name}, line 2")
    scales = np.broadcast_to(scales, 3)
    return vectors * scales, scales


def _counts(lines: list[str], name: str, expected: int) -> list[int]:
    fields = _fields(lines, _COUNTS_LINE, name)
    digits = [field for field in fields if field.isdecimal()]
    if len(digits) != expected or len(fields) != expected or any(len(field) > 9 for field in digits):  # noqa: PLR2004
        raise _unreadable(
            f"{expected} elements are named, and the line of counts reads {' '.join(fields)[:60]!r}", f"{name}, line 7"
        )
    counts = [int(field) for field in digits]
    if sum(counts) == 0:
        raise _unreadable("There are no atoms", f"{name}, line 7")
    return counts


def _fields(lines: list[str], index: int, name: str) -> list[str]:
    fields = lines[index].split("!")[0].split("#")[0].split() if index < len(lines) else []
    if not fields:
        raise _unreadable(f"The file ends early, or line {index + 1} is empty", f"{name}, line {index + 1}")
    return fields


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _floats(lines: list[str], index: int, name: str, count: int) -> list[float]:
    fields = _fields(lines, index, name)[:count]
    try:
        numbers = [float(field.replace("d", "e").replace("D", "e")) for field in fields]
    except ValueError:
        numbers = []
    if len(numbers) != count or any(abs(number) > _LARGEST for number in numbers):
        raise _unreadable(
            f"Expected {count} number{'s' if count > 1 else ''} here, not {' '.join(fields)[:60]!r}",
            f"{name}, line {index + 1}",
        )
    return numbers


def _unreadable(detail: str, where: str) -> FormatError:
    return FormatError(f"{detail}.", kind="unreadable-poscar", where=where, expected=_FORMAT)
