"""Cells of a wrong size, by the file's own volume and by bonds; and elements that are swapped, by bonds."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_crystals import fluorite, rock_salt

from app.crystals.crystal import Crystal
from app.crystals.hops.search import find_hops
from app.crystals.limits import Limits
from app.crystals.readers import read_crystal
from app.crystals.readers.reading import File
from app.crystals.sites.soundness import bond_faults

EXAMPLES = ("LiFePO4.cif", "LiCoO2.cif", "Li7La3Zr2O12.cif", "MgMn2O4.cif", "Na3PS4.cif")


def example(repository: Path, name: str, *changes: tuple[str, str]) -> Crystal:
    text = (repository / "examples" / name).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return read_crystal(File(name=name, content=text.encode()), Limits(), None)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("factor", [1.15, 1.25, 1.8897])
def test_lengths_that_are_too_long_are_noticed(repository: Path, name: str, factor: float) -> None:
    """As of a cell in bohr."""
    crystal = example(repository, name)
    assert bond_faults(crystal).strained_share is None
    share = bond_faults(replace(crystal, lattice_angstrom=factor * crystal.lattice_angstrom)).strained_share
    assert share is not None
    assert 0.0 <= share < 0.5


@pytest.mark.parametrize(
    "crystal",
    [
        pytest.param(rock_salt(a=5.501, other="Br"), id="LiBr"),
        pytest.param(rock_salt(a=6.026, other="I"), id="LiI"),
        pytest.param(fluorite(a=6.436, ion="O", other="K"), id="K2O"),
        pytest.param(fluorite(a=6.74, ion="O", other="Rb"), id="Rb2O"),
    ],
)
def test_salts_of_soft_ions_with_their_published_lattice_parameters_are_not_too_long(crystal: Crystal) -> None:
    assert bond_faults(crystal).strained_share is None
    assert bond_faults(replace(crystal, lattice_angstrom=1.15 * crystal.lattice_angstrom)).strained_share is not None


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("factor", [0.85, 0.9])
def test_lengths_that_are_too_short_are_noticed(repository: Path, name: str, factor: float) -> None:
    crystal = example(repository, name)
    share = bond_faults(replace(crystal, lattice_angstrom=factor * crystal.lattice_angstrom)).strained_share
    assert share is not None
    assert share > 1.3


def test_hops_of_a_stretched_crystal_are_out_of_the_domain_and_it_is_said(repository: Path) -> None:
    crystal = example(repository, "LiFePO4.cif")
    assert not any(hop.doubt for hop in find_hops(crystal, "Li", max_atoms=2000).hops)
    stretched = replace(crystal, lattice_angstrom=1.15 * crystal.lattice_angstrom)
    search = find_hops(stretched, "Li", max_atoms=2000)
    assert search.hops
    assert all("bonds are too long" in (hop.doubt or "") for hop in search.hops)
    assert any("in angstrom?" in warning for warning in search.warnings)
    squeezed = find_hops(replace(crystal, lattice_angstrom=0.9 * crystal.lattice_angstrom), "Li", max_atoms=2000)
    assert all("bonds are too short" in (hop.doubt or "") for hop in squeezed.hops)
    assert any("unusually near each other" in warning for warning in squeezed.warnings)


def with_elements(crystal: Crystal, swapped: dict[str, str]) -> Crystal:
    """The same crystal with some elements in place of others."""
    sites = (
        replace(site, species=tuple((swapped.get(symbol, symbol), amount) for symbol, amount in site.species))
        for site in crystal.sites
    )
    return replace(crystal, sites=tuple(sites))


@pytest.mark.parametrize(
    ("name", "pair"), [("LiFePO4.cif", ("Fe", "P")), ("LiFePO4.cif", ("Li", "P")), ("Li7La3Zr2O12.cif", ("La", "Li"))]
)
def test_swapped_elements_are_noticed(repository: Path, name: str, pair: tuple[str, str]) -> None:
    crystal = example(repository, name)
    swapped = with_elements(crystal, {pair[0]: pair[1], pair[1]: pair[0]})
    found = bond_faults(swapped).swapped
    assert found is not None
    assert {found.overbonded, found.underbonded} == set(pair)
    search = find_hops(swapped, "Li", max_atoms=2000)
    assert all("swapped" in (hop.doubt or "") for hop in search.hops)
    assert any("are the two elements swapped in the file?" in warning for warning in search.warnings)


@pytest.mark.parametrize("name", EXAMPLES)
def test_elements_in_their_places_are_not_taken_for_swapped(repository: Path, name: str) -> None:
    assert bond_faults(example(repository, name)).swapped is None


def test_a_cell_that_is_not_of_its_own_volume_is_out_of_the_domain_and_it_is_said(repository: Path) -> None:
    """The digits of a are swapped."""
    crystal = example(repository, "LiFePO4.cif", ("_cell_length_a   10.332", "_cell_length_a   13.032"))
    search = find_hops(crystal, "Li", max_atoms=2000)
    assert any("367.5 cubic angstrom, and _cell_volume is 291.4" in warning for warning in search.warnings)
    assert all("_cell_volume is 291.4" in (hop.doubt or "") for hop in search.hops)


@pytest.mark.parametrize("volume", ["291.3(6)", "290.0", "?", ".", "0", "about 291"])
def test_a_volume_that_is_rounded_or_not_given_contradicts_nothing(repository: Path, volume: str) -> None:
    crystal = example(repository, "LiFePO4.cif", ("291.35124144", f"'{volume}'"))
    assert not crystal.doubts
    assert not crystal.warnings
