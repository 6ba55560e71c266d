"""A straight hop over a third site is two hops, and is not predicted as one."""

from dataclasses import replace

import numpy as np
import pytest
from made_crystals import garnet

from app.crystals.hops.options import HopOptions
from app.crystals.hops.passed_sites import site_on_the_way
from app.crystals.hops.search import find_hops

CELL = np.diag([6.0, 7.0, 8.0])


def passed(*sites: tuple[float, float, float], end: tuple[float, float, float] = (0.6, 0.1, 0.1)) -> int | None:
    start = np.array([0.1, 0.1, 0.1])
    return site_on_the_way(CELL, np.array([start, end, *sites]), start, np.array(end))


def test_a_site_on_the_line_is_reported_by_its_number() -> None:
    assert passed() is None
    assert passed((0.35, 0.1, 0.1)) == 2
    assert passed((0.35, 0.6, 0.1), (0.36, 0.12, 0.11)) == 3
    assert passed((0.35, 0.1, 0.19), (0.35, 0.1, 0.12)) == 3  # the nearer one


def test_a_site_beside_the_line_or_at_its_ends_is_not_on_the_way() -> None:
    assert passed((0.35, 0.25, 0.1)) is None  # 1.05 angstrom beside it
    assert passed((0.2, 0.1, 0.1)) is None  # 0.6 angstrom from the start: the same ion
    assert passed((0.5, 0.1, 0.1)) is None
    assert passed((0.85, 0.1, 0.1)) is None  # beyond the end


@pytest.mark.parametrize("cells", [(1, 0, 0), (-2, 3, 1)])
def test_a_site_is_on_the_way_in_whatever_cell_it_is_listed(cells: tuple[int, int, int]) -> None:
    site = np.array([0.35, 0.1, 0.1]) + cells
    assert passed((float(site[0]), float(site[1]), float(site[2]))) == 2
    assert passed(end=(2.1, 0.1, 0.1)) == 0  # the start's own copy, a cell on the way


def test_the_garnet_s_long_hop_over_its_split_site_is_two_hops() -> None:
    crystal = garnet()
    asked = HopOptions(max_hop_angstrom=4.2)
    search = find_hops(crystal, "Li", asked, max_atoms=800)
    over = [hop for hop in search.hops if hop.excluded_because and "runs over site" in hop.excluded_because]
    assert over
    assert all(hop.distance_angstrom > 2.0 for hop in over)
    wanted = find_hops(crystal, "Li", replace(asked, include_close_hops=True), max_atoms=800)
    assert not [hop for hop in wanted.hops if hop.excluded_because and "runs over site" in hop.excluded_because]
    assert len(wanted.hops) == len(search.hops)
