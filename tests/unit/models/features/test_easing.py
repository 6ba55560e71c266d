from dataclasses import replace

import numpy as np
import pytest
from bands import rock_salt

from app.crystals.band import Band
from app.crystals.hops.surroundings import path_surroundings
from app.models.features.easing import EASING_NAMES, PairPotential, eased_line, easing
from app.models.features.surroundings import OUTER_ANGSTROM, Surroundings, surroundings


def test_forces_are_the_slope_of_the_energy() -> None:
    potential = PairPotential(around(rock_salt()))
    points = rock_salt().image_frac_coords @ rock_salt().lattice_angstrom + np.array([0.11, -0.07, 0.05])
    forces = potential.pair_forces(points).sum(axis=1)
    step = 1e-5
    for axis in np.eye(3):
        slope = (potential.energy(points + step * axis) - potential.energy(points - step * axis)) / (2.0 * step)
        assert forces @ axis == pytest.approx(-slope, rel=1e-5, abs=1e-6)


def test_an_ion_in_the_middle_of_a_vacancy_stays_and_one_beside_it_goes_back() -> None:
    band = rock_salt()
    magnesium = band.host_species.index("Mg")
    site = band.host_frac_coords[magnesium]
    vacancy = replace(
        band,
        host_species=band.host_species[:magnesium] + band.host_species[magnesium + 1 :],
        host_frac_coords=np.delete(band.host_frac_coords, magnesium, axis=0),
        image_frac_coords=np.stack([site, site]),
    )
    assert easing(around(vacancy), eased_line(around(vacancy)))["ends_move_angstrom"] == pytest.approx(0.0, abs=1e-9)
    beside = replace(vacancy, image_frac_coords=vacancy.image_frac_coords + 0.03)
    start = beside.image_frac_coords @ band.lattice_angstrom
    eased = PairPotential(around(beside)).eased(start, np.zeros(3))
    from_site = [np.linalg.norm(points - site @ band.lattice_angstrom, axis=1).max() for points in (start, eased)]
    assert from_site[1] < 0.2 * from_site[0]


def test_places_between_the_ends_stay_in_their_plane_across_the_hop() -> None:
    near = around(replace(rock_salt(), image_frac_coords=np.array([[0.13, 0.1, 0.12], [0.4, 0.15, 0.1]])))
    hop = near.points[-1] - near.points[0]
    start = near.points[[0, 3, 6, 9, 12]]
    moved = PairPotential(near).eased(start, hop) - start
    assert moved[1:4] @ hop == pytest.approx(np.zeros(3), abs=1e-9)
    assert np.abs(moved[[0, 4]] @ hop).max() > 1e-3
    assert np.linalg.norm(moved[1:4], axis=1).max() > 1e-2


def test_a_host_that_yields_only_lowers_energies() -> None:
    found = easing(around(rock_salt()), eased_line(around(rock_salt())))
    assert tuple(found) == EASING_NAMES
    assert found["yielding_middle_asinh_ev"] >= 0.0
    assert found["yielded_energy_middle_minus_ends_asinh_ev"] <= found["eased_energy_middle_minus_ends_asinh_ev"]


def around(band: Band) -> Surroundings:
    return surroundings(path_surroundings(band, OUTER_ANGSTROM))
