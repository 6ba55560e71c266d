"""Energies on a grid: those of single positions, whatever the cell."""

import numpy as np
import pytest
from made_crystals import olivine, rock_salt

from app.crystals.band import FloatArray
from app.crystals.charged_host import charged_host
from app.crystals.crystal import Crystal
from app.models.bond_valence.energies import site_energies
from app.models.bond_valence.grid import energy_grid, grid_shape

STATES = {"Li": 1, "Fe": 2, "P": 5, "O": -2, "Cl": -1, "Se": -2}


@pytest.mark.parametrize("crystal", [olivine(), rock_salt(), rock_salt(a=5.6, other="Se")])
@pytest.mark.parametrize("skew", [np.eye(3), np.array([[1, 0, 0], [1, 1, 0], [-1, 0, 1]])])
def test_a_grid_has_the_energies_of_its_points(crystal: Crystal, skew: FloatArray) -> None:
    host = [site for site in crystal.sites if not site.occupancy_of("Li")]
    lattice = skew @ crystal.lattice_angstrom
    species = [site.species[0][0] for site in host]
    coords = np.array([site.frac_coords for site in host]) @ np.linalg.inv(skew)
    filled = np.where(np.array(species) == "Fe", 0.7, 1.0)
    shape = grid_shape(lattice, 0.4)
    found = energy_grid(charged_host(lattice, species, coords, filled, ion="Li", oxidation_states=STATES), shape)
    assert found.spacing_angstrom <= 0.4
    points = np.stack(np.meshgrid(*(np.arange(count) / count for count in shape), indexing="ij"), axis=-1)
    every = (slice(None, None, 2), slice(None, None, 3), slice(None, None, 3))
    exact = site_energies(lattice, species, coords, filled, ion="Li", oxidation_states=STATES, positions=points[every])
    low = exact < exact.min() + 3.0
    assert low.sum() > 20
    assert found.energies_ev[every][low] == pytest.approx(exact[low], abs=0.005)


def test_a_long_cell_has_the_energies_of_the_short_one() -> None:
    """Its waves are many along one axis, an odd number of points along another."""
    short = [site for site in rock_salt().sites if not site.occupancy_of("Li")]
    coords = np.array([site.frac_coords for site in short])
    grids = []
    for copies in (1, 12):
        places = np.concatenate([(coords + np.array([cell, 0, 0])) / [copies, 1, 1] for cell in range(copies)])
        lattice = rock_salt().lattice_angstrom * np.array([[copies], [1], [1]])
        host = charged_host(
            lattice, ["Cl"] * len(places), places, np.ones(len(places)), ion="Li", oxidation_states=STATES
        )
        grids.append(energy_grid(host, (20 * copies, 21, 20)).energies_ev)
    assert grids[1] == pytest.approx(np.tile(grids[0], (12, 1, 1)), abs=1e-3)
