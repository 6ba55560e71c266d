"""The hops of crystals with known structures, and of the published bands' own crystals."""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from band_files import band_to_cif_end_points
from made_crystals import crystal_of, layered_oxide, repeated, rock_salt, spinel
from put_back import congruent, own_hop, perfect_crystal, row_band

from app.crystals.band import Band, FloatArray
from app.crystals.crystal import Crystal, Site
from app.crystals.geometry.distances import clearances_angstrom, nearest_vectors
from app.crystals.geometry.lattices import shortest_translation_angstrom
from app.crystals.hops.bands import PlacedHop, hop_band
from app.crystals.hops.options import HopOptions
from app.crystals.hops.percolation import percolation
from app.crystals.hops.search import HopSearch, find_hops
from app.crystals.limits import Limits
from app.crystals.readers.crystal_file import read_crystal
from app.crystals.readers.reading import File
from app.crystals.sites.filling import CROWDED_ANGSTROM
from app.crystals.sites.ion_sites import split
from app.crystals.sites.supercell import choose_supercell
from app.errors import InputError, TooLargeError

Rows = Sequence[Mapping[str, Any]]


def search(crystal: Crystal, ion: str | None = "Li", **options: Any) -> HopSearch:
    """Hops that pass an atom closely are kept: most of these tests are about geometry."""
    max_atoms = options.pop("max_atoms", 2000)
    return find_hops(crystal, ion, HopOptions(**{"include_close_hops": True, **options}), max_atoms=max_atoms)


def moved(crystal: Crystal, shift: tuple[float, float, float], seed: int) -> Crystal:
    """The same crystal with another origin and order of atoms."""
    sites = [
        replace(
            site,
            frac_coords=(
                site.frac_coords[0] + shift[0],
                site.frac_coords[1] + shift[1],
                site.frac_coords[2] + shift[2],
            ),
        )
        for site in crystal.sites
    ]
    random.Random(seed).shuffle(sites)
    return replace(crystal, sites=tuple(sites))


def distances_from(band: Band, frac_coords: FloatArray) -> FloatArray:
    """From a place to the nearest copy of each host atom, angstrom."""
    vectors = (band.host_frac_coords - frac_coords) @ band.lattice_angstrom
    return np.asarray(np.linalg.norm(nearest_vectors(band.lattice_angstrom, vectors), axis=1))


# --- crystals with known hops ---------------------------------------------------------------------------------


def test_a_layered_oxide_has_the_hops_that_its_geometry_says() -> None:
    a, c = 2.816, 14.05
    found = search(layered_oxide(a=a, c=c))
    expected = [(a, 9), (a * 3**0.5, 9), ((a**2 / 3 + c**2 / 9) ** 0.5, 9)]
    assert [hop.distance_angstrom for hop in found.hops] == pytest.approx([distance for distance, _ in expected])
    assert [hop.multiplicity for hop in found.hops] == [multiplicity for _, multiplicity in expected]
    assert len(found.sites) == 3
    assert not found.truncated


def test_its_bands_are_the_crystal_with_one_ion_less() -> None:
    found = search(layered_oxide())
    for hop in found.hops:
        assert hop.band is not None
        counts = Counter(hop.band.host_species)
        assert counts["Co"] * 2 == counts["O"]
        assert counts["Li"] == counts["Co"] - 2  # one hops and one is missing
        assert shortest_translation_angstrom(hop.band.lattice_angstrom) >= 8.0
        assert hop.band.hop_distance_angstrom == pytest.approx(hop.distance_angstrom)
        assert hop.band.image_frac_coords.shape == (5, 3)
        # LiO6 octahedra: six oxygen at 2.10 angstrom around either end
        around = distances_from(hop.band, hop.band.image_frac_coords[0])
        assert np.sum(np.abs(around - 2.10) < 0.02) == 6


def test_a_hop_ends_at_its_site_and_offset() -> None:
    crystal = layered_oxide()
    for hop in search(crystal).hops:
        start = np.array(search(crystal).sites[hop.from_site].frac_coords)
        end = np.array(search(crystal).sites[hop.to_site].frac_coords) + hop.offset
        vector = (end - start) @ crystal.lattice_angstrom
        assert np.linalg.norm(vector) == pytest.approx(hop.distance_angstrom)
        assert hop.band is not None
        assert np.allclose(hop.band.hop_vector_angstrom, vector, atol=1e-6)


