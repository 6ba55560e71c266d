"""The barrier of an uploaded band by the energies of its images, both ways, and what is said where it is not whole."""

import pytest
from written_formats import BACK_EV, ENERGIES_EV, FORWARD_EV

from app.crystals.path_energies import path_energies, path_warnings


def test_a_finished_band_has_a_barrier_each_way() -> None:
    found = path_energies(ENERGIES_EV)
    assert found is not None
    assert (found.forward_ev, found.reverse_ev) == pytest.approx((FORWARD_EV, BACK_EV))
    assert found.highest_image == 2
    assert found.relative_ev == pytest.approx((0.0, 0.2, 0.5, 0.25, 0.05))
    assert path_warnings(ENERGIES_EV) == ()


def test_without_energies_there_is_nothing() -> None:
    assert path_energies(()) is None
    assert path_energies((None, None)) is None
    assert path_warnings(()) == ()


def test_an_end_without_an_energy_has_no_barrier_and_a_warning_says_so() -> None:
    energies = (None, *ENERGIES_EV[1:])
    found = path_energies(energies)
    assert found is not None
    assert found.forward_ev is None
    assert found.reverse_ev == pytest.approx(BACK_EV)
    assert found.relative_ev[0] is None
    (warning,) = path_warnings(energies)
    assert "no energy of image 0 (counted from 0)" in warning


def test_two_end_points_have_energies_and_no_barrier() -> None:
    found = path_energies((-10.0, -9.5))
    assert found is not None
    assert (found.forward_ev, found.reverse_ev, found.relative_ev) == (None, None, (0.0, 0.5))
    assert path_warnings((-10.0, -9.5)) == ()


def test_a_band_that_only_climbs_is_named() -> None:
    (warning,) = path_warnings((0.0, 0.1, 0.3))
    assert "no barrier of its own" in warning


@pytest.mark.parametrize("factor", [1000.0, 96.485])
def test_energies_that_are_not_in_ev_are_noticed(factor: float) -> None:
    (warning,) = path_warnings((0.0, 0.1 * factor, 0.3 * factor, 0.1 * factor, 0.0))
    assert f"a barrier of {0.3 * factor:.4g} eV" in warning
    assert "are they in eV?" in warning
