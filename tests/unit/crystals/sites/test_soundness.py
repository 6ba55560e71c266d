"""Wrong cells, by the file's volume and by bonds; wrong elements and places, by bonds; missing atoms, by charge."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from composed import composed_bands
from made_crystals import crystal_of, fluorite, rock_salt

from app.crystals.band import Band, model_band
from app.crystals.crystal import Crystal
from app.crystals.geometry.periodic import near_pairs
from app.crystals.hops.search import find_hops
from app.crystals.limits import Limits
from app.crystals.readers import read_crystal
from app.crystals.readers.reading import File
from app.crystals.sites.oxidation import missing_anion_charge, missing_cation_charge
from app.crystals.sites.soundness import BondFaults, band_faults, bond_faults
from app.crystals.writers import band_to_json
from app.serving.reading.upload_reader import ReadOptions, read_upload
from app.serving.reading.uploads import JsonBandUpload, StoredUpload

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


@pytest.mark.parametrize(
    ("wrong", "symbol"),
    [
        ({"0.21778000": "0.11778000"}, "O"),  # x of iron
        ({"0.41820000": "0.49820000"}, "O"),  # z of phosphorus
        ({"0.09486000": "0.05486000"}, "O"),  # x of phosphorus
        ({"  Fe  Fe1": "  Ba  Ba1", "FePO4": "BaPO4", "Fe4": "Ba4"}, "Ba"),
    ],
)
def test_a_wrong_digit_or_element_that_overbonds_a_site_is_noticed(
    repository: Path, wrong: dict[str, str], symbol: str
) -> None:
    crystal = example(repository, "LiFePO4.cif", *wrong.items())
    found = bond_faults(crystal)
    assert found.overbonded is not None
    assert found.overbonded.symbol == symbol
    search = find_hops(crystal, "Li", max_atoms=2000)
    assert all(f"{symbol} is overbonded" in (hop.doubt or "") for hop in search.hops)
    assert any("is this position, or one beside it, right" in warning for warning in search.warnings)


@pytest.mark.parametrize("name", EXAMPLES)
def test_published_crystals_have_no_overbonded_site(repository: Path, name: str) -> None:
    assert bond_faults(example(repository, name)).overbonded is None


def test_the_sites_of_a_disordered_crystal_are_not_judged_one_by_one(repository: Path) -> None:
    crystal = example(repository, "LiFePO4.cif", ("0.21778000", "0.11778000"))
    partly = replace(crystal.sites[0], species=(("Li", 0.9),))
    assert bond_faults(replace(crystal, sites=(partly, *crystal.sites[1:]))).overbonded is None


def with_host(band: Band, **elements: str | None) -> Band:
    """The same band with elements of its host in place of others, or left out."""
    kept = [k for k, symbol in enumerate(band.host_species) if elements.get(symbol, symbol) is not None]
    species = (elements.get(band.host_species[k], band.host_species[k]) for k in kept)
    return replace(
        band, host_species=tuple(symbol for symbol in species if symbol), host_frac_coords=band.host_frac_coords[kept]
    )


OLIVINE = composed_bands()["LiFePO4 1"]


@pytest.mark.parametrize(
    ("band", "words"),
    [
        (with_host(OLIVINE, Fe="P", P="Fe"), "seem to be swapped"),
        (replace(OLIVINE, lattice_angstrom=1.15 * OLIVINE.lattice_angstrom), "bonds are too long"),
        (replace(OLIVINE, lattice_angstrom=0.9 * OLIVINE.lattice_angstrom), "bonds are too short"),
        (with_host(OLIVINE, P=None), "lacks a positive charge"),
        (with_host(OLIVINE, Fe="Si"), "lacks a negative charge"),
        (with_host(OLIVINE, Fe="Ba"), "Ba is overbonded"),
    ],
)
def test_a_band_is_held_to_what_a_crystal_is(band: Band, words: str) -> None:
    upload = JsonBandUpload(payload=orjson.dumps(band_to_json(band)))
    read = read_upload(upload, ReadOptions(limits=Limits()))
    assert words in (read.doubt or "")
    assert any("Nothing is in the domain." in warning for warning in read.warnings)
    assert read.packed is not None
    again = read_upload(StoredUpload(packed=read.packed), ReadOptions(limits=Limits()))
    assert again.doubt == read.doubt


@pytest.mark.parametrize(("order", "doubted"), [([0, 1, 2, 3, 4], None), ([0, 3, 1, 2, 4], "from image 1 to 2")])
def test_images_that_are_not_in_order_put_a_band_out_of_the_domain(order: list[int], doubted: str | None) -> None:
    band = replace(OLIVINE, image_frac_coords=model_band(OLIVINE).image_frac_coords[order])
    read = read_upload(JsonBandUpload(payload=orjson.dumps(band_to_json(band))), ReadOptions(limits=Limits()))
    assert (doubted in (read.doubt or "")) if doubted else read.doubt is None


def test_a_band_with_atoms_too_near_each_other_is_out_of_the_domain() -> None:
    places = OLIVINE.host_frac_coords.copy()
    pairs, lengths = near_pairs(places, None, OLIVINE.lattice_angstrom, 1.7)
    (one, other), length = pairs[0], lengths[0]
    assert {OLIVINE.host_species[one], OLIVINE.host_species[other]} == {"P", "O"}
    towards = places[one] - places[other]
    places[other] += (towards - np.rint(towards)) * (1.0 - 1.05 / length)
    upload = JsonBandUpload(payload=orjson.dumps(band_to_json(replace(OLIVINE, host_frac_coords=places))))
    doubt = read_upload(upload, ReadOptions(limits=Limits())).doubt
    assert "1.05 angstrom apart, nearer than such atoms are in crystals" in (doubt or "")


def test_bands_of_published_crystals_are_sound() -> None:
    for band in composed_bands().values():
        assert band_faults(band) == BondFaults()


@pytest.mark.parametrize(
    ("amounts", "missing"),
    [
        ({"Li": 4, "Fe": 4, "P": 4, "O": 16}, 0.0),
        ({"Fe": 4, "P": 4, "O": 16}, 0.0),
        ({"Li": 1, "Ni": 2, "O": 4}, 0.0),  # Ni3.5+, as delithiated
        ({"Co": 1, "O": 2}, 0.0),
        ({"Li": 1, "I": 1, "O": 3}, 0.0),
        ({"Li": 3, "P": 1, "S": 4}, 0.0),
        ({"Mg": 2, "Ge": 1}, 0.0),
        ({"Li": 4, "P": 4, "O": 16}, 8 / 24),  # without Fe
        ({"Na": 2, "C": 1, "O": 13}, 20 / 16),  # soda without the hydrogen of its water
        ({"Li": 1, "O": 1}, 0.5),
        ({"Li": 5, "P": 1, "S": 6}, 2 / 12),
        ({"Li": 2, "Nb": 4, "O": 14}, 6 / 20),  # of Nb5+, without La
        ({"K": 2, "Te": 1, "Cl": 6}, 0.0),  # Te4+
        ({"K": 2, "Fe": 1, "O": 4}, 0.0),  # Fe6+
        ({"Os": 1, "O": 4}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_charge_of_atoms_that_are_not_listed_is_missing(amounts: dict[str, float], missing: float) -> None:
    assert missing_cation_charge(amounts) == pytest.approx(missing)


@pytest.mark.parametrize(
    ("amounts", "missing"),
    [
        ({"Li": 4, "Fe": 4, "P": 4, "O": 16}, 0.0),
        ({"Li": 1, "Mn": 2, "O": 4}, 0.0),
        ({"Li": 6, "P": 1, "S": 5, "Cl": 1}, 0.0),
        ({"Li": 4, "P": 2, "S": 6}, 0.0),  # P4+, two bonded
        ({"Mo": 6, "S": 8, "Mg": 2}, 0.0),  # Mo2+ in clusters
        ({"Li": 3, "N": 1}, 0.0),
        ({"Li": 13, "Si": 4}, 0.0),  # a metal
        ({"Ca": 2, "N": 1}, 0.0),  # an electride
        ({"La": 1, "S": 1}, 0.0),  # electrons in bands
        ({"Fe": 1, "As": 1, "S": 1}, 0.0),  # As and S are bonded
        ({"Np": 1, "O": 2}, 0.0),  # of unknown states
        ({}, 0.0),
        ({"Li": 1, "B": 1, "H": 4}, 0.0),
        ({"Na": 2, "P": 1, "H": 1, "O": 3}, 0.0),  # P3+
        ({"Li": 1, "C": 1, "N": 1}, 0.0),
        ({"Li": 4, "Fe": 4, "P": 4, "O": 12}, 4 / 24),  # without an oxygen of the asymmetric unit
        ({"Li": 36, "Al": 12, "F": 64}, 8 / 112),
        ({"Li": 1, "Fe": 2, "P": 1, "O": 4}, 1 / 8),
        ({"Li": 1, "Si": 1, "P": 1, "O": 4}, 1 / 7),  # Si for Fe
    ],
)
def test_the_charge_of_anions_that_are_not_listed_is_missing(amounts: dict[str, float], missing: float) -> None:
    assert missing_anion_charge(amounts) == pytest.approx(missing)


@pytest.mark.parametrize("row", ["  O  O3", "  O  O4", "  O  O5"])
def test_a_crystal_without_one_of_its_anions_is_out_of_the_domain_and_it_is_said(repository: Path, row: str) -> None:
    lines = (repository / "examples" / "LiFePO4.cif").read_text().splitlines()
    without = [line for line in lines if not line.startswith((row, "_chemical_formula", "_cell_volume"))]
    assert len(without) < len(lines)
    crystal = read_crystal(File(name="lost.cif", content="\n".join(without).encode()), Limits(), None)
    search = find_hops(crystal, "Li", max_atoms=2000)
    assert all("atoms seem to be missing: it lacks a negative" in (hop.doubt or "") for hop in search.hops)
    assert any("Negative charge is missing" in warning for warning in search.warnings)


def test_a_crystal_without_one_of_its_cations_is_out_of_the_domain_and_it_is_said(repository: Path) -> None:
    crystal = example(repository, "LiFePO4.cif")
    without = replace(crystal, sites=tuple(site for site in crystal.sites if not site.occupancy_of("P")))
    search = find_hops(without, "Li", max_atoms=2000)
    assert all("atoms seem to be missing" in (hop.doubt or "") for hop in search.hops)
    assert any("Positive charge is missing" in warning for warning in search.warnings)


@pytest.mark.parametrize(("apart", "missing"), [(3.0, -1.0), (2.2, None)])
def test_cations_that_are_bonded_to_each_other_lack_no_charge(apart: float, missing: float | None) -> None:
    places = [("P", (0.5, 0.5, 0.5 - apart / 12.0)), ("P", (0.5, 0.5, 0.5 + apart / 12.0))]
    atoms = [*places, ("O", (0.0, 0.0, 0.0)), ("O", (0.0, 0.5, 0.0))]
    assert bond_faults(crystal_of(np.diag([6.0, 6.0, 6.0]), atoms)).missing_charge == missing


def test_peroxides_lack_no_charge() -> None:
    """Li2O2: the same number of anions as of lithium, two and two bonded."""
    lattice = np.diag([3.15, 3.15, 7.65])
    places = {"Li": [(0.0, 0.0, 0.0), (0.5, 0.5, 0.5)], "O": [(0.5, 0.0, 0.15), (0.5, 0.0, 0.15 + 1.55 / 7.65)]}
    atoms = [(symbol, place) for symbol, listed in places.items() for place in listed]
    assert bond_faults(crystal_of(lattice, atoms)).missing_charge is None
    apart = [(symbol, (x, y, z + 0.2 * (symbol == "O" and z > 0.3))) for symbol, (x, y, z) in atoms]
    assert bond_faults(crystal_of(lattice, apart)).missing_charge == pytest.approx(0.5)


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
