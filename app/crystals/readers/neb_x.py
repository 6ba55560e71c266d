"""Quantum ESPRESSO's neb.x: the images in its input and `.crd`, the energies in its `.path`, `.dat` and `.int`."""

import re

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.elements import plain_symbol
from app.crystals.limits import Limits
from app.crystals.readers.frames import Frame
from app.crystals.readers.numbers import number_of
from app.crystals.readers.reading import Cell
from app.crystals.validation import check_cell
from app.errors import FormatError

HARTREE_EV = 27.211386
BOHR_ANGSTROM = 0.52917721
_HEAD_CHARACTERS = 20_000
#: Larger than any length in angstrom or energy in hartree, and far below overflow.
_LARGEST = 1e9
_IMAGE = re.compile(r"\s*(?:FIRST|INTERMEDIATE|LAST)_IMAGE\b", re.IGNORECASE)
_POSITIONS = re.compile(r"\s*ATOMIC_POSITIONS\s*[({]?\s*(\w+)?", re.IGNORECASE)
_PATH = re.compile(r"\A\s*RESTART INFORMATION\b")
_ENERGY = re.compile(r"^[ \t]*Image:[ \t]*\d+[ \t]*\n[ \t]*(\S+)", re.MULTILINE)
_CELL = re.compile(r"^[ \t]*+CELL_PARAMETERS[ \t]*+[({]?[ \t]*+(\w*+)[^\n]*+\n", re.IGNORECASE | re.MULTILINE)
#: The length that is the unit `alat`: of celldm(1) in bohr, of A in angstrom.
_CELLDM = re.compile(r"\bcelldm[ \t]*+\([ \t]*+1[ \t]*+\)[ \t]*+=[ \t]*+([-+.\dEeDd]++)", re.IGNORECASE)
_A = re.compile(r"(?:^|,)[ \t]*+A[ \t]*+=[ \t]*+([-+.\dEeDd]++)", re.IGNORECASE | re.MULTILINE)
_COMMENT = re.compile(r"[!#][^\n]*+")
#: Of a table of energies: where along the path, between 0 and 1, the energy, and in a `.dat` its error.
_DECIMAL = r"[-+]?+\d*+\.\d++(?:[eEdD][-+]?+\d++)?+"
_ENERGY_TABLE = re.compile(rf"\s*+(?:{_DECIMAL}(?:[ \t]++{_DECIMAL}){{1,2}}+[ \t]*+(?:\n\s*+|\Z))++")
_CRD = "the .crd of neb.x: FIRST_IMAGE, INTERMEDIATE_IMAGE, LAST_IMAGE, each with ATOMIC_POSITIONS (bohr)"


def is_crd(text: str) -> bool:
    """Whether a text holds the images of neb.x."""
    head = text[:_HEAD_CHARACTERS]
    return "_IMAGE" in head.upper() and any(_IMAGE.match(line) for line in head.split("\n"))


def is_path(text: str) -> bool:
    """Whether a text is the restart file of neb.x, which names neither elements nor a cell."""
    return _PATH.match(text) is not None


def path_energies_ev(text: str) -> tuple[float | None, ...]:
    """The energies of the images in a `.path` file, in their order."""
    energies: list[float | None] = []
    for word in _ENERGY.findall(text):
        try:
            energy = float(word)
        except ValueError:
            energy = np.nan
        energies.append(energy * HARTREE_EV if abs(energy) < _LARGEST else None)  # so that NaN is none
    return tuple(energies)


def path_alone(name: str) -> FormatError:
    """The error for a `.path` file without the file that names its atoms."""
    return FormatError(
        f"{name} is the restart file of Quantum ESPRESSO's neb.x: it names neither elements nor a cell.",
        kind="needs-other-file",
        where=name,
        expected="the .axsf of the same run; or a zip of it, or of the .crd, with this file, whose energies are then "
        "read too",
    )


def is_energies(text: str) -> bool:
    """Whether a text is neb.x's table of energies along a path, which has no atoms."""
    if not _ENERGY_TABLE.fullmatch(text):
        return False
    ends = text.split(maxsplit=1)[0], text.rstrip().rsplit("\n", 1)[-1].split()[0]
    return tuple(map(number_of, ends)) == (0.0, 1.0)


def energies_alone(name: str) -> FormatError:
    """The error for neb.x's table of energies without the file that has the images."""
    return FormatError(
        f"{name} is a table of the energies along a path, as Quantum ESPRESSO's neb.x writes them: it has no atoms.",
        kind="needs-other-file",
        where=name,
        expected="the .axsf of the same run, which has the images and the cell; or the input of neb.x with its cell, "
        "whose images are then the band",
    )


def has_cell(text: str) -> bool:
    """Whether an input of neb.x has the cell."""
    return _CELL.search(_COMMENT.sub("", text)) is not None


