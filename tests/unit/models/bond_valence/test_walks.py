"""Energies along hops by bond valence: the ion leaves the line downhill, and the way back is the same."""

import numpy as np
import pytest
from made_crystals import olivine

from app.crystals.band import FloatArray
from app.crystals.charged_host import ChargedHost, crystal_host
from app.crystals.sites.ion_sites import split
from app.models.bond_valence.energies import energies_among, neighbours
from app.models.bond_valence.walks import POINTS, _gradient, walk_energies


@pytest.fixture(scope="module")
def host() -> ChargedHost:
    return crystal_host(split(olivine(), "Li"))[0]


def hop() -> tuple[FloatArray, FloatArray]:
    """The hop along b of LiFePO4, whose path is known to curve."""
    sites = split(olivine(), "Li").site_frac_coords
    apart = (sites[:, None] - sites[None]) @ np.diag([0.0, 1.0, 0.0])
    start, end = np.argwhere(
        (np.abs(np.abs(apart[..., 1]) - 0.5) < 1e-3) & (np.abs(sites[:, None] - sites[None])[..., 0] < 1e-3)
    )[0]
    return sites[start], sites[end]


def test_the_gradient_is_that_of_the_energy(host: ChargedHost) -> None:
    places = np.random.default_rng(0).random((4, 3, 3)) @ host.lattice_angstrom
    around = neighbours([host] * 4, list(places))
    for axis in range(3):
        step = 1e-5 * np.eye(3)[axis]
        slope = (energies_among(around, places + step) - energies_among(around, places - step)) / 2e-5
        analytic = _gradient(around, places)[..., axis]
        # an atom at the end of its reach counts in one of them
        assert np.median(np.abs(slope - analytic) / (np.abs(slope) + 0.1)) < 1e-4


def test_an_ion_that_may_leave_the_line_climbs_less(host: ChargedHost) -> None:
    start, end = hop()
    sites = np.array([start, end])
    found = walk_energies(([host] * 2, [host]), sites, start[None], end[None])
    line = (start + np.linspace(0, 1, POINTS)[:, None] * (end - start)) @ host.lattice_angstrom
    straight = energies_among(neighbours([host], [line]), line[None])[0]
    assert found.saddles_ev[0] < straight.max() - 0.1
    assert found.saddles_ev[0] > found.sites_ev.max()


def test_the_way_back_has_the_same_saddle(host: ChargedHost) -> None:
    start, end = hop()
    there, back = (
        walk_energies(([host], [host]), start[None], one[None], other[None]).saddles_ev[0]
        for one, other in ((start, end), (end, start))
    )
    assert there == pytest.approx(back, abs=1e-9)
    # so the two barriers differ by the energies of the ends: E_i + b_ij = E_j + b_ji


def test_many_hops_are_relaxed_in_pieces_with_the_same_result(host: ChargedHost) -> None:
    start, end = hop()
    count = 70
    many = walk_energies(([host], [host] * count), start[None], np.tile(start, (count, 1)), np.tile(end, (count, 1)))
    one = walk_energies(([host], [host]), start[None], start[None], end[None])
    assert many.saddles_ev == pytest.approx(np.full(count, one.saddles_ev[0]), abs=1e-9)
