"""Neighbours in a periodic crystal, against another library's."""

import numpy as np
import pytest
from bands import rock_salt
from numpy.typing import NDArray
from vesin import NeighborList

from app.crystals.geometry.periodic import pairs_of_copies, position_keys, position_order

REACH_ANGSTROM = 3.8
SKEWED = np.array([[1.0, 0.0, 0.0], [3.0, 1.0, 0.0], [-2.0, 5.0, 1.0]])


@pytest.mark.parametrize("change", [np.eye(3), SKEWED], ids=["as it is", "skewed"])
@pytest.mark.parametrize("atoms", [1, 7, 64])
def test_every_copy_within_reach_is_a_neighbour(atoms: int, change: NDArray[np.float64]) -> None:
    band = rock_salt()
    frac, lattice = band.host_frac_coords[:atoms] @ np.linalg.inv(change), change @ band.lattice_angstrom * 0.4
    search = NeighborList(cutoff=REACH_ANGSTROM, full_list=True)
    expected = search.compute(frac @ lattice, lattice, periodic=True, quantities="ijd")
    found = pairs_of_copies(frac, lattice, REACH_ANGSTROM)
    assert len(found[0]) > 0
    assert rows(*found) == pytest.approx(rows(*expected), abs=1e-6)


def test_positions_are_in_one_order_whatever_the_list_the_copy_and_the_rounding() -> None:
    """Those of symmetry, those of four digits, and two that are close together."""
    parts = np.unique(np.concatenate([np.arange(24) / 24, np.round(np.arange(0.0063, 1.0, 0.01), 4)]))
    places = np.column_stack([parts, np.roll(parts, 5), np.roll(parts, 11)])
    places = np.vstack([places, places[3] + 0.003])
    keys = position_keys(places)
    assert len(np.unique(keys, axis=0)) == len(places)
    for cells in ((1, 0, 0), (-1, 2, 0), (0, -3, 1)):
        assert np.array_equal(position_keys((places + cells) - cells + 1e-9), keys)
    order = position_order(places)
    shuffled = np.random.default_rng(0).permutation(len(places))
    assert np.array_equal(places[shuffled][position_order(places[shuffled])], places[order])
    kinds = np.arange(len(places)) % 2
    assert (np.diff(kinds[position_order(places, kinds)]) >= 0).all()


def rows(first: NDArray[np.int64], second: NDArray[np.int64], length: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pairs in one order, shape [n_pairs, 3]."""
    order = np.lexsort((length.round(6), second, first))
    return np.column_stack([first, second, length])[order]
