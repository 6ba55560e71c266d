"""The drift of an image: a displacement that all atoms of the host share, which is no part of a hop."""

import numpy as np

from app.crystals.band import FloatArray
from app.crystals.geometry.matching import COINCIDENT_ANGSTROM, SAME_ORDER_ANGSTROM
from app.crystals.geometry.periodic import near_pairs, shortest_vectors

#: A host whose centre moves by less has relaxed; by more, its origin has moved.
LEAST_DRIFT_ANGSTROM = 0.05
#: Atoms that leave the common displacement by more do not count for it: the ion, and what it pushes away.
_OUTLIER_ANGSTROM = 0.5
#: A larger shift is no drift but another origin: by one, a host may even coincide with its own periodic copies.
_LARGEST_ANGSTROM = 1.5
#: Of fewer atoms nothing says whether they drift or relax.
_LEAST_ATOMS = 8


def shared_displacement(vectors_angstrom: FloatArray) -> FloatArray:
    """The mean displacement of the atoms that move alike, shape [3], angstrom.

    Args:
        vectors_angstrom: Cartesian displacement of each atom, shape [n, 3].
    """
    if len(vectors_angstrom) < _LEAST_ATOMS:
        return np.zeros(3)
    middle = np.median(vectors_angstrom, axis=0)
    alike = np.linalg.norm(vectors_angstrom - middle, axis=1) <= _OUTLIER_ANGSTROM
    shared = np.asarray(vectors_angstrom[alike].mean(axis=0)) if 2 * alike.sum() > len(alike) else np.zeros(3)
    return shared if np.linalg.norm(shared) <= _LARGEST_ANGSTROM else np.zeros(3)


def fine_drift(frac: FloatArray, other_frac: FloatArray, lattice_angstrom: FloatArray) -> FloatArray:
    """The drift of an image whose atoms are in the order of another's, fractional, shape [3].

    Args:
        frac: of the first image, shape [n, 3].
        other_frac: of the image that may have drifted, shape [n, 3].
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
    """
    shared = shared_displacement(_displacements(frac, other_frac, lattice_angstrom))
    return np.asarray(shared @ np.linalg.inv(lattice_angstrom))


def noticeable(drifts: FloatArray, lattice_angstrom: FloatArray) -> FloatArray:
    """The drifts of a band's images, fractional, shape [n_images, 3]; all zero where each is as small as relaxation."""
    lengths = np.linalg.norm(drifts @ lattice_angstrom, axis=1)
    return drifts if lengths.max() > LEAST_DRIFT_ANGSTROM else np.zeros_like(drifts)


def coarse_drift(
    species: tuple[str, ...],
    frac: FloatArray,
    other_species: tuple[str, ...],
    other_frac: FloatArray,
    lattice_angstrom: FloatArray,
) -> FloatArray:
    """A shift after which most atoms coincide with those of another image, fractional, shape [3].

    It is zero where most atoms coincide as they are, or where no shift brings them together.

    Args:
        species: element symbols, length n.
        frac: shape [n, 3].
        other_species: the same elements as often, in any order, length n.
        other_frac: shape [n, 3].
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
    """
    none = np.zeros(3)
    if len(species) < _LEAST_ATOMS:
        return none
    to_frac = np.linalg.inv(lattice_angstrom)
    if species == other_species:
        vectors = _displacements(frac, other_frac, lattice_angstrom)
        if np.count_nonzero(np.linalg.norm(vectors, axis=1) > SAME_ORDER_ANGSTROM) <= 1:
            return none
        if (shared := shared_displacement(vectors)).any():
            return np.asarray(shared @ to_frac)
    kinds, other_kinds = np.array(species), np.array(other_species)

    def coincident(shift: FloatArray) -> int:
        pairs, _ = near_pairs(frac, other_frac - shift, lattice_angstrom, COINCIDENT_ANGSTROM)
        return len(np.unique(pairs[kinds[pairs[:, 0]] == other_kinds[pairs[:, 1]], 0]))

    if 2 * coincident(none) >= len(species):
        return none
    rarest = min(set(species), key=lambda symbol: (species.count(symbol), symbol))
    starts, ends = frac[kinds == rarest][:2], other_frac[other_kinds == rarest]
    between = (ends[None] - starts[:, None]).reshape(-1, 3)
    found = shortest_vectors(between, lattice_angstrom)
    shifts = (between + found.offsets)[found.lengths_angstrom <= _LARGEST_ANGSTROM]
    best = max(shifts, key=coincident, default=none)
    return best if 2 * coincident(best) >= len(species) else none


def drift_warnings(drifts: FloatArray, lattice_angstrom: FloatArray) -> tuple[str, ...]:
    """Report what was taken off.

    Args:
        drifts: of each image, fractional, shape [n_images, 3].
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
    """
    lengths = np.linalg.norm(drifts @ lattice_angstrom, axis=1)
    image = int(lengths.argmax())
    if lengths[image] <= LEAST_DRIFT_ANGSTROM:
        return ()
    warning = (
        f"The host drifts: in image {image} its atoms are displaced together by {lengths[image]:.2f} angstrom. "
        "This common displacement was taken off every image, as it is no part of the hop."
    )
    return (warning,)


def _displacements(frac: FloatArray, other_frac: FloatArray, lattice_angstrom: FloatArray) -> FloatArray:
    vectors = other_frac - frac
    return np.asarray((vectors + shortest_vectors(vectors, lattice_angstrom).offsets) @ lattice_angstrom)
