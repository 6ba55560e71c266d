"""Symmetry-distinct hops, counted by another program: pymatgen-analysis-diffusion's migration graph."""

import warnings
from pathlib import Path

import pytest
from made_crystals import spinel
from pymatgen.core import Lattice, Structure

from app.crystals.crystal import Crystal
from app.crystals.hops.options import HopOptions
from app.crystals.hops.search import find_hops
from app.crystals.limits import Limits
from app.crystals.readers.crystal_file import read_crystal
from app.crystals.readers.reading import File

#: Between shells of neighbours, so that rounding moves no hop across it.
CUTOFF_ANGSTROM = 4.95
#: The garnet has a thousand hops within the other cutoff, and the other program compares each with each for an hour.
GARNET_CUTOFF_ANGSTROM = 2.6


def others_count(crystal: Crystal, ion: str, cutoff_angstrom: float = CUTOFF_ANGSTROM) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it uses what its own dependencies have announced to drop
        from pymatgen.analysis.diffusion.neb.full_path_mapper import MigrationGraph  # noqa: PLC0415

        structure = Structure(
            Lattice(crystal.lattice_angstrom),
            [site.species[0][0] for site in crystal.sites],
            [site.frac_coords for site in crystal.sites],
        )
        graph = MigrationGraph.with_distance(structure.get_primitive_structure(), ion, cutoff_angstrom)
        return len(graph.unique_hops)


def own_count(crystal: Crystal, ion: str, cutoff_angstrom: float = CUTOFF_ANGSTROM) -> int:
    found = find_hops(crystal, ion, HopOptions(max_hop_angstrom=cutoff_angstrom), max_atoms=2000)
    return len({edge.orbit for edge in found.all_hops})  # before any is excluded


SHIPPED = {"LiFePO4": "Li", "LiCoO2": "Li", "Li7La3Zr2O12": "Li", "Na3PS4": "Na", "MgMn2O4": "Mg"}


def test_every_example_is_counted(repository: Path) -> None:
    paths = (repository / "examples").glob("*.cif")
    assert {path.stem for path in paths if not path.stem.endswith(("_initial", "_final"))} == SHIPPED.keys()


@pytest.mark.parametrize("name", SHIPPED)
def test_an_example_has_as_many_distinct_hops(repository: Path, name: str) -> None:
    path = repository / "examples" / f"{name}.cif"
    crystal = read_crystal(File(name=path.name, content=path.read_bytes()), Limits())
    cutoff = GARNET_CUTOFF_ANGSTROM if "La3Zr2" in name else CUTOFF_ANGSTROM
    assert own_count(crystal, SHIPPED[name], cutoff) == others_count(crystal, SHIPPED[name], cutoff) > 0


def test_a_spinel_has_as_many_too() -> None:
    assert own_count(spinel(), "Mg") == others_count(spinel(), "Mg")
