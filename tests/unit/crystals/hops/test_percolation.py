"""Percolation on graphs whose answer is known, and against another way to compute it."""

import itertools
import random
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.crystals.hops.percolation import Connection, HopEdge, PercolationBarriers, connections, percolation

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


# --- bottlenecks and directions -----------------------------------------------------------------------------------


def connect(rows: Sequence[Row]) -> dict[int, Connection | None]:
    edges = [HopEdge(from_site=i, to_site=j, offset=r, orbit=k) for k, (i, j, r, _) in enumerate(rows)]
    return connections(edges, [barrier for *_, barrier in rows])


def test_each_axis_of_a_cubic_lattice_is_the_bottleneck_of_its_dimension() -> None:
    found = connect([(0, 0, (0, 0, 1), 0.3), (0, 0, (1, 0, 0), 0.5), (0, 0, (0, 1, 0), 0.4)])
    assert found[1] == Connection(barrier_ev=0.3, bottleneck_orbits=(0,), directions=((0, 0, 1),))
    assert found[2] == Connection(barrier_ev=0.4, bottleneck_orbits=(2,), directions=((0, 1, 0), (0, 0, 1)))
    assert found[3] == Connection(barrier_ev=0.5, bottleneck_orbits=(1,), directions=((1, 0, 0), (0, 1, 0), (0, 0, 1)))


def test_the_highest_hop_of_a_chain_is_its_bottleneck_whatever_the_order() -> None:
    (found, two, three) = connect([(0, 1, (0, 0, 0), 0.2), (1, 2, (0, 0, 0), 0.7), (2, 0, (2, -2, 0), 0.1)]).values()
    assert found == Connection(barrier_ev=0.7, bottleneck_orbits=(1,), directions=((1, -1, 0),))
    assert (two, three) == (None, None)


def test_a_dead_end_of_the_same_height_is_no_bottleneck() -> None:
    found = connect([(0, 0, (1, 0, 0), 0.4), (0, 1, (0, 0, 0), 0.4), (2, 3, (0, 0, 0), 0.4)])[1]
    assert found is not None
    assert found.bottleneck_orbits == (0,)


def test_equal_hops_that_stand_in_for_each_other_are_all_named() -> None:
    found = connect([(0, 0, (1, 0, 0), 0.4), (0, 0, (2, 0, 0), 0.4), (1, 1, (0, 0, 1), 0.9)])[1]
    assert found is not None
    assert found.bottleneck_orbits == (0, 1)
    assert found.directions == ((1, 0, 0),)


def test_parts_that_connect_along_different_lines_give_the_directions_of_each() -> None:
    found = connect([(0, 0, (1, 1, 0), 0.4), (1, 1, (1, -1, 0), 0.4)])[1]
    assert found is not None
    assert found.directions == ((1, 1, 0), (1, -1, 0))
    assert connect([(0, 0, (1, 1, 0), 0.4), (1, 1, (1, -1, 0), 0.4)])[2] is None


def test_an_oblique_plane_is_spanned_by_its_shortest_directions() -> None:
    found = connect([(0, 0, (1, 2, 3), 0.1), (0, 0, (2, 5, 6), 0.2)])[2]
    assert found is not None
    assert found.directions == ((0, 1, 0), (1, 0, 3))


GRAPHS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 3),
        st.tuples(st.integers(-1, 1), st.integers(-1, 1), st.integers(-1, 1)),
        st.sampled_from([0.1, 0.2, 0.3, 0.4, None]),
    ),
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(GRAPHS)
def test_connections_agree_with_trying_every_set_of_hops(rows: list[Row]) -> None:
    """Of all sets of hops that connect, the lowest highest barrier; a bottleneck is in each such set."""
    sites, passable = 4, [k for k, row in enumerate(rows) if row[3] is not None]
    sets = [set(chosen) for n in range(len(passable) + 1) for chosen in itertools.combinations(passable, n)]
    ranks = {
        frozenset(one): max((_rank([rows[k] for k in one], sites, start) for start in range(sites)), default=0)
        for one in sets
    }
    for dimension, found in connect(rows).items():
        connecting = [one for one, rank in ranks.items() if rank >= dimension]
        if not connecting:
            assert found is None
            continue
        assert found is not None
        barrier = min(max(rows[k][3] or 0.0 for k in one) for one in connecting)
        assert found.barrier_ev == barrier
        lowest = [one for one in connecting if max(rows[k][3] or 0.0 for k in one) == barrier]
        needed = {k for k in passable if rows[k][3] == barrier and all(k in one for one in lowest)}
        if needed:
            assert set(found.bottleneck_orbits) == needed
        assert all(rows[k][3] == barrier for k in found.bottleneck_orbits)
        assert np.linalg.matrix_rank(np.array(found.directions)) >= dimension
        # the directions are those of the translations that the passable hops make
        here = [rows[k] for k in passable if (rows[k][3] or 0.0) <= barrier]
        assert all(_is_reached(here, sites, direction, dimension) for direction in found.directions)


def _is_reached(rows: Sequence[Row], sites: int, direction: tuple[int, int, int], dimension: int) -> bool:
    """Whether a loop at each site of some part that connects would not gain a dimension by this translation."""
    starts = [start for start in range(sites) if _rank(rows, sites, start) >= dimension]
    return any(
        _rank([*rows, (start, start, direction, 0.0)], sites, start) == _rank(rows, sites, start) for start in starts
    )
