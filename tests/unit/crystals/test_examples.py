"""The example files hold the crystals that their README says, with the bonds of those crystals."""

from pathlib import Path

import numpy as np
import pytest

from app.crystals.band import FloatArray
from app.crystals.geometry import nearest_vectors
from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file, read_crystal, read_end_points

LIMITS = Limits()
#: How many oxygen each cation has, and the shortest and longest bond to them, angstrom.
LAYERED = {"Li": (6, 2.08, 2.10), "Co": (6, 1.91, 1.93)}
OLIVINE = {"Li": (6, 2.08, 2.20), "Fe": (6, 2.06, 2.26), "P": (4, 1.52, 1.56)}


def file(folder: Path, name: str) -> File:
    return File(name=name, content=(folder / name).read_bytes())


def check_bonds(
    lattice: FloatArray, species: tuple[str, ...], frac: FloatArray, bonds: dict[str, tuple[int, float, float]]
) -> None:
    atoms = np.array(species)
    assert set(species) == {*bonds, "O"}
    oxygen = frac[atoms == "O"]
    for cation, (count, shortest, longest) in bonds.items():
        vectors = nearest_vectors(lattice, (oxygen[None] - frac[atoms == cation][:, None]) @ lattice)
        lengths = np.sort(np.linalg.norm(vectors, axis=-1), axis=1)
        # in a cell as small as LiCoO2's an oxygen is bonded more than once: the nearest are bond enough
        assert lengths[:, 0].min() >= shortest, cation
        if len(oxygen) > 6:
            assert lengths[:, count - 1].max() <= longest, cation
            assert lengths[:, count].min() > longest + 0.5, cation
        else:
            assert lengths[:, 0].max() <= longest, cation


@pytest.mark.parametrize(("name", "bonds"), [("LiCoO2.cif", LAYERED), ("LiFePO4.cif", OLIVINE)])
def test_the_crystals_have_their_bonds(repository: Path, name: str, bonds: dict[str, tuple[int, float, float]]) -> None:
    crystal = read_crystal(file(repository / "examples", name), LIMITS)
    species = tuple(site.species[0][0] for site in crystal.sites)
    check_bonds(crystal.lattice_angstrom, species, np.array([site.frac_coords for site in crystal.sites]), bonds)


def test_the_bands_are_one_hop_through_that_crystal(repository: Path) -> None:
    folder = repository / "examples"
    readings = [
        read_band_file(file(folder, f"LiFePO4_{name}"), LIMITS) for name in ("band.json", "band.extxyz", "neb.zip")
    ]
    readings.append(read_end_points(file(folder, "LiFePO4_initial.cif"), file(folder, "LiFePO4_final.cif"), LIMITS))
    for reading in readings:
        band = reading.band
        assert reading.warnings == ()
        assert band.hop_distance_angstrom == pytest.approx(3.005, abs=2e-3)
        for end in (0, -1):
            frac = np.vstack([band.image_frac_coords[end : end + 1 or None], band.host_frac_coords])
            check_bonds(band.lattice_angstrom, (band.ion, *band.host_species), frac, OLIVINE)
