"""The example files hold the crystals that their README says, with the bonds of those crystals."""

from pathlib import Path

import numpy as np
import pytest

from app.crystals.band import FloatArray
from app.crystals.geometry.distances import nearest_vectors
from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file, read_crystal, read_end_points

LIMITS = Limits()
#: How many anions each cation has, and the shortest and longest bond to them, angstrom.
LAYERED = {"Li": (6, 2.08, 2.10), "Co": (6, 1.91, 1.93)}
OLIVINE = {"Li": (6, 2.08, 2.20), "Fe": (6, 2.06, 2.26), "P": (4, 1.52, 1.56)}
#: The same for crystals of other anions, all periodic images counted; a cation on several sites has several shells.
SHELLS: dict[str, tuple[str, str, dict[str, set[tuple[int, float, float]]]]] = {
    "MgMn2O4.cif": ("Mg4 Mn8 O16", "O", {"Mg": {(4, 1.98, 1.98)}, "Mn": {(6, 1.95, 2.25)}}),
    "Na3PS4.cif": ("Na6 P2 S8", "S", {"P": {(4, 2.05, 2.05)}, "Na": {(4, 2.86, 2.86)}}),
    "Li7La3Zr2O12.cif": (
        "La24 Li56 O96 Zr16",
        "O",
        {
            "Zr": {(6, 2.1, 2.12)},
            "La": {(8, 2.51, 2.63), (8, 2.47, 2.63)},
            "Li": {(4, 1.92, 1.92), (6, 1.98, 2.45), (4, 1.88, 2.17)},
        },
    ),
}
#: A bond is shorter than this, angstrom; the next anion is farther.
LONGEST_BOND_ANGSTROM = {"Mg": 2.6, "Mn": 2.6, "P": 2.6, "Na": 3.3, "Zr": 2.6, "La": 2.9, "Li": 2.6}


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


def bonds_of(
    lattice: FloatArray, cations: FloatArray, anions: FloatArray, longest: float
) -> set[tuple[int, float, float]]:
    """How many bonds each cation has, its shortest and its longest, angstrom, rounded."""
    cells = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3)
    images = (anions[None] + cells[:, None]).reshape(-1, 3)
    lengths = np.linalg.norm((images[None] - cations[:, None]) @ lattice, axis=-1)
    shells = [row[row < longest] for row in lengths]
    return {(len(shell), round(float(shell.min()), 2), round(float(shell.max()), 2)) for shell in shells}


@pytest.mark.parametrize("name", SHELLS)
def test_every_cation_has_its_shell_of_anions(repository: Path, name: str) -> None:
    formula, anion, shells = SHELLS[name]
    crystal = read_crystal(file(repository / "examples", name), LIMITS)
    assert crystal.is_ordered
    assert crystal.formula == formula
    species = np.array([site.species[0][0] for site in crystal.sites])
    places = np.array([site.frac_coords for site in crystal.sites])
    for cation, expected in shells.items():
        found = bonds_of(
            crystal.lattice_angstrom,
            places[species == cation],
            places[species == anion],
            LONGEST_BOND_ANGSTROM[cation],
        )
        assert found == expected, cation


def test_each_example_names_its_source_in_the_file_and_in_the_readme(repository: Path) -> None:
    folder = repository / "examples"
    readme = (folder / "README.md").read_text("utf-8")
    for path in sorted(folder.glob("*.cif")):
        if not path.stem.endswith(("_initial", "_final")):
            assert f"`{path.name}`" in readme
            assert f"- {path.stem} (" in readme
            assert path.read_text("utf-8").startswith("# ")


def test_the_bands_are_one_hop_through_that_crystal(repository: Path) -> None:
    folder = repository / "examples"
    readings = [
        read_band_file(file(folder, f"LiFePO4_{name}"), LIMITS) for name in ("band.json", "band.extxyz", "neb.zip")
    ]
    initial, final = (file(folder, f"LiFePO4_{end}.cif") for end in ("initial", "final"))
    readings += [read_end_points(initial, final, LIMITS, ion=ion) for ion in (None, "Li", "Li+")]
    for reading in readings:
        band = reading.band
        assert reading.warnings == ()
        assert band.hop_distance_angstrom == pytest.approx(3.005, abs=2e-3)
        for end in (0, -1):
            frac = np.vstack([band.image_frac_coords[end : end + 1 or None], band.host_frac_coords])
            check_bonds(band.lattice_angstrom, (band.ion, *band.host_species), frac, OLIVINE)
