"""How a grid of energies percolates: the basins of its minima, and the passes between them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter

from app.crystals.band import FloatArray, IntArray
from app.crystals.hops.percolation import HopEdge, PercolationBarriers, percolation
from app.errors import TooLargeError

BoolArray = NDArray[np.bool_]

#: Each pair of neighbouring points once: a point has up to 26, across edges and corners too.
_HALF_OF_NEIGHBOURS = [(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1) if (i, j, k) > (0, 0, 0)]
#: A cell (x, y, z) relative to another as one whole number; each of x, y, z is from -511 to 511.
_CELL_UNITS = np.array([1 << 20, 1 << 10, 1])
_CELL_CODES = 1 << 30
#: What fits: cells that a basin reaches along an axis (differences of two are twice as far), and basins, of which two
#: and a cell are one whole number of 63 bits.
_FARTHEST_CELL = 255
_MOST_BASINS = 1 << 16
#: Passes higher than this above the lowest point are not searched: no ion takes them.
HIGHEST_EV = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Basins:
    """The minima of a periodic grid, and the lowest pass between each two that border on each other.

    Attributes:
        frac_coords: of the minima, the lowest first, shape [n_basins, 3].
        energies_ev: of the minima, above the lowest, shape [n_basins].
        passes: each a basin, the other, and the cell that the other lies in relative to the first, shape [n_passes, 5];
            a basin may border on its own copies.
        passes_ev: the energy of each pass, above the lowest minimum, shape [n_passes].
    """

    frac_coords: FloatArray
    energies_ev: FloatArray
    passes: IntArray
    passes_ev: FloatArray

    def percolation(self) -> PercolationBarriers:
        """The lowest energies above the lowest minimum up to which the basins connect in 1, 2 and 3 dimensions."""
        edges = [
            HopEdge(from_site=one, to_site=other, offset=(x, y, z), orbit=orbit)
            for orbit, (one, other, x, y, z) in enumerate(self.passes.tolist())
        ]
        return percolation(edges, self.passes_ev.tolist())


def neighbours_within(lattice_angstrom: FloatArray, shape: tuple[int, ...]) -> BoolArray:
    """Which of the 26 neighbours of a point, and itself, lie within the diagonal of a square of the grid.

    In a skewed cell the others are far, 2.4 steps across the corner of a face-centred cubic crystal's primitive cell,
    and a path would jump over a pass. By length, the neighbours have the symmetry of the lattice.

    Returns:
        shape [3, 3, 3].
    """
    cells = lattice_angstrom / np.array(shape)[:, None]
    steps = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1)
    longest = np.sqrt(2.0) * np.linalg.norm(cells, axis=1).max()
    return np.asarray(np.linalg.norm(steps @ cells, axis=-1) <= longest * (1.0 + 1e-6))


def basins(energies_ev: FloatArray, *, neighbours: BoolArray | None = None, highest_ev: float = HIGHEST_EV) -> Basins:
    """Divide a periodic grid into the basins of its minima, as water that runs down from point to point does.

    A point and the minimum that it runs down to are connected at the point's own energy, so the basins and passes
    percolate at the energies at which the points do. Which of several equal minima are found may differ from machine to
    machine; the energies of percolation do not.

    Args:
        energies_ev: at (i / n_a, j / n_b, k / n_c) of a cell, shape [n_a, n_b, n_c], at least 4 along each.
        neighbours: which of the points around a point are its neighbours, shape [3, 3, 3], more than the point itself;
            None takes all 26.
        highest_ev: passes above this, counted from the lowest point, are left out.

    Raises:
        TooLargeError: it has too many basins, or one winds through too many cells ("cell-too-large").
    """
    shape, count = energies_ev.shape, energies_ev.size
    around = np.ones((3, 3, 3), dtype=bool) if neighbours is None else neighbours
    order = np.argsort(energies_ev, axis=None)
    rank = np.empty(count, dtype=np.int64)  # equal energies have different ranks: no two points run into each other
    rank[order] = np.arange(count)
    minimum, cells = _run_down(order[minimum_filter(rank.reshape(shape), footprint=around, mode="wrap").ravel()], shape)
    minima = np.flatnonzero(minimum == np.arange(count))
    minima = minima[np.argsort(rank[minima])]
    _check_fits(len(minima), int(np.abs(cells).max()))
    basin = np.empty(count, dtype=np.int64)
    basin[minima] = np.arange(len(minima))
    heights_ev = energies_ev.ravel()[order]
    open_points = int(np.searchsorted(heights_ev, heights_ev[0] + highest_ev, side="right"))
    label = basin[minimum] * _CELL_CODES + cells @ _CELL_UNITS + _CELL_CODES // 2
    passes, highest_rank = _passes(rank.reshape(shape), label.reshape(shape), neighbours=around, below=open_points)
    return Basins(
        frac_coords=np.stack(np.unravel_index(minima, shape), axis=1) / shape,
        energies_ev=heights_ev[rank[minima]] - heights_ev[0],
        passes=passes,
        passes_ev=heights_ev[highest_rank] - heights_ev[0],
    )


def _check_fits(count: int, farthest_cell: int) -> None:
    """Refuse what whole numbers of 63 bits do not hold.

    Raises:
        TooLargeError: they do not ("cell-too-large").
    """
    if count > _MOST_BASINS:
        raise TooLargeError(
            f"The energy of an ion has {count:,} minima in the primitive cell; bond valence takes at most "
            f"{_MOST_BASINS:,}.",
            kind="cell-too-large",
        )
    if farthest_cell > _FARTHEST_CELL:
        raise TooLargeError(
            f"A valley of the energy of an ion winds through {farthest_cell:,} cells; bond valence takes at most "
            f"{_FARTHEST_CELL:,}.",
            kind="cell-too-large",
        )


def _run_down(below: IntArray, shape: tuple[int, ...]) -> tuple[IntArray, IntArray]:
    """Follow each point's lowest neighbour down to a minimum: that point, and the cell it lies in, shape [n, 3]."""
    cells = np.zeros((len(below), 3), dtype=np.int64)
    on_face = np.ones(shape, dtype=bool)
    on_face[1:-1, 1:-1, 1:-1] = False
    face = np.flatnonzero(on_face)
    step = np.column_stack(np.unravel_index(below[face], shape)) - np.column_stack(np.unravel_index(face, shape))
    cells[face] = (step < -1).astype(np.int64) - (step > 1)  # across a face of the cell, the index is at the other end
    while not np.array_equal(below, further := below[below]):
        cells += cells[below]
        below = further
    return below, cells