def test_dilute_takes_the_other_ions_out_and_vacancy_keeps_them() -> None:
    crystal = layered_oxide()
    dilute, vacancy, automatic = (search(crystal, mechanism=m) for m in ("dilute", "vacancy", "auto"))
    assert dilute.hops[0].band is not None
    assert "Li" not in dilute.hops[0].band.host_species
    assert vacancy.hops[0].band is not None
    assert "Li" in vacancy.hops[0].band.host_species
    assert (dilute.mechanism, vacancy.mechanism, automatic.mechanism) == ("dilute", "vacancy", "vacancy")
    assert not any("mechanism" in text for text in (*dilute.warnings, *vacancy.warnings, *automatic.warnings))


def test_that_the_other_ions_stay_is_reported_where_they_might_not() -> None:
    """Of an ion of two charges, and where few of the ion's sites are filled, the empty host is as usual a question."""
    warning = "mechanism is vacancy, as {} is part of the uploaded crystal"
    multivalent = find_hops(spinel(), "Mg", max_atoms=2000)
    assert any(warning.format("Mg") in text for text in multivalent.warnings)
    crystal = layered_oxide()
    few = replace(
        crystal,
        sites=tuple(
            replace(site, species=(("Li", 0.4),)) if site.occupancy_of("Li") else site for site in crystal.sites
        ),
    )
    assert any(warning.format("Li") in text for text in search(few).warnings)
    assert not any(warning.format("Li") in text for text in search(few, mechanism="vacancy").warnings)


def test_interstitial_sites_are_not_advised_where_they_were_looked_for() -> None:
    plain, looked = (search(layered_oxide(), max_hop_angstrom=1.5, interstitials=asked) for asked in (False, True))
    assert not plain.hops
    assert any("interstitials=true" in text for text in plain.warnings)
    assert not looked.hops
    assert any("Ask for a longer max_hop_angstrom." in text for text in looked.warnings)
    assert not any("interstitials=true" in text for text in looked.warnings)


def test_a_hop_that_passes_an_atom_closely_is_listed_and_predicted_only_when_asked_for() -> None:
    kept, asked = (search(layered_oxide(), include_close_hops=asked) for asked in (False, True))
    assert [hop.excluded_because is None for hop in kept.hops] == [True, True, False]
    between_layers = kept.hops[2]
    assert between_layers.band is None
    assert between_layers.excluded_because is not None
    assert "passes O at 1.10 angstrom, nearer than 1.2" in between_layers.excluded_because
    assert "include_close_hops=true" in between_layers.excluded_because
    assert not between_layers.left_out
    band = asked.hops[2].band
    assert band is not None
    assert clearances_angstrom(band, 1.5)[1].min() == pytest.approx(1.10, abs=0.005)


def test_a_hop_through_another_ion_is_listed_but_not_predicted() -> None:
    found = search(layered_oxide(), max_hop_angstrom=5.7)
    (through,) = [hop for hop in found.hops if abs(hop.distance_angstrom - 2 * 2.816) < 1e-6]
    assert through.band is None
    assert through.excluded_because is not None
    assert "Li" in through.excluded_because
    assert "0.00 angstrom" in through.excluded_because
    predicted = [0.3 if hop.band else None for hop in found.hops]
    assert percolation(found.all_hops, predicted).two_d == 0.3


def test_layers_percolate_in_two_dimensions_and_between_layers_in_three() -> None:
    found = search(layered_oxide())
    barriers = percolation(found.all_hops, [0.3, 0.6, 2.0])
    assert (barriers.one_d, barriers.two_d, barriers.three_d) == (0.3, 0.3, 2.0)


@pytest.mark.parametrize("times", [(1, 1, 1), (2, 1, 1), (1, 1, 2), (2, 2, 1)])
def test_origin_order_and_larger_cells_change_no_hop(times: tuple[int, int, int]) -> None:
    plain = search(layered_oxide())
    other = search(moved(repeated(layered_oxide(), times), (0.13, 0.71, 0.29), seed=4))
    assert len(other.hops) == len(plain.hops)
    for one, two in zip(plain.hops, other.hops, strict=True):
        assert two.distance_angstrom == pytest.approx(one.distance_angstrom, abs=1e-6)
        assert two.multiplicity == one.multiplicity * np.prod(times)
        assert one.band is not None
        assert two.band is not None
        assert congruent(one.band, two.band, tolerance_angstrom=1e-5)


