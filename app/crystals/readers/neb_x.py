"""Output of Quantum ESPRESSO's neb.x: `.crd`, the images' positions, and `.path`, their energies and positions."""

import re

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.elements import plain_symbol
from app.crystals.limits import Limits
from app.crystals.readers.frames import Frame
from app.crystals.readers.reading import Cell
from app.errors import FormatError

HARTREE_EV = 27.211386
BOHR_ANGSTROM = 0.52917721
_HEAD_CHARACTERS = 2_000
#: Larger than any length in angstrom or energy in hartree, and far below overflow.
_LARGEST = 1e9
_IMAGE = re.compile(r"\s*(?:FIRST|INTERMEDIATE|LAST)_IMAGE\b", re.IGNORECASE)
_POSITIONS = re.compile(r"\s*ATOMIC_POSITIONS\s*[({]?\s*(\w+)?", re.IGNORECASE)
_PATH = re.compile(r"\A\s*RESTART INFORMATION\b")
_ENERGY = re.compile(r"^[ \t]*Image:[ \t]*\d+[ \t]*\n[ \t]*(\S+)", re.MULTILINE)
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


def read_crd(text: str, name: str, limits: Limits, cell: Cell | None) -> tuple[Frame, ...]:
    """Read every image: https://www.quantum-espresso.org/Doc/INPUT_NEB.html.

    Args:
        text: of the file.
        name: of the file.
        limits: how large it may be.
        cell: rows are the lattice vectors, angstrom; the file has none.

    Raises:
        FormatError: kinds "unreadable-crd", "no-lattice"; `where` names the line.
        InputError: kinds "unknown-element", "not-a-cell".
        TooLargeError: atoms or images.
    """
    if cell is None:
        raise FormatError(
            f"{name} has the images of neb.x and no cell.",
            kind="no-lattice",
            where=name,
            expected="the .axsf of the same run, which has the cell; or this file with the cell in the form field "
            "`cell`, such as 10.3,12.0,9.4 in angstrom",
        )
    lattice = np.array(cell)
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
                frac_coords=_fractional(positions, unit, lattice, f"{name}, line {first}"),
                name=f"{name}, image {len(frames)}",
            )
        )
    if not frames:
        raise _unreadable("There are no images", name)
    return tuple(frames)


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


def _fractional(positions: FloatArray, unit: str, lattice: FloatArray, where: str) -> FloatArray:
    if unit == "crystal":
        return positions
    if unit not in ("bohr", "angstrom"):
        raise _unreadable(f"Positions in {unit!r} are not read", where)
    return np.asarray(positions * (BOHR_ANGSTROM if unit == "bohr" else 1.0) @ np.linalg.inv(lattice))


def _unreadable(detail: str, where: str) -> FormatError:
    return FormatError(f"{detail}.", kind="unreadable-crd", where=where, expected=_CRD)
