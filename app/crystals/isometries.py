"""Lattices compared: a reduced basis, and every way in which one lattice falls onto another."""

from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from app.crystals.band import FloatArray

IntArray = NDArray[np.int64]

#: A step of the reduction shortens a squared length by more than this share, so that rounding never loops.
_LEAST_GAIN = 1e-9


def reduced_lattice(lattice_angstrom: FloatArray) -> tuple[FloatArray, IntArray]:
    """A Minkowski-reduced basis of a lattice: its vectors are as short as vectors of a basis can be.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.

    Returns:
        The reduced basis, shortest vector first, and the integer matrix M with reduced = M @ lattice; both
        of shape [3, 3].
    """
    lattice = np.asarray(lattice_angstrom, dtype=np.float64)
    # Python numbers: the matrices are so small that a NumPy call costs more than the arithmetic in it.
    basis: list[list[float]] = lattice.tolist()
    steps = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    while _shorten_once(basis, steps):
        pass
    order = sorted(range(3), key=lambda row: _dot(basis[row], basis[row]))
    matrix = np.array([steps[row] for row in order], dtype=np.int64)
    return matrix @ lattice, matrix  # from the integers: no rounding of the steps is left


def _dot(left: list[float], right: list[float]) -> float:
    return left[0] * right[0] + left[1] * right[1] + left[2] * right[2]


def _shorten_once(basis: list[list[float]], steps: list[list[int]]) -> bool:
    """Shorten one vector by the others, in place; False where Minkowski's conditions hold already."""
    for one, two in product(range(3), repeat=2):
        if one != two:
            times = round(_dot(basis[one], basis[two]) / _dot(basis[two], basis[two]))
            if times and _add(basis, steps, one, {two: -times}):
                return True
    longest = max(range(3), key=lambda row: _dot(basis[row], basis[row]))
    two, three = (row for row in range(3) if row != longest)
    return any(_add(basis, steps, longest, {two: x, three: y}) for x, y in product((-1, 1), repeat=2))


def _add(basis: list[list[float]], steps: list[list[int]], row: int, others: dict[int, int]) -> bool:
    """Add multiples of other vectors to one where that makes it shorter."""
    vector, step = list(basis[row]), list(steps[row])
    for other, times in others.items():
        vector = [a + times * b for a, b in zip(vector, basis[other], strict=True)]
        step = [a + times * b for a, b in zip(step, steps[other], strict=True)]
    if _dot(vector, vector) >= _dot(basis[row], basis[row]) * (1.0 - _LEAST_GAIN):
        return False
    basis[row], steps[row] = vector, step
    return True


@cache
def _short_combinations() -> IntArray:
    """Coefficients of the short vectors of a reduced lattice, shape [124, 3].

    Vectors no longer than the third of a Minkowski-reduced basis that complete another such basis have
    coefficients -1, 0 or 1; one more leaves room for a basis that is reduced but for rounding.
    """
    return np.array([c for c in product(range(-2, 3), repeat=3) if any(c)], dtype=np.int64)


def lattice_isometries(
    target_angstrom: FloatArray, lattice_angstrom: FloatArray, tolerance_angstrom: float
) -> IntArray:
    """Every way in which one reduced lattice falls onto another after a rotation or reflection.

    Args:
        target_angstrom: a reduced basis, shape [3, 3], angstrom.
        lattice_angstrom: the reduced basis of the other lattice, shape [3, 3], angstrom.
        tolerance_angstrom: how far each of the three vectors may end from its target, angstrom.

    Returns:
        Integer matrices M of determinant 1 or -1, shape [n, 3, 3]: the rows of M @ lattice, rotated, are the
        target's. n is the order of the point group (2 to 48) where the lattices are the same, and else 0.
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
    """Which bases, each rotated as well as it can be (Kabsch 1976), lie on the target."""
    left, _, right = np.linalg.svd(np.swapaxes(bases, 1, 2) @ target)
    distances = np.linalg.norm(bases @ (left @ right) - target, axis=2)
    return np.asarray(distances.max(axis=1, initial=0.0) <= tolerance_angstrom)
