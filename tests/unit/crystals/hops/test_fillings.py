"""Sampled fillings: how many sites they close, and which."""

from collections.abc import Sequence

import numpy as np
import pytest

from app.crystals.crystal import Crystal, Site
from app.crystals.hops.fillings import FILLINGS, sample_fillings
from app.crystals.hops.percolation import HopEdge
from app.crystals.sites.ion_sites import split


def crystal(*sites: tuple[Sequence[tuple[str, float]], tuple[float, float, float]], edge: float = 4.0) -> Crystal:
    return Crystal(
        lattice_angstrom=np.eye(3) * edge,
        sites=tuple(Site(species=tuple(species), frac_coords=place) for species, place in sites),
    )


def perovskite(lanthanum: float) -> Crystal:
    return crystal(
        ((("Li", 0.3), ("La", lanthanum)), (0.0, 0.0, 0.0)),
        ((("Ti", 1.0),), (0.5, 0.5, 0.5)),
        *(((("O", 1.0),), place) for place in ((0.5, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5))),
    )


@pytest.mark.parametrize("lanthanum", [0.1, 0.56, 0.64])
def test_each_filling_closes_the_share_of_sites_that_other_atoms_hold(lanthanum: float) -> None:
    fillings = sample_fillings(split(perovskite(lanthanum), "Li"))
    assert len(fillings.closed) == FILLINGS
    assert fillings.closed.shape[1] == fillings.cell_count >= 300
    assert np.allclose(fillings.closed.mean(axis=1), lanthanum, atol=1 / fillings.cell_count)
    assert len(np.unique(fillings.closed, axis=0)) == FILLINGS


def test_fillings_are_the_same_each_time() -> None:
    one, other = (sample_fillings(split(perovskite(0.5), "Li")) for _ in range(2))
    assert np.array_equal(one.closed, other.closed)


def test_fillings_do_not_depend_on_the_order_of_the_file() -> None:
    places = ((0.0, 0.0, 0.0), (0.5, 0.1, 0.4), (0.2, 0.6, 0.7))
    shared = [((("Li", 0.4), ("Na", 0.6)), place) for place in places]
    oxygen = [((("O", 1.0),), (0.75, 0.3, 0.1))]
    one = sample_fillings(split(crystal(*oxygen, *shared, edge=9.0), "Li")).closed.reshape(FILLINGS, -1, 3)
    other = sample_fillings(split(crystal(*shared[::-1], *oxygen, edge=9.0), "Li")).closed.reshape(FILLINGS, -1, 3)
    assert np.array_equal(one, other[..., ::-1])


def test_sites_too_near_to_be_filled_both_exclude_each_other() -> None:
    """Two places 1.2 angstrom apart, each a third Mg: an atom on one of them closes both."""
    pair = crystal(
        ((("Li", 0.5), ("Mg", 1 / 3)), (0.35, 0.5, 0.5)),
        ((("Li", 0.5), ("Mg", 1 / 3)), (0.65, 0.5, 0.5)),
        ((("O", 1.0),), (0.0, 0.0, 0.0)),
    )
    closed = sample_fillings(split(pair, "Li")).closed.reshape(FILLINGS, -1, 2)
    assert np.array_equal(closed[..., 0], closed[..., 1])
    assert np.allclose(closed[..., 0].mean(axis=1), 2 / 3, atol=0.01)


def test_a_partly_filled_place_of_the_host_closes_the_site_beside_it() -> None:
    beside = crystal(
        ((("Li", 1.0),), (0.5, 0.5, 0.5)),
        ((("Al", 0.25),), (0.8, 0.5, 0.5)),
        ((("O", 1.0),), (0.0, 0.0, 0.0)),
    )
    assert np.allclose(sample_fillings(split(beside, "Li")).closed.mean(axis=1), 0.25, atol=0.01)


def test_hops_of_the_supercell_are_those_of_the_cell_in_each_of_its_cells() -> None:
    fillings = sample_fillings(split(perovskite(0.5), "Li"))
    edges = [HopEdge(from_site=0, to_site=0, offset=step, orbit=0) for step in ((1, 0, 0), (0, -1, 1))]
    hops, which = fillings.hops(edges)
    assert np.array_equal(np.bincount(which), [fillings.cell_count] * 2)
    repeats = np.array(fillings.repeats)
    cells = np.array(np.unravel_index(np.arange(fillings.cell_count), fillings.repeats)).T
    steps = cells[hops[:, 1]] + hops[:, 2:] * repeats - cells[hops[:, 0]]
    assert np.array_equal(steps, np.array([edge.offset for edge in edges])[which])
    first = hops[which == 0]
    assert all(len(np.unique(first[:, column])) == fillings.cell_count for column in (0, 1))
