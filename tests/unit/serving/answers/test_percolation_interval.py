"""Percolation barriers with intervals, from predictions whose distributions are known."""

import numpy as np
import pytest

from app.crystals.hops.percolation import HopEdge
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.serving.answers.percolation_interval import percolating


def predicted(barrier_ev: float, *, spread_ev: float) -> Prediction:
    """Evenly distributed around a barrier."""
    quantiles = tuple(barrier_ev + spread_ev * (level - 0.5) for level in QUANTILE_LEVELS)
    return Prediction(barrier_ev=barrier_ev, quantiles_ev=quantiles, in_domain=True, domain_reasons=())


def along(*offsets: tuple[int, int, int]) -> list[HopEdge]:
    return [HopEdge(from_site=0, to_site=0, offset=offset, orbit=k) for k, offset in enumerate(offsets)]


def test_a_single_path_has_the_hop_s_own_distribution() -> None:
    paths = percolating(along((1, 0, 0)), [predicted(0.5, spread_ev=0.4)])
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
        path = percolating(edges, [one] * 6)[1]
        assert path is not None
        assert path.barrier_ev == 0.5
        medians.append(path.quantiles_ev[QUANTILE_LEVELS.index(0.5)])
    assert medians[0] > 0.55
    assert medians[1] < 0.45


def test_the_interval_holds_the_barrier_where_many_paths_compete() -> None:
    path = percolating(along(*[(1, 0, 0)] * 40), [predicted(0.5, spread_ev=0.4)] * 40)[1]
    assert path is not None
    quantiles = dict(zip(QUANTILE_LEVELS, path.quantiles_ev, strict=True))
    assert quantiles[0.5] < 0.4
    assert quantiles[0.05] <= path.barrier_ev <= quantiles[0.95]
    assert list(path.quantiles_ev) == sorted(path.quantiles_ev)


def test_errors_are_shared_in_part() -> None:
    """Twelve hops in a row: all errors alike would leave the spread of one, independent ones would narrow it more."""
    one = predicted(0.5, spread_ev=0.4)
    row = [HopEdge(from_site=k, to_site=(k + 1) % 12, offset=(int(k == 11), 0, 0), orbit=k) for k in range(12)]
    path = percolating(row, [one] * 12)[1]
    assert path is not None
    width = path.quantiles_ev[QUANTILE_LEVELS.index(0.9)] - path.quantiles_ev[QUANTILE_LEVELS.index(0.1)]
    highest_of_twelve = 0.4 * (0.9 ** (1 / 12) - 0.1 ** (1 / 12))
    assert highest_of_twelve * 1.1 < width < 0.4 * 0.8


def test_what_is_not_passable_percolates_nowhere() -> None:
    assert percolating(along((1, 0, 0)), [None]) == {1: None, 2: None, 3: None}
    assert percolating([], []) == {1: None, 2: None, 3: None}


def test_the_same_input_has_the_same_interval() -> None:
    edges, predictions = along((1, 0, 0), (0, 1, 0)), [predicted(0.5, spread_ev=0.4), predicted(0.6, spread_ev=0.2)]
    assert percolating(edges, predictions) == percolating(edges, predictions)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_equal_hops_along_every_axis_connect_in_every_dimension_at_one_barrier(dimension: int) -> None:
    edges = [HopEdge(from_site=0, to_site=0, offset=o, orbit=0) for o in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    path = percolating(edges, [predicted(0.4, spread_ev=0.1)])[dimension]
    assert path is not None
    assert path.barrier_ev == 0.4
    assert path.bottleneck_hops == (0,)
