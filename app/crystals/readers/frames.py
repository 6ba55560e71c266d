"""From a sequence of whole images to a band: atoms are matched, and the ion is identified and followed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from app.crystals.band import Band, FloatArray
from app.crystals.elements import plain_symbol
from app.crystals.geometry.matching import match_atoms
from app.crystals.geometry.periodic import ShortestVectors, shortest_vectors
from app.crystals.limits import Limits
from app.crystals.readers.drift import coarse_drift, drift_warnings, fine_drift, noticeable
from app.crystals.readers.joining import ambiguity_warnings, step_warnings
from app.crystals.readers.reading import Reading
from app.crystals.validation import (
    LEAST_HOP_ANGSTROM,
    check_cell,
    check_coordinates,
    check_density,
    one_image,
    validate_band,
)
from app.errors import InputError

#: Hosts that agree within the rounding of file formats are the same.
SAME_HOST_ANGSTROM = 2e-3
#: Cells that differ by more are refused as different; below the second there is no warning.
DIFFERENT_CELL_ANGSTROM = 0.05
ROUNDED_CELL_ANGSTROM = 1e-3
#: If more than half of the host moves farther than this, the images are refused as unrelated.
UNRELATED_ANGSTROM = 1.0
#: Frames are of a hop where an atom goes farther than the first, and half of the others stay within the second.
#: Atoms that vibrate, or that a relaxation moves, seldom go so far; what relaxes around a hop is its near atoms.
LEAST_HOP_IN_FRAMES_ANGSTROM = 1.0
STILL_HOST_ANGSTROM = 0.2
#: An atom that moves less than so many times as far as half of the others does not hop; asked of as many atoms.
DISTINCT_HOP = 4.0
LEAST_HOST_ATOMS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """A whole image, before the ion is identified.

    Attributes:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        species: element symbols, length n.
        frac_coords: shape [n, 3].
        name: of the file, or of the frame in it, for messages.
        warnings: of the reader.
        energy_ev: the total energy that the file gives for it, None where it gives none.
    """

    lattice_angstrom: FloatArray
    species: tuple[str, ...]
    frac_coords: FloatArray
    name: str
    warnings: tuple[str, ...] = ()
    energy_ev: float | None = None


@dataclass(frozen=True, kw_only=True)
class FrameSample:
    """Frames of a file, in their order, the first and the last among them, and how many the file has."""

    frames: tuple[Frame, ...]
    count: int


def spread_evenly(count: int, most: int) -> list[int]:
    """Indices of so many frames at most, evenly spread from the first to the last."""
    return sorted({int(index) for index in np.linspace(0, count - 1, min(count, most)).round()})


def is_trajectory(frames: Sequence[Frame]) -> bool:
    """Whether frames are of a relaxation or of molecular dynamics: one crystal throughout, and no hop.

    Displacements are from the first frame, without what all atoms move together, and fractional: a cell may change.
    Neither the images of a hop nor crystals that have nothing in common are a trajectory.

    Args:
        frames: of one file, each with a valid cell.
    """
    first = frames[0]
    if len(frames) < 2 or any(Counter(frame.species) != Counter(first.species) for frame in frames):  # noqa: PLR2004
        return False
    positions, _ = _unwrapped(*_in_first_order(frames))
    moved = np.linalg.norm((positions - positions[0]) @ first.lattice_angstrom, axis=2)
    frame, atom = np.unravel_index(moved.argmax(), moved.shape)
    if moved[frame, atom] <= LEAST_HOP_IN_FRAMES_ANGSTROM:
        return True
    host = np.delete(moved[frame], atom)
    return host.size > 0 and STILL_HOST_ANGSTROM < float(np.median(host)) <= UNRELATED_ANGSTROM


def band_of_frames(
    frames: Sequence[Frame], limits: Limits, *, ion: str | None = None, offset: tuple[int, int, int] | None = None
) -> Reading:
    """Identify the migrating ion by its displacement and follow it through the images.

    What all atoms of the host move together is taken off first, with a warning.
    Three images or more are unwrapped step by step, each step the shortest way. Two are joined through the shortest
    periodic vector, or through the offset: whole cells added to the ion's position in the last image, both positions
    wrapped into 0 <= x < 1.

    Args:
        frames: the images in their order; the atoms of each may be listed in any order.
        limits: how large they may be.
        ion: the element that hops; None takes the atom that moves most.
        offset: for two images only.

    Raises:
        InputError: kinds "one-image", "different-atoms", "different-cells", "unrelated-images", "nothing-moves",
            "ion-not-in-crystal", "unknown-element", and those of `validate_band`.
        TooLargeError: atoms or images.
    """
    _check_frames(frames, limits)
    if ion is not None:
        ion = _ion_of(ion, frames[0])
    lattice = frames[0].lattice_angstrom
    frames, drifts = _in_first_order(frames)
    positions, last_step = _unwrapped(frames, drifts)
    migrating = _migrating_atom(frames[0], positions, ion, offset)
    warnings = list(dict.fromkeys(text for frame in frames for text in frame.warnings))
    warnings.extend(_cell_warnings(frames))
    warnings.extend(drift_warnings(drifts, lattice))
    if len(frames) == 2:  # noqa: PLR2004 - only two alone leave open how they are joined
        if offset is None:
            warnings.extend(ambiguity_warnings(frames[0].species[migrating], _only(last_step, migrating)))
        else:
            ends = np.stack([_wrapped(frame.frac_coords[migrating]) for frame in frames])
            positions[:, migrating] = ends + np.array([(0, 0, 0), offset]) - drifts
    else:
        images = np.stack([frame.frac_coords[migrating] for frame in frames]) - drifts
        steps = shortest_vectors(np.diff(images, axis=0), lattice)
        warnings.extend(step_warnings(frames[0].species[migrating], images, steps, lattice))
    band = _band(frames[0], positions, migrating)
    _check_related(frames, positions, migrating)
    energies = tuple(frame.energy_ev for frame in frames)
    known = any(energy is not None for energy in energies)
    return Reading(band=band, warnings=(*warnings, *validate_band(band)), energies_ev=energies if known else ())


def _check_frames(frames: Sequence[Frame], limits: Limits) -> None:
    if len(frames) < 2:  # noqa: PLR2004 - a hop has two ends
        raise one_image(frames[0].name if frames else "the band", len(frames))
    limits.check_images(len(frames), "the band")
    first = frames[0]
    for frame in frames:
        limits.check_atoms(len(frame.species), frame.name)
        check_cell(frame.lattice_angstrom, f"{frame.name}, the cell")
        check_density(frame.lattice_angstrom, f"{frame.name}, the cell", atoms=len(frame.species))
        check_coordinates(frame.frac_coords, f"{frame.name}, atoms")
        _check_same_atoms(first, frame)
        difference = _cell_difference_angstrom(first.lattice_angstrom, frame.lattice_angstrom)
        if difference > DIFFERENT_CELL_ANGSTROM:
            raise InputError(
                f"The cells of {first.name} and {frame.name} differ by {difference:.3f} angstrom; the images of a band "
                "share one cell.",
                kind="different-cells",
                where=frame.name,
                expected=f"the same cell in every image, to within {DIFFERENT_CELL_ANGSTROM} angstrom",
            )


def _check_same_atoms(first: Frame, frame: Frame) -> None:
    if first.species == frame.species:
        return
    here, there = Counter(first.species), Counter(frame.species)
    if here == there:
        return
    more, fewer = there - here, here - there
    parts = [f"{count} {symbol} more" for symbol, count in sorted(more.items())]
    parts += [f"{count} {symbol} fewer" for symbol, count in sorted(fewer.items())]
    raise InputError(
        f"{frame.name} has {', '.join(parts)} than {first.name}; every image of a band has the same atoms.",
        kind="different-atoms",
        where=frame.name,
        expected="the atoms of the first image: " + " ".join(f"{s}{n}" for s, n in sorted(here.items())),
    )


def _ion_of(text: str, frame: Frame) -> str:
    ion = plain_symbol(text, "ion")
    if ion not in frame.species:
        raise InputError(
            f"There is no {ion} in {frame.name}; it has {', '.join(sorted(set(frame.species)))}.",
            kind="ion-not-in-crystal",
            where="ion",
            expected="an element of the crystal; without one, the atom that moves most is taken as the ion",
        )
    return ion


def _cell_difference_angstrom(lattice: FloatArray, other: FloatArray) -> float:
    """The largest difference in length of the cells' edges and face diagonals, independent of orientation."""
    pairs = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]])
    lengths = [np.linalg.norm(pairs @ vectors, axis=1) for vectors in (lattice, other)]
    return float(np.abs(lengths[1] - lengths[0]).max())


