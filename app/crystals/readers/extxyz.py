"""XYZ of one or more frames, extended or with a cell sent beside it, read line by line so that an error can name it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from app.crystals.elements import SYMBOLS, plain_symbol
from app.crystals.limits import Limits
from app.crystals.readers.frames import Frame, FrameSample, spread_evenly
from app.crystals.readers.neb_x import HARTREE_EV
from app.crystals.readers.reading import Cell
from app.crystals.validation import check_cell
from app.errors import FormatError, InputError

_PAIR = re.compile(r"""([A-Za-z_][\w-]*)\s*=\s*("[^"]*"|'[^']*'|\{[^}]*\}|\[[^\]]*\]|\S+)""")
_FORMAT = 'extended XYZ: a count, a comment with Lattice="ax ay az bx by bz cx cy cz", then a line an atom'

#: Of a file's text, so much is looked at to recognise what wrote it.
_HEAD_CHARACTERS = 2_000
#: The comment that CP2K writes: ` i =        5, time =        2.500, E =       -17.1643473908`.
_CP2K = re.compile(r"(?m)^[ \t]*i[ \t]*=[ \t]*\d+,.*?\bE[ \t]*=[ \t]*([-+]?\d+\.\d+)")
#: Larger than any length in angstrom, and far below overflow.
_LARGEST = 1e9


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """The columns of an atom's line."""

    symbol: int
    position: int
    is_number: bool


def read_extxyz(text: str, name: str, limits: Limits, cell: Cell | None = None) -> tuple[Frame, ...]:
    """Read every frame: https://github.com/libAtoms/extxyz; of CP2K too, whose energies are in hartree.

    Columns and properties other than species, positions and the energy are ignored.

    Args:
        text: of the file.
        name: of the file.
        limits: how large it may be.
        cell: rows are the lattice vectors, angstrom, for frames that have no Lattice.

    Raises:
        FormatError: kinds "unreadable-xyz", "no-lattice"; `where` names the line.
        InputError: kinds "unknown-element", "not-a-cell".
        TooLargeError: atoms or images.
    """
    lines = text.rstrip().split("\n")
    frames: list[Frame] = []
    for at, count in _starts(lines, name, limits):
        limits.check_images(len(frames) + 1, name)
        frames.append(_frame(lines, at, count, (name, len(frames)), cell))
    return tuple(frames)


def sample_extxyz(text: str, name: str, limits: Limits, cell: Cell | None = None) -> FrameSample:
    """Read as many frames as a band may have images, evenly spread, and count all.

    Raises:
        FormatError, InputError, TooLargeError: as `read_extxyz`, but of the images' number.
    """
    lines = text.rstrip().split("\n")
    starts = list(_starts(lines, name, limits))
    chosen = spread_evenly(len(starts), limits.max_images)
    frames = tuple(_frame(lines, *starts[index], (name, index), cell) for index in chosen)
    return FrameSample(frames=frames, count=len(starts))


def _starts(lines: Sequence[str], name: str, limits: Limits) -> Iterator[tuple[int, int]]:
    """The line at which each frame starts, and its number of atoms."""
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        count = _count(lines[at], f"{name}, line {at + 1}")
        limits.check_atoms(count, f"{name}, line {at + 1}")
        yield at, count
        at += count + 2


def _count(line: str, where: str) -> int:
    if not line.strip().isdecimal() or len(line.strip()) > 9 or int(line) == 0:  # noqa: PLR2004 - a billion atoms
        raise _unreadable(f"Expected the number of atoms here, not {line.strip()[:40]!r}", where)
    return int(line)


def is_cp2k(text: str) -> bool:
    """Whether the frames of an XYZ are the steps of a run of CP2K."""
    return _CP2K.search(text[:_HEAD_CHARACTERS]) is not None