def _passes(rank: IntArray, label: IntArray, *, neighbours: BoolArray, below: int) -> tuple[IntArray, IntArray]:
    """The lowest pass between each two basins that border on each other, each copy apart, the lowest pass first.

    Args:
        rank: of each point by its energy, shape [n_a, n_b, n_c].
        label: of the copy of a basin that it lies in: the basin times _CELL_CODES, the code of the cell that this
            basin's minimum lies in, and half of _CELL_CODES, so that the code is not negative.
        neighbours: as of `basins`.
        below: points of this rank and above are left out.

    Returns:
        as `Basins.passes`, and the rank of each pass.
    """
    rank_around, label_around = np.pad(rank, 1, mode="wrap"), np.pad(label, 1, mode="wrap")
    for axis, unit in enumerate(_CELL_UNITS):
        faces = np.moveaxis(label_around, axis, 0)
        faces[0] -= unit
        faces[-1] += unit
    size_a, size_b, size_c = rank_around.shape
    inside = np.arange(rank_around.size).reshape(size_a, size_b, size_c)[1:-1, 1:-1, 1:-1][rank < below]
    rank_around, label_around = rank_around.ravel(), label_around.ravel()
    own = label_around[inside]
    count = int(label.max()) // _CELL_CODES + 1
    keys, heights = [], []
    for a, b, c in filter(lambda one: neighbours[one[0] + 1, one[1] + 1, one[2] + 1], _HALF_OF_NEIGHBOURS):
        by = (a * size_b + b) * size_c + c
        border = inside[own != label_around[inside + by]]
        border = border[rank_around[border + by] < below]
        one, from_cell = np.divmod(label_around[border], _CELL_CODES)
        other, to_cell = np.divmod(label_around[border + by], _CELL_CODES)
        offset = to_cell - from_cell
        swapped = (one > other) | ((one == other) & (offset < 0))
        one, other = np.where(swapped, other, one), np.where(swapped, one, other)
        keys.append((one * count + other) * _CELL_CODES + np.where(swapped, -offset, offset) + _CELL_CODES // 2)
        heights.append(np.maximum(rank_around[border], rank_around[border + by]))
    kinds, kind = np.unique(np.concatenate(keys), return_inverse=True)
    lowest = np.full(len(kinds), rank.size)
    np.minimum.at(lowest, kind, np.concatenate(heights))
    order = np.argsort(lowest, kind="stable")
    pair, offset = np.divmod(kinds[order], _CELL_CODES)
    return np.column_stack([*np.divmod(pair, count), *_cells(offset - _CELL_CODES // 2)]), lowest[order]


def _cells(code: IntArray) -> tuple[IntArray, ...]:
    """The cell of a code, by axis."""
    found = []
    for unit in _CELL_UNITS:
        whole = np.rint(code / unit).astype(np.int64)
        found.append(whole)
        code = code - unit * whole
    return tuple(found)
