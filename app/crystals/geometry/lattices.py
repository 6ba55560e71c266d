"""Integer geometry of lattices: Hermite forms, cosets, short translations."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from app.crystals.band import FloatArray, IntArray
from app.crystals.geometry.reduction import reduced_lattice


def hermite_form(vectors: IntArray) -> IntArray:
    """The lower-triangular basis of the lattice that whole-number row vectors span.

    Args:
        vectors: shape [n, 3], n >= 3, of rank 3.

    Returns:
        shape [3, 3], lower triangular with a positive diagonal; equal lattices give equal forms.
    """
    rows = [[int(value) for value in row] for row in vectors]
    basis: list[list[int]] = []
    for column in (2, 1, 0):
        pivot = _eliminate(rows, column)
        rows = [row for row in rows if row is not pivot]
        basis.insert(0, pivot)
    for i in (1, 2):
        for j in range(i - 1, -1, -1):
            times = basis[i][j] // basis[j][j]
            basis[i] = [a - times * b for a, b in zip(basis[i], basis[j], strict=True)]
    return np.array(basis, dtype=np.int64)


def _eliminate(rows: list[list[int]], column: int) -> list[int]:
    """Clear a column in all rows but one by Euclid's algorithm, in place; returns that row, made positive."""
    while True:
        alive = [row for row in rows if row[column] != 0]
        pivot = min(alive, key=lambda row: abs(row[column]))
        if len(alive) == 1:
            if pivot[column] < 0:
                pivot[:] = [-value for value in pivot]
            return pivot
        for row in alive:
            if row is not pivot:
                times = row[column] // pivot[column]
                row[:] = [a - times * b for a, b in zip(row, pivot, strict=True)]


def reduce_modulo(vectors: IntArray, form: IntArray) -> IntArray:
    """Bring whole-number vectors into the box of a Hermite form: the representatives of its cosets.

    Args:
        vectors: shape [n, 3].
        form: a Hermite form, shape [3, 3].
    """
    reduced = np.array(vectors, dtype=np.int64)
    for k in (2, 1, 0):
        reduced -= (reduced[:, k] // form[k, k])[:, None] * form[k]
    return reduced


def cosets(form: IntArray) -> IntArray:
    """One whole-number vector for each coset of a Hermite form, shape [det, 3], in lexicographic order."""
    return np.stack(np.meshgrid(*(np.arange(form[k, k]) for k in range(3)), indexing="ij"), axis=-1).reshape(-1, 3)


@lru_cache(maxsize=256)
def hermite_forms(determinant: int) -> IntArray:
    """Every sublattice of an index, as lower-triangular Hermite forms, shape [n, 3, 3]."""
    forms = [
        [[a, 0, 0], [x, b, 0], [y, z, c]]
        for a in _divisors(determinant)
        for b in _divisors(determinant // a)
        for c in (determinant // a // b,)
        for x in range(a)
        for y in range(a)
        for z in range(b)
    ]
    found = np.array(forms, dtype=np.int64)
    found.setflags(write=False)
    return found


def _divisors(number: int) -> list[int]:
    return [k for k in range(1, number + 1) if number % k == 0]


def short_translations(lattice_angstrom: FloatArray, below_angstrom: float) -> tuple[IntArray, FloatArray]:
    """Every lattice translation shorter than a length, one of each pair of opposites, shortest first.

    Returns:
        whole-number vectors, shape [n, 3], and their lengths, shape [n], angstrom.
    """
    vectors, lengths = _translations_below(np.ascontiguousarray(lattice_angstrom).tobytes(), math.ceil(below_angstrom))
    count = int(np.searchsorted(lengths, below_angstrom))
    return vectors[:count], lengths[:count]


@lru_cache(maxsize=256)
def _translations_below(lattice_bytes: bytes, below_angstrom: int) -> tuple[IntArray, FloatArray]:
    basis, steps = reduced_lattice(np.frombuffer(lattice_bytes).reshape(3, 3))  # skewed vectors would need very many
    reach = np.floor(below_angstrom * np.linalg.norm(np.linalg.inv(basis), axis=0)).astype(int)
    axes = (np.arange(-r, r + 1) for r in reach)
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[len(grid) // 2 + 1 :]  # the grid is symmetric about its middle, the zero vector
    lengths = np.linalg.norm(grid @ basis, axis=1)
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] < below_angstrom]
    vectors, lengths = grid[order].astype(np.int64) @ steps, lengths[order]
    vectors.flags.writeable = lengths.flags.writeable = False
    return vectors, lengths


def shortest_translation_angstrom(lattice_angstrom: FloatArray) -> float:
    """The length of a lattice's shortest translation, angstrom, which may be shorter than all basis vectors."""
    return float(np.linalg.norm(reduced_lattice(lattice_angstrom)[0], axis=1).min())


def contains(forms: IntArray, vectors: IntArray) -> NDArray[np.bool_]:
    """Which sublattices contain which vectors.

    Args:
        forms: Hermite forms of one determinant, shape [n, 3, 3].
        vectors: whole-number vectors, shape [m, 3].

    Returns:
        shape [n, m].
    """
    v = vectors[None]
    inside = np.ones((len(forms), len(vectors)), dtype=bool)
    rest = np.broadcast_to(v, (len(forms), len(vectors), 3)).copy()
    for k in (2, 1, 0):
        diagonal = forms[:, k, k][:, None]
        inside &= rest[..., k] % diagonal == 0
        rest -= (rest[..., k] // diagonal)[..., None] * forms[:, k][:, None, :]
    return inside