def _cell_warnings(frames: Sequence[Frame]) -> list[str]:
    first = frames[0].lattice_angstrom
    largest = max(_cell_difference_angstrom(first, frame.lattice_angstrom) for frame in frames)
    if largest <= ROUNDED_CELL_ANGSTROM:
        return []
    return [f"The images' cells differ by up to {largest:.4f} angstrom; the first image's was taken."]


def _in_first_order(frames: Sequence[Frame]) -> tuple[list[Frame], FloatArray]:
    """The images with their atoms in the order of the first, and the drift of each, fractional, shape [n_images, 3]."""
    first = frames[0]
    lattice = first.lattice_angstrom
    ordered, drifts = [first], [np.zeros(3)]
    for frame in frames[1:]:
        before = ordered[-1].frac_coords - drifts[-1]
        drift = coarse_drift(first.species, before, frame.species, frame.frac_coords, lattice)
        order = match_atoms(first.species, before, frame.species, frame.frac_coords - drift, lattice)
        own = frame.frac_coords[order]
        ordered.append(replace(frame, species=first.species, frac_coords=own))
        drifts.append(drift + fine_drift(first.frac_coords, own - drift, lattice))
    return ordered, noticeable(np.array(drifts), lattice)


def _unwrapped(frames: Sequence[Frame], drifts: FloatArray) -> tuple[FloatArray, ShortestVectors]:
    """Unwrapped positions of all atoms without drift, [n_images, n_atoms, 3], and the last step's shortest vectors."""
    lattice = frames[0].lattice_angstrom
    positions = np.stack([frame.frac_coords for frame in frames]) - drifts[:, None, :]
    for k in range(1, len(frames)):
        step = shortest_vectors(positions[k] - positions[k - 1], lattice)
        positions[k] += step.offsets
    return positions, step