def test_a_hop_to_the_sites_own_copy_gets_a_supercell_in_which_the_copy_is_another_atom() -> None:
    crystal = crystal_of(np.eye(3) * 8.2, [("K", (0.0, 0.0, 0.0)), ("I", (0.5, 0.5, 0.5))])
    found = search(crystal, "K", max_hop_angstrom=8.3)
    (own,) = found.hops
    assert (own.from_site, own.to_site, own.multiplicity) == (0, 0, 3)
    band = own.band
    assert band is not None
    assert band.hop_distance_angstrom == pytest.approx(8.2)
    steps = band.image_frac_coords[-1] - band.image_frac_coords[0]
    assert np.abs(steps - np.rint(steps)).max() > 0.1
    assert Counter(band.host_species)["I"] == Counter(band.host_species)["K"] + 2


def test_only_the_shortest_hops_are_listed_and_the_answer_says_so() -> None:
    found = search(layered_oxide(), max_hops=1)
    assert found.truncated
    assert len(found.hops) == 1
    assert max(edge.orbit for edge in found.all_hops) == 2
    (offer,) = [warning for warning in found.warnings if "3 distinct hops" in warning]
    assert "upper bounds" in offer
    assert "Prefer: respond-async" in offer
    assert "max_hops=3" in offer


def test_sites_too_far_apart_have_no_hop() -> None:
    found = search(layered_oxide(), max_hop_angstrom=2.0)
    assert found.hops == ()
    assert found.all_hops == ()
    assert any("no hop" in warning for warning in found.warnings)


# --- orbits ----------------------------------------------------------------------------------------------------


def every_hop(found: HopSearch, crystal: Crystal, ion: str) -> list[tuple[int, Band]]:
    lattices = split(crystal, ion)
    cell = choose_supercell(lattices, max_atoms=2000)
    return [
        (edge.orbit, hop_band(lattices, cell, PlacedHop(edge=edge), mechanism=found.mechanism, max_atoms=2000))
        for edge in found.all_hops
    ]


def test_orbits_hold_every_hop_once_and_their_members_are_congruent(data_rows: Rows) -> None:
    row = next(row for row in data_rows if row["id"] == "MgFe2O4")
    crystal = perfect_crystal(row_band(row))
    cases = [(rock_salt(), "Li", "dilute"), (layered_oxide(), "Li", "dilute"), (crystal, "Mg", "vacancy")]
    for structure, ion, mechanism in cases:
        found = search(structure, ion, mechanism=mechanism)
        assert [h.multiplicity for h in found.hops] == [
            count for _, count in sorted(Counter(e.orbit for e in found.all_hops).items())
        ]
        edges = {(e.from_site, e.to_site, e.offset) for e in found.all_hops}
        assert len(edges) == len(found.all_hops)
        for orbit, band in random.Random(2).sample(every_hop(found, structure, ion), 9):
            chosen = found.hops[orbit].band
            assert chosen is not None
            assert congruent(chosen, band, tolerance_angstrom=0.02)


def test_every_pair_of_sites_in_reach_is_a_hop() -> None:
    crystal = moved(repeated(rock_salt(), (1, 2, 1)), (0.9, 0.4, 0.2), seed=1)
    found = search(crystal, max_hop_angstrom=5.2)
    coords = np.array([site.frac_coords for site in found.sites])
    cells = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    ends = coords[None, :, None] + cells - coords[:, None, None]
    lengths = np.linalg.norm(ends @ crystal.lattice_angstrom, axis=-1)
    directed = np.count_nonzero((lengths < 5.2) & (lengths > 1e-6))
    assert len(found.all_hops) == directed // 2


# --- disorder ---------------------------------------------------------------------------------------------------


def half_filled() -> Crystal:
    """Rock salt with half of its lithium, and a lithium site in two places, 1.2 angstrom apart."""
    crystal = rock_salt(a=5.4)
    lithium = [site for site in crystal.sites if site.occupancy_of("Li")]
    others = [site for site in crystal.sites if not site.occupancy_of("Li")]
    halves = [replace(site, species=(("Li", 0.5),)) for site in lithium[1:]]
    split_site = [Site(species=(("Li", 0.25),), frac_coords=(x, 0.0, 0.0)) for x in (0.111, -0.111)]
    return replace(crystal, sites=(*others, *halves, *split_site))


