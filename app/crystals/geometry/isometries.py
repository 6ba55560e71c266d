"""Comparison of lattices: all isometries that map one onto another."""

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from app.crystals.band import FloatArray, IntArray


@cache
def _short_combinations() -> IntArray:
    """Coefficients of the short vectors of a reduced lattice, shape [124, 3].

    Vectors no longer than the third of a Minkowski-reduced basis that complete another such basis have
    coefficients -1, 0 or 1; one more allows for a basis that is reduced only up to rounding.
    """
    return np.array([c for c in product(range(-2, 3), repeat=3) if any(c)], dtype=np.int64)


def lattice_isometries(
    target_angstrom: FloatArray, lattice_angstrom: FloatArray, tolerance_angstrom: float
) -> IntArray:
    """All isometries, rotations and reflections, that map one reduced lattice onto another.

    Args:
        target_angstrom: a reduced basis, shape [3, 3], angstrom.
        lattice_angstrom: the reduced basis of the other lattice, shape [3, 3], angstrom.
        tolerance_angstrom: largest deviation of each of the three vectors from its target, angstrom.

    Returns:
        Integer matrices M of determinant 1 or -1, shape [n, 3, 3]: the rows of M @ lattice, rotated, are the
        target's. n is the order of the point group (2 to 48) if the lattices are the same, and 0 otherwise.
    """
    combinations = _short_combinations()
    vectors = combinations @ lattice_angstrom
    lengths, wanted = np.linalg.norm(vectors, axis=1), np.linalg.norm(target_angstrom, axis=1)
    candidates = [np.flatnonzero(np.abs(lengths - length) <= tolerance_angstrom) for length in wanted]

    def angles_agree(i: int, j: int) -> NDArray[np.bool_]:
        products = vectors[candidates[i]] @ vectors[candidates[j]].T
        off = np.abs(products - target_angstrom[i] @ target_angstrom[j])
        return np.asarray(off <= tolerance_angstrom * (wanted[i] + wanted[j] + tolerance_angstrom))

    agree = angles_agree(0, 1)[:, :, None] & angles_agree(0, 2)[:, None, :] & angles_agree(1, 2)[None, :, :]
    rows = np.stack([candidates[axis][chosen] for axis, chosen in enumerate(np.nonzero(agree))], axis=1)
    matrices = combinations[rows]
    matrices = matrices[np.abs(np.rint(np.linalg.det(matrices))) == 1]
    close = _within(target_angstrom, matrices @ lattice_angstrom, tolerance_angstrom)
    return np.asarray(matrices[close])


def _within(target: FloatArray, bases: FloatArray, tolerance_angstrom: float) -> NDArray[np.bool_]:
    """Which bases coincide with the target after their best rotation (Kabsch 1976)."""
    left, _, right = np.linalg.svd(np.swapaxes(bases, 1, 2) @ target)
    distances = np.linalg.norm(bases @ (left @ right) - target, axis=2)
    return np.asarray(distances.max(axis=1, initial=0.0) <= tolerance_angstrom)
