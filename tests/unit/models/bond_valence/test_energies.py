"""Energies by bond valence: the published formulas, bvlain's numbers, and what must change nothing."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from bands import permuted, resettled, rock_salt, rotated, shifted
from made_crystals import garnet, olivine
from pymatgen.core import Lattice, Species, Structure

from app.crystals.band import Band, FloatArray
from app.crystals.crystal import Crystal
from app.models.bond_valence.energies import band_energies, band_oxidation_states, site_energies

STATES = {"Li": 1, "Fe": 2, "P": 5, "O": -2}


def host_of(crystal: Crystal) -> tuple[tuple[str, ...], FloatArray]:
    sites = [site for site in crystal.sites if not site.occupancy_of("Li")]
    return tuple(site.species[0][0] for site in sites), np.array([site.frac_coords for site in sites])


def test_one_anion_and_one_cation_follow_the_formulas() -> None:
    lattice = np.eye(3) * 30.0
    coords = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    at_oxygen, at_iron = site_energies(
        lattice,
        ("O", "Fe"),
        coords,
        (1.0, 1.0),
        ion="Li",
        oxidation_states=STATES,
        positions=np.array([[2.5 / 30, 0, 0], [0.5, 0.5 + 2.5 / 30, 0.5]]),
    )
    growth = math.exp(1.937984 * (1.940013 - 2.5))
    assert at_oxygen == pytest.approx(0.98816 / 2 * ((growth - 1) ** 2 - 1), abs=1e-9)
    screened = math.erfc(2.5 / (0.74 * (1.28 + 1.32))) / 2.5
    assert at_iron == pytest.approx(14.4 * 1 * 2 / math.sqrt(2 * 4) * screened, abs=1e-9)


def olivine_energies(positions: FloatArray) -> FloatArray:
    crystal = olivine()
    species, coords = host_of(crystal)
    return site_energies(
        crystal.lattice_angstrom,
        species,
        coords,
        np.ones(len(species)),
        ion="Li",
        oxidation_states=STATES,
        positions=positions,
    )


def test_energies_are_those_of_bvlain() -> None:
    crystal = olivine()
    species, coords = host_of(crystal)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bvlain imports a part of scipy by its old name
        from bvlain import Lain  # noqa: PLC0415 # takes a second

        calculator = Lain(verbose=False)
        ions = [Species(symbol, STATES[symbol]) for symbol in species]
        calculator.read_structure(Structure(Lattice(crystal.lattice_angstrom), ions, coords), oxi_check=False)
        published = calculator.bvse_distribution(mobile_ion="Li1+", resolution=0.6, k=200)
    axes = [np.linspace(0.0, 1.0, count) for count in published.shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    ours = olivine_energies(points)
    low = published < published.min() + 10.0
    assert low.sum() > 500
    assert np.abs((ours - published)[low]).max() < 0.005


def test_what_fills_half_of_a_site_counts_half() -> None:
    crystal = garnet()
    species, coords = host_of(crystal)
    states = {"Li": 1, "La": 3, "Zr": 4, "Ta": 5, "O": -2}
    points = np.array([[0.375, 0.0, 0.25], [0.4, 0.05, 0.2]])

    def energies(zirconium: float) -> FloatArray:
        filled = np.array([zirconium if symbol == "Zr" else 1.0 for symbol in species])
        mixed = [k for k, symbol in enumerate(species) if symbol == "Zr"]
        return site_energies(
            crystal.lattice_angstrom,
            (*species, *["Ta"] * len(mixed)),
            np.vstack([coords, coords[mixed]]),
            (*filled, *[1.0 - zirconium] * len(mixed)),
            ion="Li",
            oxidation_states=states,
            positions=points,
        )

    assert energies(0.5) == pytest.approx((energies(0.0) + energies(1.0)) / 2, abs=1e-9)
    assert not np.allclose(energies(0.0), energies(1.0), atol=1e-3)


def test_positions_may_lie_in_any_cell_and_have_any_shape() -> None:
    points = np.random.default_rng(3).random((2, 3, 3))
    one, other = (olivine_energies(at) for at in (points, points + np.array([3, -2, 1])))
    assert one.shape == (2, 3)
    assert one == pytest.approx(other, rel=1e-9)
    none = olivine_energies(np.empty((0, 3)))
    assert none.shape == (0,)


def along(band: Band) -> FloatArray:
    first, last = band.image_frac_coords[0], band.image_frac_coords[-1]
    return np.linspace(first, last, 7)


def energies_of(bands: list[Band]) -> FloatArray:
    return band_energies(
        bands, [band_oxidation_states(band) for band in bands], np.stack([along(one) for one in bands])
    )


def test_a_path_has_the_same_energies_however_its_crystal_is_written() -> None:
    generator = np.random.default_rng(7)
    band = rock_salt()
    assert band_oxidation_states(band) == {"Li": 1, "Mg": 2, "O": -2}
    written = [band, *(change(band, generator) for change in (permuted, shifted, rotated, resettled))]
    energies = energies_of(written)
    assert energies[0].max() > energies[0].min() + 0.1
    assert energies == pytest.approx(np.tile(energies[0], (5, 1)), abs=1e-9)


def test_a_supercell_of_a_host_has_the_same_energies() -> None:
    band = rock_salt()
    doubled = replace(
        band,
        lattice_angstrom=band.lattice_angstrom * [[2], [1], [1]],
        host_species=band.host_species * 2,
        host_frac_coords=np.vstack([band.host_frac_coords, band.host_frac_coords + np.eye(3)[0]]) / [2, 1, 1],
        image_frac_coords=band.image_frac_coords / [2, 1, 1],
    )
    assert energies_of([doubled]) == pytest.approx(energies_of([band]), abs=1e-9)


def test_a_band_without_parameters_has_none_and_spoils_no_other() -> None:
    band = rock_salt()
    hydride = replace(band, host_species=tuple("H" if one == "O" else one for one in band.host_species))
    metal = replace(band, host_species=("Cu",) * len(band.host_species))
    assert band_oxidation_states(metal) is None
    energies = energies_of([hydride, band, metal])
    assert np.isnan(energies[[0, 2]]).all()
    assert energies[1] == pytest.approx(energies_of([band])[0])
    assert band_energies([], [], np.empty((0, 7, 3))).shape == (0, 7)