def test_partly_occupied_sites_are_sites_and_are_filled_as_the_formula_says() -> None:
    found = search(half_filled(), mechanism="vacancy")
    assert sorted({site.occupancy for site in found.sites}) == [0.25, 0.5]
    assert any("partly occupied" in warning for warning in found.warnings)
    for hop in found.hops:
        if hop.band is None:
            continue
        counts = Counter(hop.band.host_species)
        assert counts["Li"] == counts["Cl"] / 2 - 1
        lithium = np.array([s == "Li" for s in hop.band.host_species])
        images, _ = clearances_angstrom(hop.band, CROWDED_ANGSTROM)
        assert images[lithium].min() >= CROWDED_ANGSTROM
        frac = hop.band.host_frac_coords[lithium]
        for position in frac:
            assert np.sort(distances_from(hop.band, position)[lithium])[1] >= CROWDED_ANGSTROM


# --- what cannot be answered ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ion", "kind", "words"),
    [
        (None, "no-ion", "Li could be meant"),
        (" ", "no-ion", "Li could be meant"),
        ("Rb", "no-site", "no Rb in this crystal and no interstitial site .* elements are Co, Li, O"),
        ("Xx", "unknown-element", "Xx"),
    ],
)
def test_an_ion_that_is_invalid_is_reported(ion: str | None, kind: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        search(layered_oxide(), ion)
    assert refused.value.kind == kind
    assert refused.value.where == "ion"


def test_a_charge_behind_the_ion_is_ignored() -> None:
    assert search(layered_oxide(), "Li+").ion == "Li"


def test_too_many_atoms_are_refused() -> None:
    with pytest.raises(TooLargeError, match="IONPATH_MAX_ATOMS"):
        search(layered_oxide(), max_atoms=30)


# --- the published bands' own crystals --------------------------------------------------------------------------


def twenty_rows(rows: Rows) -> Rows:
    """Sound rows whose cell is large enough to be kept, a hexagonal and a triclinic one among them."""
    fit = [
        row
        for row in rows
        if row["sound"]
        and row_band(row).hop_distance_angstrom <= 5.0
        and shortest_translation_angstrom(np.array(row["lattice_angstrom"])) >= 8.0
    ]
    systems = {system: [r for r in fit if r["crystal_system"] == system] for system in ("Hexagonal", "Triclinic")}
    rng = random.Random(11)
    return [*(rng.choice(found) for found in systems.values()), *rng.sample(fit, 18)]


def test_twenty_published_hops_are_among_the_hops_of_their_own_crystals(data_rows: Rows) -> None:
    for row in twenty_rows(data_rows):
        band = row_band(row)
        found = search(perfect_crystal(band), band.ion, max_hops=1000)
        hop = own_hop(band, found)
        assert hop is not None, row["id"]
        assert hop.band is not None, row["id"]
        assert hop.band.atom_count == band.atom_count, row["id"]
        assert congruent(hop.band, band, tolerance_angstrom=0.02), row["id"]


def test_a_large_hop_of_a_small_cell_sees_the_same_surroundings_in_the_larger_one(data_rows: Rows) -> None:
    row = next(row for row in data_rows if row["id"] == "e-VOPO4_Li_1")  # 30 atoms, 7.3 angstrom, no other Li
    band = row_band(row)
    longest = band.hop_distance_angstrom + 0.01
    found = search(perfect_crystal(band), band.ion, max_hop_angstrom=longest, mechanism="dilute")
    assert found.mechanism == "dilute"
    hop = own_hop(band, found)
    assert hop is not None
    assert hop.band is not None
    assert shortest_translation_angstrom(hop.band.lattice_angstrom) >= 8.0
    assert congruent(hop.band, band, tolerance_angstrom=0.02)


def test_a_published_hop_survives_the_way_through_a_cif(data_rows: Rows) -> None:
    row = next(row for row in data_rows if row["id"] == "MgFe2O4")
    band = row_band(row)
    filled = replace(
        band,
        host_species=(*band.host_species, band.ion),
        host_frac_coords=np.vstack([band.host_frac_coords, band.image_frac_coords[-1:]]),
    )
    cif, _ = band_to_cif_end_points(filled)
    crystal = read_crystal(File(name="host.cif", content=cif.encode()), Limits())
    hop = own_hop(band, search(crystal, band.ion))
    assert hop is not None
    assert hop.band is not None
    assert congruent(hop.band, band, tolerance_angstrom=0.02)


def test_a_crystal_of_a_hundred_atoms_takes_less_than_a_second(data_rows: Rows) -> None:
    row = next(row for row in data_rows if row["id"] == "MgFe2O4")
    crystal = perfect_crystal(row_band(row))
    begun = time.process_time()
    search(crystal, row["ion"])
    assert time.process_time() - begun < 1.0


def test_one_hop_whose_own_supercell_is_too_large_leaves_the_others() -> None:
    # the ion's own copy is 8.2 angstrom away, and one cell with both has 12 atoms
    atoms = [("K", (0.0, 0.0, 0.0)), ("K", (0.5, 0.0, 0.0)), *(("I", (0.25, 0.5, k / 4)) for k in range(4))]
    crystal = crystal_of(np.eye(3) * 8.2, [(symbol, (x, y, z)) for symbol, (x, y, z) in atoms])
    found = search(crystal, "K", max_hop_angstrom=8.3, max_atoms=8)
    assert found.hops[0].band is not None
    (own, *_) = [hop for hop in found.hops if hop.from_site == hop.to_site]
    assert own.band is None
    assert own.excluded_because is not None
    assert "IONPATH_MAX_ATOMS" in own.excluded_because


@pytest.mark.parametrize("lattice", [np.ones((3, 3)) * 1.755 - np.eye(3) * 3.51, np.eye(3) * 2.0])
def test_the_smallest_cells_are_searched_quickly(lattice: FloatArray) -> None:
    begun = time.process_time()
    assert search(crystal_of(lattice, [("Li", (0.0, 0.0, 0.0)), ("H", (0.5, 0.5, 0.5))])).hops
    assert time.process_time() - begun < 4.0


def test_the_mechanism_is_that_of_the_crystal_in_whatever_cell(data_rows: Rows) -> None:
    """Two Li among many other atoms: as a row's crystal, and with the cell doubled."""
    row = next(row for row in data_rows if row["id"] == "e-VOPO4_Li_1")
    crystal = perfect_crystal(row_band(row))
    assert {search(repeated(crystal, times)).mechanism for times in ((1, 1, 1), (1, 1, 2))} == {"vacancy"}


def sparse() -> Crystal:
    """LiCoO2 four times as large, with one lithium left: its copies are 5.6 angstrom or more apart."""
    small = layered_oxide()
    sites: list[Site] = []
    kept = False
    for site in small.sites:
        for a in (0, 1):
            for b in (0, 1):
                place = np.array(site.frac_coords)
                x, y, z = (float(value) for value in (place + np.array([a, b, 0])) / np.array([2, 2, 1]))
                if site.occupancy_of("Li"):
                    if kept:
                        continue
                    kept = True
                sites.append(replace(site, frac_coords=(x, y, z)))
    return Crystal(lattice_angstrom=small.lattice_angstrom * np.array([[2.0], [2.0], [1.0]]), sites=tuple(sites))


def test_sites_between_are_found_without_being_asked_for_where_the_file_has_no_open_hop() -> None:
    found = find_hops(sparse(), "Li", max_atoms=2000)
    assert sum(not site.is_interstitial for site in found.sites) == 1
    assert any(site.is_interstitial for site in found.sites)
    assert any("sites between them were added" in warning for warning in found.warnings)


def test_sites_that_are_far_apart_ask_for_those_between(repository: Path) -> None:
    """Of LiFePO4 every other lithium of each channel is left out."""
    crystal = lithium_iron_phosphate(repository)
    assert not any("interstitials=true" in warning for warning in search(crystal).warnings)
    kept = [site for site in crystal.sites if not (site.occupancy_of("Li") and site.frac_coords[1] > 0.25)]
    assert len(kept) == len(crystal.sites) - 2
    halved = replace(crystal, sites=tuple(kept))
    assert any("The shortest open hop is 4.7 angstrom long" in warning for warning in search(halved).warnings)
    assert not any("shortest open hop" in warning for warning in search(halved, interstitials=True).warnings)


def lithium_iron_phosphate(repository: Path) -> Crystal:
    content = (repository / "examples" / "LiFePO4.cif").read_bytes()
    return read_crystal(File(name="LiFePO4.cif", content=content), Limits(), "Li")
