"""Many weightings of a network at once: against the exact union of parts, and known thresholds of site percolation."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from app.crystals.band import FloatArray, IntArray
from app.crystals.hops.networks import percolation_levels
from app.crystals.hops.percolation import HopEdge, percolation

SQUARE = ((1, 0), (0, 1))
TRIANGULAR = ((1, 0), (0, 1), (1, 1))
CUBIC = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
BODY_CENTRED = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1))
FACE_CENTRED = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -1, 0), (0, 1, -1), (1, 0, -1))


def repeated(steps: Sequence[Sequence[int]], length: int) -> IntArray:
    """The hops of a lattice of one site, in a supercell of so many cells along each axis that it has."""
    axes = len(steps[0])
    cells = np.array(list(itertools.product(range(length), repeat=axes)))
    strides = length ** np.arange(axes)[::-1]
    rows = []
    for step in np.array(steps):
        ends = cells + step
        offsets = np.zeros((len(cells), 3), dtype=np.int64)
        offsets[:, :axes] = ends // length
        rows.append(np.column_stack([cells @ strides, ends % length @ strides, offsets]))
    return np.concatenate(rows)


def site_thresholds(hops: IntArray, count: int) -> FloatArray:
    """The share of sites at which one added at random first connects, shape [count, 3]."""
    sites = int(hops[:, :2].max()) + 1
    added = np.random.default_rng(5).random((count, sites)).argsort(axis=1).argsort(axis=1) / sites
    return percolation_levels(sites, hops, np.maximum(added[:, hops[:, 0]], added[:, hops[:, 1]]))


def test_it_agrees_with_joining_hops_one_by_one() -> None:
    generator = np.random.default_rng(0)
    for _ in range(60):
        sites, count = generator.integers(1, 7), generator.integers(1, 16)
        ends = generator.integers(0, sites, (count, 2))
        hops = np.column_stack([ends, generator.integers(-1, 2, (count, 3))])
        weights = generator.integers(0, 6, (4, count)) / 10.0
        weights[generator.random((4, count)) < 0.2] = np.inf
        edges = [
            HopEdge(from_site=int(i), to_site=int(j), offset=(int(a), int(b), int(c)), orbit=k)
            for k, (i, j, a, b, c) in enumerate(hops)
        ]
        for row, levels in zip(weights, percolation_levels(int(sites), hops, weights), strict=True):
            exact = percolation(edges, [None if np.isinf(weight) else float(weight) for weight in row])
            assert [exact.of(n) for n in (1, 2, 3)] == [None if np.isinf(level) else level for level in levels]


def test_a_network_without_open_hops_connects_nowhere() -> None:
    hops = np.array([[0, 0, 1, 0, 0]])
    assert np.isinf(percolation_levels(1, hops, np.array([[np.inf]]))).all()
    assert percolation_levels(1, hops, np.empty((0, 1))).shape == (0, 3)
    assert np.isinf(percolation_levels(1, np.empty((0, 5), dtype=np.int64), np.empty((2, 0)))).all()


@pytest.mark.parametrize(
    ("steps", "length", "threshold"),
    [
        (CUBIC, 9, 0.3116),
        (BODY_CENTRED, 9, 0.2460),
        (FACE_CENTRED, 9, 0.1992),
        (SQUARE, 24, 0.5927),
        (TRIANGULAR, 24, 0.5),
    ],
)
def test_the_thresholds_of_site_percolation_are_those_known(
    steps: Sequence[Sequence[int]], length: int, threshold: float
) -> None:
    """Stauffer and Aharony, Introduction to Percolation Theory, table 1."""
    levels = site_thresholds(repeated(steps, length), 40)
    assert np.median(levels[:, 0]) == pytest.approx(threshold, abs=0.04)
    # all directions at once take a little more of a finite supercell
    every = len(steps[0])
    assert threshold - 0.02 < np.median(levels[:, every - 1]) < threshold + 0.07
    assert np.isinf(levels[:, every:]).all()


def test_more_directions_never_take_less() -> None:
    levels = site_thresholds(repeated(CUBIC, 4), 30)
    assert (np.diff(levels, axis=1) >= 0).all()
