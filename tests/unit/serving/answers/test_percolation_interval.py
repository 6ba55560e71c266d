"""Percolation barriers with intervals, from predictions whose distributions are known."""

import numpy as np
import pytest

from app.crystals.hops.fillings import FILLINGS, Fillings
from app.crystals.hops.percolation import HopEdge, PercolationBarriers
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.serving.answers.percolation_interval import percolating


def predicted(barrier_ev: float, *, spread_ev: float) -> Prediction:
    """Evenly distributed around a barrier."""
    quantiles = tuple(barrier_ev + spread_ev * (level - 0.5) for level in QUANTILE_LEVELS)
    return Prediction(barrier_ev=barrier_ev, quantiles_ev=quantiles, in_domain=True, domain_reasons=())


def along(*offsets: tuple[int, int, int]) -> list[HopEdge]:
    return [HopEdge(from_site=0, to_site=0, offset=offset, orbit=k) for k, offset in enumerate(offsets)]


def test_a_single_path_has_the_hop_s_own_distribution() -> None:
    paths = percolating(along((1, 0, 0)), [predicted(0.5, spread_ev=0.4)]).paths
    path = paths[1]
    assert path is not None
    assert path.barrier_ev == 0.5
    assert path.bottleneck_hops == (0,)
    assert np.allclose(path.quantiles_ev, predicted(0.5, spread_ev=0.4).quantiles_ev, atol=0.005)
    assert (paths[2], paths[3]) == (None, None)


def test_hops_in_a_row_raise_the_barrier_and_hops_side_by_side_lower_it() -> None:
    one = predicted(0.5, spread_ev=0.4)
    row = [HopEdge(from_site=k, to_site=(k + 1) % 6, offset=(int(k == 5), 0, 0), orbit=k) for k in range(6)]
    beside = along(*[(1, 0, 0)] * 6)
    medians = []
    for edges in (row, beside):
        path = percolating(edges, [one] * 6).paths[1]
        assert path is not None
        assert path.barrier_ev == 0.5
        medians.append(path.quantiles_ev[QUANTILE_LEVELS.index(0.5)])
    assert medians[0] > 0.55
    assert medians[1] < 0.45


def test_the_interval_holds_the_barrier_where_many_paths_compete() -> None:
    path = percolating(along(*[(1, 0, 0)] * 40), [predicted(0.5, spread_ev=0.4)] * 40).paths[1]
    assert path is not None
    quantiles = dict(zip(QUANTILE_LEVELS, path.quantiles_ev, strict=True))
    assert quantiles[0.5] < 0.4
    assert quantiles[0.05] <= path.barrier_ev <= quantiles[0.95]
    assert list(path.quantiles_ev) == sorted(path.quantiles_ev)


def test_errors_are_shared_in_part() -> None:
    """Twelve hops in a row: all errors alike would leave the spread of one, independent ones would narrow it more."""
    one = predicted(0.5, spread_ev=0.4)
    row = [HopEdge(from_site=k, to_site=(k + 1) % 12, offset=(int(k == 11), 0, 0), orbit=k) for k in range(12)]
    path = percolating(row, [one] * 12).paths[1]
    assert path is not None
    width = path.quantiles_ev[QUANTILE_LEVELS.index(0.9)] - path.quantiles_ev[QUANTILE_LEVELS.index(0.1)]
    highest_of_twelve = 0.4 * (0.9 ** (1 / 12) - 0.1 ** (1 / 12))
    assert highest_of_twelve * 1.1 < width < 0.4 * 0.8


def test_what_is_not_passable_percolates_nowhere() -> None:
    assert percolating(along((1, 0, 0)), [None]).paths == {1: None, 2: None, 3: None}
    assert percolating([], []).paths == {1: None, 2: None, 3: None}


