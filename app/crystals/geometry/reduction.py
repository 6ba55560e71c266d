"""A lattice's shortest basis."""

from functools import lru_cache
from itertools import product

import numpy as np

from app.crystals.band import FloatArray, IntArray

#: Reading, checking and preparing one band need it a dozen times.
_KEPT = 256
#: A step of the reduction shortens a squared length by more than this share, so that rounding never loops.
_LEAST_GAIN = 1e-9


def reduced_lattice(lattice_angstrom: FloatArray) -> tuple[FloatArray, IntArray]:
    """A Minkowski-reduced basis of a lattice: its vectors are as short as possible.

    Args:
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.

    Returns:
        The reduced basis, shortest vector first, and the integer matrix M with reduced = M @ lattice; both
        of shape [3, 3] and read-only.
    """
    return _reduced(np.ascontiguousarray(lattice_angstrom, dtype=np.float64).tobytes())


def to_reduced(lattice_angstrom: FloatArray) -> FloatArray:
    """From fractional coordinates in a lattice to those in its reduced basis: x @ to_reduced, shape [3, 3]."""
    return _to_reduced(np.ascontiguousarray(lattice_angstrom, dtype=np.float64).tobytes())


@lru_cache(maxsize=_KEPT)
def _to_reduced(lattice_bytes: bytes) -> FloatArray:
    inverse = np.rint(np.linalg.inv(_reduced(lattice_bytes)[1]))  # of whole numbers, and its determinant is 1 or -1
    inverse.flags.writeable = False
    return inverse


@lru_cache(maxsize=_KEPT)
def _reduced(lattice_bytes: bytes) -> tuple[FloatArray, IntArray]:
    lattice = np.frombuffer(lattice_bytes).reshape(3, 3)
    # Python numbers: the matrices are so small that a NumPy call costs more than the arithmetic in it.
    basis: list[list[float]] = lattice.tolist()
    steps = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    while _shorten_once(basis, steps):
        pass
    order = sorted(range(3), key=lambda row: _dot(basis[row], basis[row]))
    matrix = np.array([steps[row] for row in order], dtype=np.int64)
    reduced = matrix @ lattice  # from the integers: rounding does not accumulate over steps
    reduced.flags.writeable = matrix.flags.writeable = False
    return reduced, matrix


def _dot(left: list[float], right: list[float]) -> float:
    return left[0] * right[0] + left[1] * right[1] + left[2] * right[2]


def _shorten_once(basis: list[list[float]], steps: list[list[int]]) -> bool:
    """Shorten one vector by the others, in place; False where Minkowski's conditions hold."""
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
