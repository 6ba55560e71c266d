"""Matching of the atoms of two images: same element, nearly the same position."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from app.crystals.band import FloatArray
from app.crystals.geometry.periodic import near_pairs, shortest_vectors
from app.crystals.geometry.reduction import reduced_lattice

#: If two images list atoms in the same order, every atom but the ion moves less than this in a step.
SAME_ORDER_ANGSTROM = 1.0
#: Atoms of one element that are mutual nearest neighbours within this distance are the same atom.
COINCIDENT_ANGSTROM = 0.5


def match_atoms(
    species: tuple[str, ...],
    frac_coords: FloatArray,
    other_species: tuple[str, ...],
    other_frac_coords: FloatArray,
    lattice_angstrom: FloatArray,
) -> NDArray[np.intp]:
    """Find for each atom of one image the same atom of another.

    The order of the lists is kept where all atoms but one stay within 1 angstrom. Otherwise atoms are matched by
    position, element by element: coincident ones first, the rest with the least sum of squared distances.

    Args:
        species: element symbols, length n.
        frac_coords: shape [n, 3].
        other_species: the same elements as often, in any order, length n.
        other_frac_coords: shape [n, 3].
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.

    Returns:
        indices into the other image, shape [n].
    """
    if species == other_species:
        moved = shortest_vectors(other_frac_coords - frac_coords, lattice_angstrom).lengths_angstrom
        if np.count_nonzero(moved > SAME_ORDER_ANGSTROM) <= 1:
            return np.arange(len(species))
    order = np.empty(len(species), dtype=np.intp)
    kinds, other_kinds = np.array(species), np.array(other_species)
    for kind in sorted(set(species)):
        mine, others = np.flatnonzero(kinds == kind), np.flatnonzero(other_kinds == kind)
        found = _match_one_kind(frac_coords[mine], other_frac_coords[others], lattice_angstrom)
        order[mine] = others[found]
    return order


def _match_one_kind(frac: FloatArray, other: FloatArray, lattice_angstrom: FloatArray) -> NDArray[np.intp]:
    found = _coincident(frac, other, lattice_angstrom)
    left = np.flatnonzero(found < 0)
    if len(left):
        free = np.setdiff1d(np.arange(len(other)), found)
        # rounding in a reduced basis is enough to rank candidates; the hop itself is joined exactly later
        basis, steps = reduced_lattice(lattice_angstrom)
        vectors = (other[free][None, :, :] - frac[left][:, None, :]) @ np.linalg.inv(steps)
        vectors -= np.rint(vectors)
        cost = np.square(vectors @ basis).sum(axis=2)
        rows, columns = linear_sum_assignment(cost)
        found[left[rows]] = free[columns]
    return found


def _coincident(frac: FloatArray, other: FloatArray, lattice_angstrom: FloatArray) -> NDArray[np.intp]:
    """The index of the other atom at the same position, -1 where there is none, shape [n]."""
    pairs, lengths = near_pairs(frac, other, lattice_angstrom, COINCIDENT_ANGSTROM)
    found = np.full(len(frac), -1, dtype=np.intp)
    taken = np.zeros(len(other), dtype=bool)
    for k in np.argsort(lengths, kind="stable"):
        i, j = pairs[k]
        if found[i] < 0 and not taken[j]:
            found[i] = j
            taken[j] = True
    return found
