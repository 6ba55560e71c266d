"""Shortest vectors between atoms of a periodic crystal."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from app.crystals.band import FloatArray, IntArray
from app.crystals.geometry.reduction import reduced_lattice, to_reduced

#: Periodic vectors whose lengths differ by less are equal to rounding: the one as written is kept.
TIE_ANGSTROM = 1e-3
#: Cells whose heights are kept: reading and searching one crystal need those of a few cells a hundred times.
_KEPT = 256
#: Cells along each axis of the grids on which positions are ordered: rounding in a file rarely moves one over a line of
#: the first, whose lines lie beside the positions that symmetry makes common; the second tells close ones apart.
_GRIDS = (100, 1000)
_GRID_OFFSET = math.sqrt(2.0) - 1.0
_NEIGHBOUR_CELLS = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(27, 3)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShortestVectors:
    """The shortest periodic forms of n vectors.

    Attributes:
        offsets: integers to add to each fractional vector, shape [n, 3].
        lengths_angstrom: their lengths, shape [n].
        runner_up_angstrom: the lengths of the second shortest forms, shape [n].
    """

    offsets: NDArray[np.int64]
    lengths_angstrom: FloatArray
    runner_up_angstrom: FloatArray


def shortest_vectors(frac_vectors: FloatArray, lattice_angstrom: FloatArray) -> ShortestVectors:
    """Find the shortest periodic form of each vector, exactly, also in a skewed cell.

    In a reduced basis the shortest form of a wrapped vector lies in one of the 27 cells around it. Where the
    vector as written is as short as any, to within rounding, its offset is zero.

    Args:
        frac_vectors: fractional, shape [n, 3].
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
    """
    basis, steps = reduced_lattice(lattice_angstrom)
    in_reduced = frac_vectors @ to_reduced(lattice_angstrom)
    cells = _NEIGHBOUR_CELLS - np.rint(in_reduced)[:, None, :]
    lengths = np.linalg.norm((in_reduced[:, None, :] + cells) @ basis, axis=2)
    rows = np.arange(len(frac_vectors))
    best = lengths.argmin(axis=1)
    shortest = lengths[rows, best]
    offsets = np.rint(cells[rows, best] @ steps).astype(np.int64)
    as_written = np.linalg.norm(frac_vectors @ lattice_angstrom, axis=1)
    offsets[as_written < shortest + TIE_ANGSTROM] = 0
    lengths[rows, best] = np.inf
    return ShortestVectors(offsets=offsets, lengths_angstrom=shortest, runner_up_angstrom=lengths.min(axis=1))


def shortest_lengths(frac_vectors: FloatArray, lattice_angstrom: FloatArray) -> FloatArray:
    """The lengths of the shortest periodic forms of vectors, to 1e-6 angstrom: less work than `shortest_vectors`.

    Args:
        frac_vectors: fractional, shape [n, 3].
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
    """
    basis, _ = reduced_lattice(lattice_angstrom)
    in_reduced = frac_vectors @ to_reduced(lattice_angstrom)
    home, cells = (in_reduced - np.rint(in_reduced)) @ basis, _NEIGHBOUR_CELLS @ basis
    # |home + cell|^2 = |home|^2 + 2 home.cell + |cell|^2
    squared = (2.0 * home @ cells.T + np.einsum("ci,ci->c", cells, cells)).min(axis=1)
    return np.asarray(np.sqrt(np.maximum(squared + np.einsum("ni,ni->n", home, home), 0.0)))


def position_order(frac_coords: FloatArray, kinds: IntArray | None = None) -> IntArray:
    """The places of positions in an order that depends on where they are, not on the order in which they are listed.

    Args:
        frac_coords: fractional, shape [n, 3].
        kinds: positions of a lower kind come first, shape [n]; None where all are of one.

    Returns:
        indices, shape [n].
    """
    keys = [*position_keys(frac_coords).T[::-1]]
    if kinds is not None:
        keys.append(kinds)  # the last key counts first
    return np.asarray(np.lexsort(keys))


def position_keys(frac_coords: FloatArray) -> IntArray:
    """Whole numbers by which positions are ordered, equal for periodic copies, shape [n, 6]."""
    cells = [np.floor(frac_coords * count + _GRID_OFFSET).astype(np.int64) % count for count in _GRIDS]
    return np.hstack(cells)


def cell_heights_angstrom(lattice_angstrom: FloatArray) -> FloatArray:
    """The distances between opposite faces of the cell, shape [3], angstrom."""
    return _heights(np.ascontiguousarray(lattice_angstrom).tobytes())


@lru_cache(maxsize=_KEPT)
def _heights(lattice_bytes: bytes) -> FloatArray:
    heights = 1.0 / np.linalg.norm(np.linalg.inv(np.frombuffer(lattice_bytes).reshape(3, 3)), axis=0)
    heights.flags.writeable = False
    return np.asarray(heights)


def near_pairs(
    frac: FloatArray, other: FloatArray | None, lattice_angstrom: FloatArray, within_angstrom: float
) -> tuple[IntArray, FloatArray]:
    """Find pairs of atoms that are near each other, exactly, also in a skewed cell.

    Args:
        frac: fractional coordinates, shape [n, 3].
        other: of other atoms, shape [m, 3]; None for pairs among the first, each once.
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        within_angstrom: largest distance, by the shortest periodic vector.

    Returns:
        indices of both atoms, shape [n_pairs, 2], and their distances, shape [n_pairs], angstrom.
    """
    basis, _ = reduced_lattice(lattice_angstrom)
    change = to_reduced(lattice_angstrom)
    here = frac @ change
    there = here if other is None else other @ change
    heights = cell_heights_angstrom(basis)
    # distances along the cell's heights are never longer than in space: no near pair is missed
    tree = cKDTree(_boxed(here, heights), boxsize=heights)
    if other is None:
        pairs = tree.query_pairs(within_angstrom, p=np.inf, output_type="ndarray").astype(np.int64)
    else:
        found = tree.sparse_distance_matrix(
            cKDTree(_boxed(there, heights), boxsize=heights), within_angstrom, p=np.inf, output_type="ndarray"
        )
        pairs = np.column_stack([found["i"], found["j"]]).astype(np.int64)
    if not len(pairs):
        return pairs.reshape(0, 2), np.empty(0)
    lengths = shortest_vectors(there[pairs[:, 1]] - here[pairs[:, 0]], basis).lengths_angstrom
    near = lengths < within_angstrom
    return pairs[near], lengths[near]


def pairs_of_copies(
    frac: FloatArray, lattice_angstrom: FloatArray, within_angstrom: float
) -> tuple[IntArray, IntArray, FloatArray]:
    """Find every atom's neighbours, each periodic copy separately, its own copies included.

    Args:
        frac: fractional coordinates, shape [n, 3].
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        within_angstrom: largest distance.

    Returns:
        the atom, its neighbour and their distance, angstrom; each of shape [n_pairs], every pair in both orders.
    """
    _, positions, atom, is_home = copies_near_cell(frac, lattice_angstrom, within_angstrom)
    home = np.flatnonzero(is_home)
    near = cKDTree(positions[home]).sparse_distance_matrix(cKDTree(positions), within_angstrom, output_type="ndarray")
    one, other = near["i"].astype(np.int64), near["j"].astype(np.int64)
    others = other != home[one]
    return one[others], atom[other[others]], near["v"][others]


def copies_near_cell(
    frac: FloatArray, lattice_angstrom: FloatArray, within_angstrom: float
) -> tuple[FloatArray, FloatArray, IntArray, NDArray[np.bool_]]:
    """All periodic copies of atoms within a distance of the reduced cell, which needs the fewest.

    Args:
        frac: fractional coordinates, shape [n, 3].
        lattice_angstrom: rows are the lattice vectors, shape [3, 3], angstrom.
        within_angstrom: along the cell's heights.

    Returns:
        the reduced cell, shape [3, 3], angstrom; the copies' positions, shape [n_copies, 3], angstrom; the atom that
        each is a copy of; and which are the n atoms in the cell itself, in order.
    """
    basis, _ = reduced_lattice(lattice_angstrom)
    home = (frac @ to_reduced(lattice_angstrom)) % 1.0
    margin = within_angstrom / cell_heights_angstrom(basis)
    axes = [np.arange(-n, n + 1) for n in np.ceil(margin).astype(np.int64)]
    # a copy is near if it is along every axis: three small tables in place of all copies' coordinates
    along = [places[:, None] + home[:, axis] for axis, places in enumerate(axes)]
    near = [(-most <= one) & (one <= 1.0 + most) for one, most in zip(along, margin, strict=True)]
    *cell, atom = np.nonzero(near[0][:, None, None] & near[1][:, None] & near[2])
    copies = np.stack([one[places, atom] for one, places in zip(along, cell, strict=True)], axis=1)
    is_home = np.all([places == len(axis) // 2 for places, axis in zip(cell, axes, strict=True)], axis=0)
    return basis, copies @ basis, atom, is_home


def _boxed(frac: FloatArray, heights: FloatArray) -> FloatArray:
    """Positions along the cell's heights, wrapped into 0 <= x < height, as a periodic k-d tree needs them."""
    wrapped = frac - np.floor(frac)
    wrapped[wrapped >= 1.0] = 0.0  # a tiny negative number is wrapped to exactly one
    return wrapped * heights
