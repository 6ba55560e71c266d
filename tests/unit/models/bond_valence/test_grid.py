"""Energies on a grid: those of single positions, whatever the cell."""

import numpy as np
import pytest
from made_crystals import olivine, rock_salt

from app.crystals.band import FloatArray
from app.crystals.charged_host import charged_host
from app.crystals.crystal import Crystal
from app.models.bond_valence.energies import site_energies
from app.models.bond_valence.grid import _fourier, energy_grid, grid_shape

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


@pytest.mark.parametrize(("count", "coarse"), [(12, 7), (12, 8), (8, 8), (9, 9)])
def test_waves_that_the_coarse_grid_holds_are_interpolated_exactly(count: int, coarse: int) -> None:
    wave = (coarse - 1) // 2
    on_coarse, on_fine = (np.cos(2 * np.pi * wave * np.arange(n) / n + 0.4) for n in (coarse, count))
    assert _fourier(count, coarse, "cpu").numpy() @ on_coarse == pytest.approx(on_fine, abs=1e-5)


def test_a_long_axis_takes_little_memory() -> None:
    """A matrix with an axis more, over the waves, had 3 GB here."""
    found = _fourier(1200, 1000, "cpu")
    assert found.shape == (1200, 1000)
    assert found.sum(dim=1).numpy() == pytest.approx(np.ones(1200), abs=1e-3)