def test_the_same_input_has_the_same_interval() -> None:
    edges, predictions = along((1, 0, 0), (0, 1, 0)), [predicted(0.5, spread_ev=0.4), predicted(0.6, spread_ev=0.2)]
    assert percolating(edges, predictions).paths == percolating(edges, predictions).paths


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_equal_hops_along_every_axis_connect_in_every_dimension_at_one_barrier(dimension: int) -> None:
    edges = [HopEdge(from_site=0, to_site=0, offset=o, orbit=0) for o in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    path = percolating(edges, [predicted(0.4, spread_ev=0.1)]).paths[dimension]
    assert path is not None
    assert path.barrier_ev == 0.4
    assert path.bottleneck_hops == (0,)


def simple_cubic(closed_share: float) -> tuple[list[HopEdge], Fillings]:
    edges = [HopEdge(from_site=0, to_site=0, offset=o, orbit=0) for o in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    closed = np.random.default_rng(3).random((FILLINGS, 7**3)) < closed_share
    return edges, Fillings(repeats=(7, 7, 7), closed=closed)


@pytest.mark.parametrize(("closed_share", "least", "most"), [(0.2, 1.0, 1.0), (0.5, 1.0, 1.0), (0.8, 0.0, 0.3)])
def test_blocked_sites_percolate_as_site_percolation_does(closed_share: float, least: float, most: float) -> None:
    """The threshold of a simple cubic lattice is 31 % of open sites."""
    edges, fillings = simple_cubic(closed_share)
    found = percolating(edges, [predicted(0.4, spread_ev=0.1)], fillings)
    assert found.fillings is not None
    assert all(least <= share <= most for share in found.fillings.shares.values())
    for dimension, path in found.paths.items():
        assert (path is None) == (found.fillings.shares[dimension] < 0.5)
        if path is not None:
            assert path.barrier_ev == 0.4
            assert path.directions == ((1, 0, 0), (0, 1, 0), (0, 0, 1))


def test_a_single_closed_site_in_a_row_closes_it() -> None:
    row = [HopEdge(from_site=0, to_site=0, offset=(0, 0, 1), orbit=0)]
    closed = np.zeros((4, 10), dtype=bool)
    closed[:3, [2, 5, 9]] = True
    found = percolating(row, [predicted(0.2, spread_ev=0.1)], Fillings(repeats=(1, 1, 10), closed=closed))
    assert found.paths == {1: None, 2: None, 3: None}
    assert found.fillings is not None
    assert found.fillings.shares == {1: 0.25, 2: 0.0, 3: 0.0}
    assert found.fillings.mean_ev == PercolationBarriers(one_d=0.2, two_d=None, three_d=None)


def test_a_detour_is_taken_where_the_low_path_is_closed() -> None:
    """Rows along c, joined by higher hops along a and b: with four sites in ten closed no row is free."""
    steps = ((0, 0, 1), (1, 0, 0), (0, 1, 0))
    edges = [HopEdge(from_site=0, to_site=0, offset=o, orbit=min(k, 1)) for k, o in enumerate(steps)]
    predictions = [predicted(0.2, spread_ev=0.1), predicted(0.5, spread_ev=0.1)]
    closed = np.random.default_rng(3).random((FILLINGS, 5 * 5 * 20)) < 0.4
    free = percolating(edges, predictions).paths
    found = percolating(edges, predictions, Fillings(repeats=(5, 5, 20), closed=closed))
    assert [path and path.barrier_ev for path in free.values()] == [0.2, 0.5, 0.5]
    assert [path and path.barrier_ev for path in found.paths.values()] == [0.5, 0.5, 0.5]
    path = found.paths[1]
    assert path is not None
    assert path.bottleneck_hops == (1,)
    assert np.interp(0.05, QUANTILE_LEVELS, path.quantiles_ev) > 0.4


def test_a_hop_that_leads_nowhere_is_no_bottleneck_of_a_filling() -> None:
    """Beside the detour a pair of sites of its own, and a hop that goes there and back, both at the same barrier."""
    steps = ((0, 0, 1), (1, 0, 0), (0, 1, 0))
    edges = [HopEdge(from_site=0, to_site=0, offset=o, orbit=min(k, 1)) for k, o in enumerate(steps)]
    edges += [HopEdge(from_site=1, to_site=2, offset=(0, 0, 0), orbit=2)]
    edges += [HopEdge(from_site=0, to_site=3, offset=(0, 0, 0), orbit=3)]
    closed = np.random.default_rng(3).random((FILLINGS, 5 * 5 * 20, 4)) < [0.4, 0.0, 0.0, 0.0]
    fillings = Fillings(repeats=(5, 5, 20), closed=closed.reshape(FILLINGS, -1))
    predictions = [predicted(0.2, spread_ev=0.1), *[predicted(0.5, spread_ev=0.1)] * 3]
    paths = percolating(edges, predictions, fillings).paths
    assert [path and path.bottleneck_hops for path in paths.values()] == [(1,), (1,), (1,)]


def test_a_hop_without_room_in_some_orderings_is_closed_in_that_share() -> None:
    edges, _ = simple_cubic(0.0)
    nothing = Fillings(repeats=(7, 7, 7), closed=np.zeros((FILLINGS, 7**3), dtype=bool))
    one = [predicted(0.4, spread_ev=0.1)]
    # of the bonds of a simple cubic lattice 25 % are enough
    shares = [percolating(edges, one, nothing, [share]).fillings for share in (1.0, 2 / 3, 0.1)]
    assert [share and share.shares[3] for share in shares] == [1.0, 1.0, 0.0]


def test_directions_are_of_the_cell_and_not_of_the_supercell() -> None:
    edges = [HopEdge(from_site=0, to_site=0, offset=o, orbit=0) for o in ((1, 1, 0), (0, 0, 1))]
    closed = np.zeros((3, 24), dtype=bool)
    closed[:, 0] = True
    path = percolating(edges, [predicted(0.4, spread_ev=0.1)], Fillings(repeats=(2, 3, 4), closed=closed)).paths[2]
    assert path is not None
    assert path.directions == ((0, 0, 1), (1, 1, 0))