def _only(found: ShortestVectors, atom: int) -> ShortestVectors:
    one = slice(atom, atom + 1)
    return ShortestVectors(
        offsets=found.offsets[one],
        lengths_angstrom=found.lengths_angstrom[one],
        runner_up_angstrom=found.runner_up_angstrom[one],
    )


def _migrating_atom(frame: Frame, positions: FloatArray, ion: str | None, offset: tuple[int, int, int] | None) -> int:
    """The atom that moves most, of the ion's element if that is given."""
    displaced = np.linalg.norm((positions - positions[0]) @ frame.lattice_angstrom, axis=2)
    moved = displaced[-1]
    candidates: NDArray[np.intp] = np.arange(len(moved))
    if ion is not None:
        candidates = np.array([k for k, symbol in enumerate(frame.species) if symbol == ion])
    migrating = int(candidates[moved[candidates].argmax()])
    to_a_copy = offset is not None and any(offset) and ion is not None and len(candidates) == 1
    if moved[migrating] < LEAST_HOP_ANGSTROM and not to_a_copy:
        what = f"no {ion}" if ion is not None else "no atom"
        most = f"{what} moves by more than {moved[migrating]:.2f} angstrom between first and last image"
        raise InputError(
            f"Nothing hops: {'all images are the same' if displaced.max() <= SAME_HOST_ANGSTROM else most}.",
            kind="nothing-moves",
            where=frame.name,
            expected="images in which one ion goes from one site to another",
        )
    rest = np.delete(moved, migrating)
    typical = float(np.median(rest)) if len(rest) >= LEAST_HOST_ATOMS else 0.0
    if moved[migrating] <= LEAST_HOP_IN_FRAMES_ANGSTROM and moved[migrating] < DISTINCT_HOP * typical:
        raise InputError(
            f"Nothing hops: {frame.species[migrating]} moves by {moved[migrating]:.2f} angstrom between first and last "
            f"image, and half of the other atoms by {typical:.2f} or more, as in a relaxation or molecular dynamics.",
            kind="nothing-moves",
            where=frame.name,
            expected="images in which one ion goes from one site to another; one crystal of a trajectory with `ion`",
        )
    return migrating


def _wrapped(frac: FloatArray) -> FloatArray:
    """Wrap into the cell, taking positions just below a face, by rounding, as on it."""
    wrapped = frac - np.floor(frac)
    return np.where(wrapped > 1.0 - SAME_HOST_ANGSTROM / 10, wrapped - 1.0, wrapped)


def _band(first: Frame, positions: FloatArray, migrating: int) -> Band:
    hosts = np.delete(positions, migrating, axis=1)
    strayed = np.linalg.norm((hosts - hosts[0]) @ first.lattice_angstrom, axis=2)
    return Band(
        lattice_angstrom=first.lattice_angstrom,
        host_species=first.species[:migrating] + first.species[migrating + 1 :],
        host_frac_coords=hosts[0],
        ion=first.species[migrating],
        image_frac_coords=positions[:, migrating],
        relaxed_host_frac_coords=hosts if strayed.size and strayed.max() > SAME_HOST_ANGSTROM else None,
    )


def _check_related(frames: Sequence[Frame], positions: FloatArray, migrating: int) -> None:
    hosts = np.delete(positions, migrating, axis=1)
    moved = np.linalg.norm((hosts[-1] - hosts[0]) @ frames[0].lattice_angstrom, axis=1)
    strayed = int(np.count_nonzero(moved > UNRELATED_ANGSTROM))
    if strayed * 2 > len(moved):
        raise InputError(
            f"{strayed} of {len(moved)} host atoms are more than {UNRELATED_ANGSTROM:g} angstrom apart in "
            f"{frames[0].name} and {frames[-1].name}: these are not two images of one crystal.",
            kind="unrelated-images",
            where=frames[-1].name,
            expected="the same crystal in the same cell with the same origin; only the ion goes to another site",
        )
