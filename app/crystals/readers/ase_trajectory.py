"""ASE's trajectory, a `.traj` in the ulm format: numbers and arrays, read without a pickle or a class."""

import io
from dataclasses import replace

import numpy as np
from ase.io import ulm

from app.crystals.elements import SYMBOLS
from app.crystals.limits import Limits
from app.crystals.readers.frames import Frame, FrameSample, spread_evenly
from app.crystals.readers.reading import File
from app.crystals.validation import check_cell
from app.errors import FormatError, InputError

_TAG = "ASE-Trajectory"
_EXPECTED = "what ase.io.write('band.traj', images) writes"
#: Larger than any length in angstrom, and far below overflow.
_LARGEST = 1e9


def read_ase_trajectory(file: File, limits: Limits) -> tuple[Frame, ...]:
    """Read every image: https://ase-lib.org/ase/io/trajectory.html.

    Only atomic numbers, positions, cell, periodicity and the energy are looked at. Forces, constraints and calculators
    are left where they are: what they name is never imported.

    Raises:
        FormatError: kind "unreadable-trajectory".
        InputError: kinds "unknown-element", "not-a-cell", "not-coordinates".
        TooLargeError: atoms or images.
    """
    reader = _opened(file)
    limits.check_images(len(reader), file.name)
    return tuple(_image(reader, index, file, limits) for index in range(len(reader)))


def sample_ase_trajectory(file: File, limits: Limits) -> FrameSample:
    """Read as many images as a band may have, evenly spread, and count all.

    Raises:
        FormatError, InputError, TooLargeError: as `read_ase_trajectory`, but of the images' number.
    """
    reader = _opened(file)
    chosen = spread_evenly(len(reader), limits.max_images)
    return FrameSample(frames=tuple(_image(reader, index, file, limits) for index in chosen), count=len(reader))


def _opened(file: File) -> ulm.Reader:
    try:
        with np.errstate(over="ignore"):  # of lengths that damaged bytes claim; what follows them is refused
            reader = ulm.Reader(io.BytesIO(file.content))
        tag, count = reader.get_tag(), len(reader)
    except _BROKEN as error:
        raise _unreadable(file, f"its head cannot be read ({type(error).__name__})") from error
    if tag != _TAG:
        raise _unreadable(file, f"it is a {tag[:40]!r} file")
    if count < 1:
        raise _unreadable(file, "it holds no image")
    return reader


def _image(reader: ulm.Reader, index: int, file: File, limits: Limits) -> Frame:
    try:
        item = reader[index] if index else reader
        head = item if "numbers" in item else reader
        limits.check_atoms(int(np.prod(_shape(head, "numbers"))), f"{file.name}, image {index}")
        numbers = np.array(head.numbers, dtype=np.int64)
        positions = np.array(item.positions, dtype=np.float64)
        cell = np.array(item.cell if "cell" in item else reader.cell, dtype=np.float64)
        periodic = bool(np.all(head.pbc)) if "pbc" in head else True
        energy_ev = _energy_ev(item)
    except _BROKEN as error:
        raise _unreadable(file, f"image {index} cannot be read ({type(error).__name__})") from error
    frame = frame_of_arrays(numbers, positions, cell, file=file, what=f"image {index}", periodic=periodic)
    return replace(frame, energy_ev=energy_ev)


#: What ASE and NumPy raise at bytes that are no trajectory.
_BROKEN = (
    *(ulm.InvalidULMFileError, OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
    *(AssertionError, RecursionError, EOFError),
)


def _shape(item: ulm.Reader, name: str) -> tuple[int, ...]:
    """The shape of an array before it is read; its bytes are bounded by the file's."""
    found = item._data[name]  # noqa: SLF001 - the public access reads the whole array
    return tuple(found.shape) if isinstance(found, ulm.NDArrayReader) else np.shape(found)


def _energy_ev(item: ulm.Reader) -> float | None:
    calculator = item.calculator if "calculator" in item else None
    energy = calculator.energy if isinstance(calculator, ulm.Reader) and "energy" in calculator else None
    return float(energy) if isinstance(energy, int | float) and abs(energy) < _LARGEST else None


def frame_of_arrays(
    numbers: np.ndarray,
    positions: np.ndarray,
    cell: np.ndarray,
    *,
    file: File,
    what: str,
    periodic: bool,
) -> Frame:
    """An image from ASE's arrays, which are checked.

    Args:
        numbers: atomic numbers, shape [n].
        positions: Cartesian, shape [n, 3], angstrom.
        cell: shape [3, 3] or [3], angstrom.
        file: that it was read from.
        what: its place in the file, such as "image 3".
        periodic: whether it says that it repeats in all directions.

    Raises:
        FormatError: kind "unreadable-trajectory": arrays of other shapes.
        InputError: kinds "unknown-element", "not-a-cell", "not-coordinates".
    """
    name = f"{file.name}, {what}"
    if (
        numbers.ndim != 1
        or positions.shape != (len(numbers), 3)
        or not len(numbers)
        or cell.shape not in ((3, 3), (3,))
    ):
        raise _unreadable(file, f"{what} has {numbers.shape} numbers, {positions.shape} positions")
    lattice = np.diag(cell) if cell.shape == (3,) else cell
    check_cell(lattice, f"{name}, the cell")
    unknown = numbers[(numbers < 1) | (numbers > len(SYMBOLS))]
    if len(unknown):
        raise InputError(
            f"{int(unknown[0])} is not the atomic number of an element.",
            kind="unknown-element",
            where=name,
            expected=f"atomic numbers from 1 to {len(SYMBOLS)}",
        )
    if not (np.abs(positions) < _LARGEST).all():  # written so that NaN is refused
        raise InputError(
            "A coordinate is not a finite number of angstrom.",
            kind="not-coordinates",
            where=name,
            expected="finite Cartesian coordinates in angstrom",
        )
    return Frame(
        lattice_angstrom=lattice,
        species=tuple(SYMBOLS[number - 1] for number in numbers),
        frac_coords=positions @ np.linalg.inv(lattice),
        name=name,
        warnings=()
        if periodic
        else (f"{file.name} declares the cell as not periodic in every direction (pbc); it is read as periodic.",),
    )


def _unreadable(file: File, detail: str) -> FormatError:
    return FormatError(
        f"{file.name} looks like a file of ASE, but {detail}.",
        kind="unreadable-trajectory",
        where=file.name,
        expected=_EXPECTED,
    )
