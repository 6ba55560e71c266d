"""A cell that is sent beside a file, for formats that have none."""

import math

import numpy as np
from ase.cell import Cell as AseCell

from app.crystals.readers.reading import Cell
from app.crystals.validation import check_cell
from app.errors import InputError

_EXPECTED = (
    "a, b, c in angstrom; or a, b, c and the angles alpha, beta, gamma in degrees; or the nine numbers of three "
    "vectors in angstrom, such as 10.3,0,0,0,12.0,0,0,0,9.4"
)
_MOST_TEXT = 400


def parse_cell(text: str, where: str) -> Cell:
    """Read a cell from three, six or nine numbers.

    Args:
        text: the numbers, with commas or spaces between them.
        where: the field or option.

    Raises:
        InputError: kinds "invalid-cell", "not-a-cell".
    """
    try:
        numbers = [float(word) for word in text[:_MOST_TEXT].strip(" []()").replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) not in (3, 6, 9) or not all(map(math.isfinite, numbers)):
        raise InputError(
            f"The cell {text[:60]!r} cannot be read.", kind="invalid-cell", where=where, expected=_EXPECTED
        )
    has_vectors = len(numbers) == 9  # noqa: PLR2004 - three of three
    lattice = np.array(numbers).reshape(3, 3) if has_vectors else _of_lengths(numbers, where)
    check_cell(lattice, where)
    a, b, c = ((float(x), float(y), float(z)) for x, y, z in lattice)
    return a, b, c


def _of_lengths(numbers: list[float], where: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The vectors of a cell with the given lengths and angles, right angles where these are left out."""
    lengths, angles = numbers[:3], numbers[3:] or [90.0, 90.0, 90.0]
    squares = 1.0 - sum(math.cos(math.radians(angle)) ** 2 for angle in angles)
    volume = squares + 2.0 * math.prod(math.cos(math.radians(angle)) for angle in angles)
    if min(lengths) <= 0 or not all(0 < angle < 180 for angle in angles) or volume <= 0:  # noqa: PLR2004 - degrees
        raise InputError(
            f"No cell has lengths of {', '.join(f'{one:g}' for one in lengths)} angstrom and angles of "
            f"{', '.join(f'{one:g}' for one in angles)} degrees.",
            kind="invalid-cell",
            where=where,
            expected=_EXPECTED,
        )
    return np.array(AseCell.fromcellpar([*lengths, *angles]))