def read_crd(text: str, name: str, limits: Limits, cell: Cell | None) -> tuple[Frame, ...]:
    """Read every image of a .crd, or of an input: https://www.quantum-espresso.org/Doc/INPUT_NEB.html.

    Args:
        text: of the file.
        name: of the file.
        limits: how large it may be.
        cell: rows are the lattice vectors, angstrom, for a file without CELL_PARAMETERS.

    Raises:
        FormatError: kinds "unreadable-crd", "no-lattice"; `where` names the line.
        InputError: kinds "unknown-element", "not-a-cell".
        TooLargeError: atoms or images.
    """
    text = _COMMENT.sub("", text)
    lattice = _lattice(text, name, cell)
    alat_angstrom = _alat_angstrom(text)
    lines = text.split("\n")
    frames: list[Frame] = []
    at = 0
    while at < len(lines):
        if not _IMAGE.match(lines[at]):
            at += 1
            continue
        limits.check_images(len(frames) + 1, name)
        at += 1
        while at < len(lines) and not lines[at].strip():
            at += 1
        head = _POSITIONS.match(lines[at]) if at < len(lines) else None
        if head is None:
            raise _unreadable("Expected ATOMIC_POSITIONS here", f"{name}, line {at + 1}")
        unit = (head[1] or "alat").lower()
        at += 1
        first = at
        while at < len(lines) and lines[at].strip() and not _IMAGE.match(lines[at]) and _is_atom(lines[at]):
            at += 1
        limits.check_atoms(at - first, f"{name}, line {first + 1}")
        species, positions = _atoms(lines, range(first, at), name)
        frames.append(
            Frame(
                lattice_angstrom=lattice,
                species=species,
                frac_coords=_fractional(positions, unit, lattice, alat_angstrom, f"{name}, line {first}"),
                name=f"{name}, image {len(frames)}",
            )
        )
    if not frames:
        raise _unreadable("There are no images", name)
    return tuple(frames)


def _lattice(text: str, name: str, cell: Cell | None) -> FloatArray:
    """The vectors of CELL_PARAMETERS, or those that were sent beside the file, angstrom, shape [3, 3]."""
    parameters = _CELL.search(text)
    if parameters is None and cell is not None:
        return np.array(cell)
    if parameters is None:
        raise FormatError(
            f"{name} has the images of neb.x and no cell (CELL_PARAMETERS).",
            kind="no-lattice",
            where=name,
            expected="the .axsf of the same run, which has the cell; or this file with the cell in the form field "
            "`cell`, such as 10.3,12.0,9.4 in angstrom",
        )
    line = text.count("\n", 0, parameters.end())
    rows = _rows_after(text, parameters)
    vectors = np.array([_vector(row, f"{name}, line {line + k}") for k, row in enumerate(rows, 1)])
    alat_angstrom = _alat_angstrom(text)
    # without a unit, alat where that is given and bohr elsewhere
    unit = parameters[1].lower() or ("bohr" if alat_angstrom is None else "alat")
    lattice = vectors * _unit_angstrom(unit, alat_angstrom, f"{name}, line {line}")
    check_cell(lattice, f"{name}, lines {line + 1} to {line + 3}")
    return lattice


def _rows_after(text: str, found: re.Match[str]) -> list[str]:
    rows = text[found.end() :].split("\n", 3)[:3]
    return rows + [""] * (3 - len(rows))


def _vector(row: str, where: str) -> list[float]:
    numbers = [number_of(field) for field in row.split()[:3]]
    if len(numbers) != 3 or not all(abs(x) < _LARGEST for x in numbers):  # noqa: PLR2004 - so that NaN fails
        raise _unreadable(f"Expected a vector of three numbers here, not {row.strip()[:60]!r}", where)
    return numbers


def _alat_angstrom(text: str) -> float | None:
    """The unit alat by celldm(1) or A; None where neither is given."""
    celldm, a = _CELLDM.search(text), _A.search(text)
    alat_angstrom = number_of(celldm[1]) * BOHR_ANGSTROM if celldm else number_of(a[1]) if a else np.nan
    return alat_angstrom if 0 < alat_angstrom < _LARGEST else None


def _unit_angstrom(unit: str, alat_angstrom: float | None, where: str) -> float:
    if unit == "alat" and alat_angstrom is None:
        raise _unreadable("Lengths are in alat, and neither celldm(1) nor A says how long that is", where)
    known = {"bohr": BOHR_ANGSTROM, "angstrom": 1.0, "alat": alat_angstrom}.get(unit)
    if known is None:
        raise _unreadable(f"Lengths in {unit[:20]!r} are not read", where)
    return known


def _is_atom(line: str) -> bool:
    return len(line.split()) >= 4  # noqa: PLR2004 - an element and three coordinates


def _atoms(lines: list[str], rows: range, name: str) -> tuple[tuple[str, ...], FloatArray]:
    """Symbols and positions as they stand there, shape [n, 3]."""
    if not rows:
        raise _unreadable("An image has no atoms", f"{name}, line {rows.start}")
    species, positions = [], []
    for row in rows:
        fields = lines[row].split()
        species.append(plain_symbol(re.sub(r"[_\d].*", "", fields[0]), f"{name}, line {row + 1}"))
        try:
            numbers = [float(field) for field in fields[1:4]]
        except ValueError:
            numbers = []
        if len(numbers) != 3 or not all(abs(x) < _LARGEST for x in numbers):  # noqa: PLR2004 - so that NaN fails
            raise _unreadable("Expected an element and three numbers here", f"{name}, line {row + 1}")
        positions.append(numbers)
    return tuple(species), np.array(positions)


def _fractional(
    positions: FloatArray, unit: str, lattice: FloatArray, alat_angstrom: float | None, where: str
) -> FloatArray:
    if unit == "crystal":
        return positions
    return np.asarray(positions * _unit_angstrom(unit, alat_angstrom, where) @ np.linalg.inv(lattice))


def _unreadable(detail: str, where: str) -> FormatError:
    return FormatError(f"{detail}.", kind="unreadable-crd", where=where, expected=_CRD)
