"""Percolation on graphs whose answer is known, and against another way to compute it."""

import random
from collections.abc import Sequence

import numpy as np

from app.crystals.percolation import HopEdge, PercolationBarriers, percolation

Row = tuple[int, int, tuple[int, int, int], float | None]


def solve(rows: Sequence[Row]) -> PercolationBarriers:
    edges = [HopEdge(from_site=i, to_site=j, offset=r, orbit=k) for k, (i, j, r, _) in enumerate(rows)]
    return percolation(edges, [barrier for *_, barrier in rows])


def test_a_cubic_lattice_percolates_along_each_axis_at_its_own_barrier() -> None:
    found = solve([(0, 0, (0, 0, 1), 0.3), (0, 0, (1, 0, 0), 0.5), (0, 0, (0, 1, 0), 0.4)])
    assert found == PercolationBarriers(one_d=0.3, two_d=0.4, three_d=0.5)


def test_hops_that_never_connect_give_null_not_zero() -> None:
    assert solve([]) == PercolationBarriers(one_d=None, two_d=None, three_d=None)
    isolated = solve([(0, 1, (0, 0, 0), 0.0), (1, 2, (1, 0, 0), 0.1), (0, 2, (1, 0, 0), 0.2)])
    assert isolated == PercolationBarriers(one_d=None, two_d=None, three_d=None)


def test_a_chain_needs_its_highest_hop() -> None:
    found = solve([(0, 1, (0, 0, 0), 0.2), (1, 0, (1, 0, 0), 0.7)])
    assert found == PercolationBarriers(one_d=0.7, two_d=None, three_d=None)


def test_two_chains_in_different_directions_are_not_two_dimensional_until_they_are_joined() -> None:
    chains: list[Row] = [(0, 0, (1, 0, 0), 0.1), (1, 1, (0, 1, 0), 0.2)]
    assert solve(chains) == PercolationBarriers(one_d=0.1, two_d=None, three_d=None)
    joined = solve([*chains, (1, 0, (0, 0, 5), 0.9)])
    assert joined == PercolationBarriers(one_d=0.1, two_d=0.9, three_d=None)


def test_parallel_hops_do_not_add_a_dimension() -> None:
    found = solve([(0, 0, (1, 1, 0), 0.1), (0, 0, (2, 2, 0), 0.2), (0, 0, (-3, -3, 0), 0.3)])
    assert found == PercolationBarriers(one_d=0.1, two_d=None, three_d=None)


def test_a_hop_without_a_barrier_is_not_there() -> None:
    found = solve([(0, 0, (1, 0, 0), None), (0, 0, (0, 1, 0), 0.4)])
    assert found == PercolationBarriers(one_d=0.4, two_d=None, three_d=None)
    beyond = HopEdge(from_site=0, to_site=0, offset=(1, 0, 0), orbit=7)
    assert percolation([beyond], [0.1]) == PercolationBarriers(one_d=None, two_d=None, three_d=None)


def test_a_negative_barrier_counts_like_any_other() -> None:
    assert solve([(0, 0, (1, 0, 0), -0.05)]).one_d == -0.05


def test_it_agrees_with_cycle_spaces_on_random_graphs() -> None:
    rng = random.Random(7)
    for _ in range(150):
        sites = rng.randint(1, 5)
        rows: list[Row] = []
        for _ in range(rng.randint(0, 9)):
            offset = (rng.randint(-1, 1), rng.randint(-1, 1), rng.randint(-1, 1))
            rows.append((rng.randrange(sites), rng.randrange(sites), offset, rng.randint(1, 9) / 10))
        found = solve(rows)
        assert [found.one_d, found.two_d, found.three_d] == [_lowest(rows, sites, d) for d in (1, 2, 3)]


def _lowest(rows: Sequence[Row], sites: int, dimension: int) -> float | None:
    """By trying each barrier: a part's periods are the offsets of its loops, the null space of its incidence matrix."""
    for level in sorted({barrier for *_, barrier in rows if barrier is not None}):
        passable = [row for row in rows if row[3] is not None and row[3] <= level]
        if max((_rank(passable, sites, start) for start in range(sites)), default=0) >= dimension:
            return level
    return None


def _rank(rows: Sequence[Row], sites: int, start: int) -> int:
    reached = {start}
    for _ in range(sites):
        reached |= {k for i, j, *_ in rows for k in (i, j) if {i, j} & reached}
    inside = [row for row in rows if row[0] in reached]
    if not inside:
        return 0
    incidence = np.zeros((sites, len(inside)))
    for k, (i, j, *_) in enumerate(inside):
        incidence[i, k] -= 1
        incidence[j, k] += 1
    _, values, vectors = np.linalg.svd(incidence)
    loops = vectors[np.count_nonzero(values > 1e-9) :]
    offsets = np.array([offset for _, _, offset, _ in inside])
    return int(np.linalg.matrix_rank(loops @ offsets, tol=1e-9)) if len(loops) else 0