def _frame(lines: list[str], at: int, count: int, place: tuple[str, int], cell: Cell | None) -> Frame:
    name, index = place
    frame_name = f"{name}, frame {index}"
    if at + 2 + count > len(lines):
        raise _unreadable(
            f"The file ends within frame {index}, which should have {count} atoms", f"{name}, line {len(lines)}"
        )
    header = {key.lower(): value.strip("\"'{}") for key, value in _PAIR.findall(lines[at + 1])}
    lattice = _lattice(header, f"{name}, line {at + 2}", cell)
    check_cell(lattice, f"{name}, line {at + 2}")
    columns = _columns(header.get("properties", ""), f"{name}, line {at + 2}")
    species: list[str] = []
    positions = np.empty((count, 3))
    for k in range(count):
        where = f"{name}, line {at + 3 + k}"
        fields = lines[at + 2 + k].split()
        if len(fields) < max(columns.symbol + 1, columns.position + 3):
            raise _unreadable(f"Expected an element and three coordinates here, not {' '.join(fields)[:60]!r}", where)
        species.append(_symbol(fields[columns.symbol], where, is_number=columns.is_number))
        try:
            positions[k] = [float(field) for field in fields[columns.position : columns.position + 3]]
        except ValueError as error:
            raise _unreadable(f"Expected three coordinates here, not {' '.join(fields)[:60]!r}", where) from error
    if not (np.abs(positions) < _LARGEST).all():  # written so that NaN is refused
        raise InputError(
            "A coordinate is not a finite number of angstrom.",
            kind="not-coordinates",
            where=frame_name,
            expected="finite Cartesian coordinates in angstrom",
        )
    return Frame(
        lattice_angstrom=lattice,
        species=tuple(species),
        frac_coords=positions @ np.linalg.inv(lattice),
        name=frame_name,
        warnings=_periodicity_warnings(header.get("pbc", "T T T")) if "lattice" in header else (),
        energy_ev=_energy_ev(lines[at + 1], header),
    )


def _energy_ev(comment: str, header: dict[str, str]) -> float | None:
    """In eV by the convention of extended XYZ; in hartree where the comment is one of CP2K."""
    found = _CP2K.match(comment)
    text = found[1] if found else next((header[key] for key in ("energy", "free_energy") if key in header), "")
    try:
        energy = float(text) * (HARTREE_EV if found else 1.0)
    except ValueError:
        return None
    return energy if abs(energy) < _LARGEST else None  # so that NaN is none


def _symbol(text: str, where: str, *, is_number: bool) -> str:
    if is_number and text.isdecimal() and 0 < int(text[:4]) <= len(SYMBOLS):
        return SYMBOLS[int(text) - 1]
    return plain_symbol(text, where)


def _lattice(
    header: dict[str, str], where: str, cell: Cell | None
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    if "lattice" not in header and cell is not None:
        return np.array(cell)
    if "lattice" not in header:
        raise FormatError(
            "The comment line has no Lattice: a plain XYZ file does not say how the crystal repeats.",
            kind="no-lattice",
            where=where,
            expected="the cell in the form field `cell`, such as 10.3,12.0,9.4 or nine numbers in angstrom; or "
            + _FORMAT,
        )
    try:
        numbers = [float(field) for field in re.split(r"[\s,\[\]]+", header["lattice"]) if field]
    except ValueError:
        numbers = []
    if len(numbers) != 9:  # noqa: PLR2004 - three vectors of three
        raise _unreadable("Lattice is not nine numbers", where)
    return np.array(numbers).reshape(3, 3)


def _columns(properties: str, where: str) -> _Columns:
    if not properties:
        return _Columns(symbol=0, position=1, is_number=True)
    fields = properties.split(":")
    starts: dict[str, int] = {}
    column = 0
    for property_name, width in zip(fields[::3], fields[2::3], strict=False):
        starts[property_name.lower()] = column
        if not width.isdecimal() or int(width[:3]) == 0:
            raise _unreadable("Properties does not give each column's width", where)
        column += int(width[:3])
    symbol = next((starts[key] for key in ("species", "symbols", "element", "z", "numbers") if key in starts), None)
    position = next((starts[key] for key in ("pos", "positions") if key in starts), None)
    if symbol is None or position is None:
        raise _unreadable("Properties does not name species and pos", where)
    return _Columns(symbol=symbol, position=position, is_number="species" not in starts)


def _periodicity_warnings(pbc: str) -> tuple[str, ...]:
    if all(flag.upper() in ("T", "TRUE", "1") for flag in re.split(r"[\s,\[\]]+", pbc) if flag):
        return ()
    return ("The file declares the cell as not periodic in every direction (pbc); it is read as a periodic crystal.",)


def _unreadable(detail: str, where: str) -> FormatError:
    return FormatError(f"{detail}.", kind="unreadable-xyz", where=where, expected=_FORMAT)
