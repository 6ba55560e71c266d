"""Neighbours in a periodic crystal, against another library's."""

import numpy as np
import pytest
from bands import rock_salt
from numpy.typing import NDArray
from vesin import NeighborList

from app.crystals.geometry.periodic import pairs_of_copies

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


def rows(first: NDArray[np.int64], second: NDArray[np.int64], length: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pairs in one order, shape [n_pairs, 3]."""
    order = np.lexsort((length.round(6), second, first))
    return np.column_stack([first, second, length])[order]
