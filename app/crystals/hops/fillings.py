"""Sampled fillings of a crystal's shared sites: which sites of the ion the host's atoms close."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.crystals.band import FloatArray, IntArray
from app.crystals.geometry.periodic import cell_heights_angstrom, near_pairs, position_order
from app.crystals.hops.percolation import HopEdge
from app.crystals.sites.ion_sites import Sublattices, is_mixed
from app.crystals.sites.ordering import EXCLUSIVE_ANGSTROM

BoolArray = NDArray[np.bool_]

FILLINGS = 24
SEED = 11
#: Sites of the ion in a supercell of fillings: enough for the threshold to be near that of an endless crystal.
ENOUGH_SITES = 300
MOST_SITES = 1_000
#: Cells along each axis, unless the supercell would have more than MOST_SITES.
LEAST_CELLS = 2
#: Occupancies nearer than this are of one kind of site.
_OCCUPANCY_STEP = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Fillings:
    """Sites of the ion in a supercell, closed in each of some samples where an atom of the host is in the way.

    Attributes:
        repeats: cells along each axis; site i of cell c is number c * n_sites + i.
        closed: shape [n_fillings, n_cells * n_sites].
    """

    repeats: tuple[int, int, int]
    closed: BoolArray

    @property
    def cell_count(self) -> int:
        """Cells of the supercell."""
        return int(np.prod(self.repeats))

    def hops(self, edges: Sequence[HopEdge]) -> tuple[IntArray, IntArray]:
        """All hops of the supercell.

        Returns:
            rows (from, to, offset x, y, z) in supercells, shape [n_edges * n_cells, 5]; and of each its edge's place.
        """
        sites = self.closed.shape[1] // self.cell_count
        rows = np.array([(edge.from_site, edge.to_site, *edge.offset) for edge in edges], dtype=np.int64).reshape(-1, 5)
        cells = _cells(self.repeats)
        targets = cells[None] + rows[:, None, 2:]
        strides = np.array([self.repeats[1] * self.repeats[2], self.repeats[2], 1])
        first = cells @ strides * sites + rows[:, :1]
        second = targets % self.repeats @ strides * sites + rows[:, 1:2]
        repeated = np.concatenate([first[..., None], second[..., None], targets // self.repeats], axis=2)
        return repeated.reshape(-1, 5), np.repeat(np.arange(len(rows)), len(cells))


def sample_fillings(lattices: Sublattices, *, count: int = FILLINGS) -> Fillings:
    """Fill the places that the host's atoms share with the ion, or have within 1.5 angstrom of its sites, at random.

    Places of equal occupancy get whole atoms, by rounding; two places within 1.5 angstrom of each other are never both
    filled. An atom closes all sites of the ion within that distance. Which element fills a place does not matter here.
    """
    sites = lattices.site_frac_coords
    mixed = [k for k, contents in enumerate(lattices.host_contents) if is_mixed(contents)]
    beside, _ = near_pairs(lattices.host_frac_coords[mixed], sites, lattices.lattice_angstrom, EXCLUSIVE_ANGSTROM)
    near = [mixed[k] for k in np.unique(beside[:, 0])]
    shared = [site.index for site in lattices.sites if site.shared_with]
    contents = [lattices.sites[k].shared_with for k in shared] + [lattices.host_contents[k] for k in near]
    shares = np.array([min(1.0, sum(amount for _, amount in one)) for one in contents])
    coords = np.vstack([sites[shared], lattices.host_frac_coords[near]])
    repeats = _repeats(lattices.lattice_angstrom, len(sites))
    cells = _cells(repeats)
    supercell = lattices.lattice_angstrom * np.array(repeats)[:, None]
    places = ((cells[:, None] + coords) / repeats).reshape(-1, 3)
    # the same samples whatever the order of the file
    order = position_order(places)
    places = places[order]
    filled = _filled(
        np.tile(shares, len(cells))[order],
        near_pairs(places, None, supercell, EXCLUSIVE_ANGSTROM)[0] if len(places) else np.empty((0, 2), np.int64),
        count,
    )
    closed = np.zeros((count, len(cells) * len(sites)), dtype=bool)
    if len(places):
        # a site in the way of itself is at distance zero
        every = ((cells[:, None] + sites) / repeats).reshape(-1, 3)
        pairs, _ = near_pairs(places, every, supercell, EXCLUSIVE_ANGSTROM)
        which, pair = np.nonzero(filled[:, pairs[:, 0]])
        closed[which, pairs[pair, 1]] = True
    return Fillings(repeats=repeats, closed=closed)


def _cells(repeats: tuple[int, int, int]) -> IntArray:
    return np.stack(np.meshgrid(*map(np.arange, repeats), indexing="ij"), axis=-1).reshape(-1, 3)


def _repeats(lattice_angstrom: FloatArray, site_count: int) -> tuple[int, int, int]:
    """Cells along each axis of a supercell about as long in every direction."""
    heights = cell_heights_angstrom(lattice_angstrom)
    repeats = np.ones(3, dtype=np.int64)
    while repeats.prod() * site_count < ENOUGH_SITES or repeats.min() < LEAST_CELLS:
        longer = repeats.copy()
        longer[(repeats * heights).argmin()] += 1
        if longer.prod() * site_count > MOST_SITES:
            break
        repeats = longer
    return int(repeats[0]), int(repeats[1]), int(repeats[2])


def _filled(shares: FloatArray, exclusive: IntArray, count: int) -> BoolArray:
    """Which places are filled in each of some samples, shape [count, n_places].

    Args:
        shares: how much of each place is filled, shape [n_places].
        exclusive: pairs of places of which at most one is filled, shape [n_pairs, 2].
        count: samples.
    """
    generator = np.random.default_rng(SEED)
    rows = np.arange(count)
    filled = np.zeros((count, len(shares)), dtype=bool)
    kinds = np.round(shares / _OCCUPANCY_STEP)
    neighbours = _neighbours(exclusive, len(shares))
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        quota = round(float(shares[members].sum()))
        order = members[generator.random((count, len(members))).argsort(axis=1)]
        if not (neighbours[members] < len(shares)).any():
            np.put_along_axis(filled, order[:, :quota], values=True, axis=1)
            continue
        left = np.full(count, quota)
        padded = np.zeros((count, len(shares) + 1), dtype=bool)
        padded[:, :-1] = filled
        for place in order.T:
            room = (left > 0) & ~padded[rows[:, None], neighbours[place]].any(axis=1)
            padded[rows, place] |= room
            left -= room
        filled = padded[:, :-1]
    return filled


def _neighbours(pairs: IntArray, count: int) -> IntArray:
    """For each place those that exclude it, padded by `count`, shape [count, n_most]."""
    both = np.vstack([pairs, pairs[:, ::-1]])
    both = both[both[:, 0].argsort(kind="stable")]
    places, starts, numbers = np.unique(both[:, 0], return_index=True, return_counts=True)
    padded = np.full((count, int(numbers.max(initial=0))), count, dtype=np.int64)
    for place, start, number in zip(places, starts, numbers, strict=True):
        padded[place, :number] = both[start : start + number, 1]
    return padded
