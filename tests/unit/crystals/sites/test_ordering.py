"""Hosts with shared, partly empty and split sites: how they are ordered, and what cannot be."""

import itertools
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_crystals import crystal_of, garnet, layered_oxide, rock_salt
from pymatgen.analysis.bond_valence import PRIOR_PROB
from pymatgen.core import Element, Species

from app.crystals.crystal import Crystal, Site
from app.crystals.geometry.identity import same_band
from app.crystals.geometry.periodic import near_pairs
from app.crystals.hops.options import HopOptions
from app.crystals.hops.search import Hop, HopSearch, find_hops
from app.crystals.sites.electrostatics import pair_energies_ev
from app.crystals.sites.oxidation import counted_states, guess_oxidation_states, usual_charge
from app.errors import InputError


def search(crystal: Crystal, **options: Any) -> HopSearch:
    max_atoms = options.pop("max_atoms", 2000)
    return find_hops(crystal, "Li", HopOptions(**options), max_atoms=max_atoms)


def shared(crystal: Crystal, element: str, contents: tuple[tuple[str, float], ...]) -> Crystal:
    """The same crystal with every site of an element shared out."""
    sites = [replace(site, species=contents) if site.occupancy_of(element) else site for site in crystal.sites]
    return replace(crystal, sites=tuple(sites))


# --- oxidation states ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ({"Li": 1, "Fe": 1, "P": 1, "O": 4}, {"Li": 1, "Fe": 2, "P": 5, "O": -2}),
        ({"Fe": 1, "P": 1, "O": 4}, {"Fe": 3, "P": 5, "O": -2}),
        ({"La": 3, "Li": 6.6, "Zr": 1.6, "Ta": 0.4, "O": 12}, {"La": 3, "Li": 1, "Zr": 4, "Ta": 5, "O": -2}),
        ({"Al": 4, "H": 16, "Li": 4}, {"Al": 3, "H": -1, "Li": 1}),
        ({"Cu": 1, "Au": 3}, None),
    ],
)
def test_oxidation_states_are_the_usual_ones_that_cancel(
    amounts: dict[str, float], expected: dict[str, int] | None
) -> None:
    assert guess_oxidation_states(amounts) == expected


def test_states_and_their_counts_are_those_of_pymatgen() -> None:
    for symbol in ("Li", "O", "Mn", "Fe", "U", "Cl"):
        element = Element(symbol)
        states = set(element.icsd_oxidation_states or element.common_oxidation_states) - {0}
        counts = {state: PRIOR_PROB.get(Species(symbol, state), 0.0) for state in states}
        assert counted_states(symbol) == counts
        assert usual_charge(symbol) == max(counts, key=lambda state: (counts[state], -abs(state)))
    assert counted_states("He") == {}


def test_the_search_for_oxidation_states_is_bounded() -> None:
    many = dict.fromkeys(
        ("Mn", "Fe", "Co", "Ni", "V", "Cr", "Mo", "W", "Ti", "Nb", "Re", "Ru", "O", "S", "P", "N"), 1.3
    )
    guessed = guess_oxidation_states(many)
    assert guessed is not None
    assert guessed.keys() == many.keys()


def test_rock_salt_has_madelung_s_energy() -> None:
    crystal = rock_salt(a=2.0)  # nearest neighbours 1 angstrom apart
    frac = np.array([site.frac_coords for site in crystal.sites])
    charges = np.array([1.0] * 4 + [-1.0] * 4)
    energy = charges @ pair_energies_ev(crystal.lattice_angstrom, frac) @ charges
    assert energy / 4 == pytest.approx(-1.747565 * 14.39964, rel=1e-4)


# --- orderings ----------------------------------------------------------------------------------------------------


def test_atoms_of_one_charge_are_sampled_and_each_sample_has_the_composition() -> None:
    found = search(shared(layered_oxide(), "Co", (("Al", 0.5), ("Ga", 0.5))), max_orderings=4)
    disorder = found.disorder
    assert disorder is not None
    assert disorder.states == {"Al": 3, "Ga": 3, "Li": 1, "O": -2}
    assert disorder.method == "samples"
    assert len({ordering.filled for ordering in disorder.orderings}) == 4
    hop = found.hops[0]
    assert len(hop.bands) == 4
    for band in hop.bands:
        assert band is not None
        counts = Counter(band.host_species)
        assert abs(counts["Al"] - counts["Ga"]) <= 1
        assert counts["Al"] + counts["Ga"] == counts["O"] / 2
    assert any("4 random orderings were predicted" in warning for warning in found.warnings)


def test_the_same_crystal_is_ordered_alike_each_time() -> None:
    crystal = shared(layered_oxide(), "Co", (("Al", 0.5), ("Ga", 0.5)))
    first, second = (search(crystal).disorder for _ in range(2))
    assert first is not None
    assert second is not None
    assert [one.filled for one in first.orderings] == [one.filled for one in second.orderings]


DISORDERED = (
    pytest.param(shared(layered_oxide(), "Co", (("Al", 0.5), ("Ga", 0.5))), id="samples of the host"),
    pytest.param(shared(layered_oxide(), "O", (("O", 0.25),)), id="a host that is blocked in some samples"),
    pytest.param(shared(rock_salt(), "Li", (("Li", 0.25), ("Na", 0.75))), id="sites that the ion shares"),
    pytest.param(shared(rock_salt(), "Li", (("Li", 0.5),)), id="partly occupied sites of the ion"),
    pytest.param(shared(garnet(), "Zr", (("Zr", 0.75), ("Hf", 0.25))), id="garnet"),
)


@pytest.mark.parametrize("crystal", DISORDERED)
def test_a_disordered_crystal_is_the_same_in_any_order_of_its_atoms(crystal: Crystal) -> None:
    sites = list(crystal.sites)
    random.Random(3).shuffle(sites)
    found = search(crystal, max_hops=6)
    left = list(search(replace(crystal, sites=tuple(sites)), max_hops=6).hops)
    assert len(left) == len(found.hops)
    for hop in found.hops:
        same = next((other for other in left if alike(hop, other)), None)
        assert same is not None
        left.remove(same)


@pytest.mark.parametrize("crystal", DISORDERED)
def test_a_hop_of_a_disordered_crystal_is_one_of_its_copies_and_its_band_goes_between_its_sites(
    crystal: Crystal,
) -> None:
    found = search(crystal, max_hops=6)
    copies = {(edge.from_site, edge.to_site, edge.offset): edge.orbit for edge in found.all_hops}
    for number, hop in enumerate(found.hops):
        assert copies[hop.from_site, hop.to_site, hop.offset] == number
        if hop.band is not None:
            start, end = (np.array(found.sites[site].frac_coords) for site in (hop.from_site, hop.to_site))
            vector = (end + hop.offset - start) @ crystal.lattice_angstrom
            assert np.allclose(hop.band.hop_vector_angstrom, vector, atol=1e-6)


def test_each_ordering_has_another_one_of_the_equivalent_hops() -> None:
    (hop, *_) = search(shared(layered_oxide(), "Co", (("Al", 0.5), ("Ga", 0.5))), max_orderings=3).hops
    middles = {
        tuple(np.round(band.image_frac_coords.mean(axis=0) % 1.0, 3) % 1.0) for band in hop.bands if band is not None
    }
    assert len(middles) == len(hop.bands) == 3


def test_the_order_of_the_elements_on_a_site_does_not_matter() -> None:
    oxygen = shared(layered_oxide(), "O", (("O", 0.8), ("S", 0.2)))
    one, other = (search(shared(oxygen, "Co", both)) for both in itertools.permutations((("Al", 0.5), ("Zr", 0.5))))
    assert all(map(alike, one.hops, other.hops))


def test_half_an_ion_is_rounded_alike_in_any_order() -> None:
    """The occupancies add up to 6.5: their sum in floating point is above or below it."""
    occupancies = [*[0.5] * 8, *[0.13] * 8, *[0.73] * 2]
    places = [(0.1 + 0.2 * (k % 5), 0.2 + 0.25 * (k // 5), 0.0) for k in range(len(occupancies))]
    counts = set()
    for seed in (0, 38, 44):
        atoms = [
            Site(species=(("Li", amount),), frac_coords=place)
            for amount, place in zip(occupancies, places, strict=True)
        ]
        random.Random(seed).shuffle(atoms)
        oxygen = Site(species=(("O", 1.0),), frac_coords=(0.0, 0.0, 0.5))
        crystal = Crystal(lattice_angstrom=np.diag([20.0, 16.0, 9.0]), sites=(oxygen, *atoms))
        (band, *_) = [hop.band for hop in search(crystal, max_hops=3).hops if hop.band is not None]
        counts.add(band.host_species.count("Li"))
    assert len(counts) == 1


def alike(one: Hop, other: Hop) -> bool:
    """Whether two hops have the same bands, one in each filling of the host."""
    if len(one.bands) != len(other.bands):
        return False
    pairs = zip(one.bands, other.bands, strict=True)
    return all(a is b is None or (a is not None and b is not None and same_band(a, b)) for a, b in pairs)


def test_few_arrangements_of_unlike_charges_give_the_one_of_lowest_energy() -> None:
    charged = shared(layered_oxide(), "Co", (("Al", 0.8), ("Zr", 0.2)))
    found = search(shared(charged, "Li", (("Li", 0.8),)))
    disorder = found.disorder
    assert disorder is not None
    assert disorder.method == "lowest-energy"
    (ordering,) = disorder.orderings
    assert ordering.energy_ev is not None
    assert ordering.energy_ev < 0
    symbols, frac = ordering.atoms
    charges = np.array([{"Al": 3.0, "Zr": 4.0}[symbol] for symbol in symbols])
    energies = pair_energies_ev(disorder.lattice_angstrom, frac)
    own = charges @ energies @ charges
    assert charges.sum() == 3 * len(charges) + 3
    for chosen in itertools.combinations(range(len(charges)), 3):
        other = np.full(len(charges), 3.0)
        other[list(chosen)] = 4.0
        # the host's other atoms see every place alike, so that the places' own energy decides
        assert own <= other @ energies @ other + 2e-3


def test_partly_empty_frame_sites_lose_as_many_atoms_as_the_formula_says() -> None:
    found = search(shared(layered_oxide(), "Co", (("Co", 0.75),)))
    for band in found.hops[0].bands:
        assert band is not None
        counts = Counter(band.host_species)
        assert counts["Co"] == pytest.approx(0.75 * counts["O"] / 2, abs=0.51)


def test_a_site_that_the_ion_shares_is_a_site_and_the_ends_of_a_hop_are_free() -> None:
    crystal = shared(layered_oxide(), "Li", (("Li", 0.75), ("Mg", 0.25)))
    found = search(crystal)
    assert [site.occupancy for site in found.sites] == [0.75] * 3
    assert all(site.shared_with == (("Mg", 0.25),) for site in found.sites)
    assert [hop.excluded_because is None for hop in found.hops] == [True, True, False]
    for band in found.hops[0].bands:
        assert band is not None
        counts = Counter(band.host_species)
        assert counts["Mg"] == 4  # a quarter of fifteen
        assert counts["Mg"] + counts["Li"] + 2 == counts["Co"]  # one Li hops and one place is empty
        assert not len(near_pairs(band.host_frac_coords, band.image_frac_coords, band.lattice_angstrom, 1.2)[0])
    assert any("another atom closes its site" in warning for warning in found.warnings)


def test_an_ion_that_is_rare_on_its_sites_finds_room_too() -> None:
    found = search(shared(layered_oxide(), "Li", (("Li", 0.02), ("Na", 0.98))))
    assert all(band is not None for hop in found.hops[:1] for band in hop.bands)


def test_equal_hops_of_the_mean_crystal_stay_equal() -> None:
    plain, mixed = search(layered_oxide()), search(shared(layered_oxide(), "Co", (("Al", 0.5), ("Ga", 0.5))))
    assert [hop.multiplicity for hop in mixed.hops] == [hop.multiplicity for hop in plain.hops]
    assert mixed.all_hops == plain.all_hops


def test_split_places_of_a_frame_atom_are_one_site() -> None:
    crystal = rock_salt()
    others = [site for site in crystal.sites if not site.occupancy_of("Cl")]
    places = []
    for site in crystal.sites:
        for away in (0.06, -0.06) if site.occupancy_of("Cl") else ():
            x, y, z = site.frac_coords
            places.append(Site(species=(("Cl", 0.5),), frac_coords=((x + away) % 1.0, y, z)))
    found = search(replace(crystal, sites=(*others, *places)))
    plain = search(crystal)
    assert found.disorder is None
    assert [hop.multiplicity for hop in found.hops] == [hop.multiplicity for hop in plain.hops]
    assert any("4 Cl sites are split into places less than 1.3 angstrom apart" in text for text in found.warnings)


def test_places_that_exclude_each_other_and_should_all_be_filled_are_named() -> None:
    ring = [("O", (0.5 + 0.07 * np.cos(a), 0.5 + 0.07 * np.sin(a), 0.5)) for a in np.linspace(0, 2 * np.pi, 13)[:-1]]
    atoms = [("Li", (0.0, 0.0, 0.0)), ("Zr", (0.0, 0.5, 0.0))]
    crystal = crystal_of(np.eye(3) * 10.0, [(s, (float(x), float(y), float(z))) for s, (x, y, z) in [*atoms, *ring]])
    half = shared(crystal, "O", (("O", 0.5),))
    with pytest.raises(InputError, match="cannot be filled as their occupancies say") as refused:
        search(half)
    assert (refused.value.kind, refused.value.where) == ("mixed-sites", "structure")
    assert "O 0.5 at (0.465, 0.439, 0.500)" in refused.value.detail
    assert "and 6 more" in refused.value.detail


def anatase() -> Crystal:
    """TiO2 (I41/amd, a 3.785, c 9.514, z 0.2081), which takes lithium up."""
    base = [("Ti", (0, 0, 0)), ("Ti", (0, 0.5, 0.25))]
    base += [("O", (0, 0, z)) for z in (0.2081, -0.2081)] + [("O", (0, 0.5, 0.25 + z)) for z in (0.2081, -0.2081)]
    atoms = [
        (symbol, ((x + half) % 1, (y + half) % 1, (z + half) % 1)) for symbol, (x, y, z) in base for half in (0, 0.5)
    ]
    return crystal_of(np.diag([3.785, 3.785, 9.514]), atoms)


def test_a_disordered_host_without_the_ion_is_ordered_too() -> None:
    found = search(shared(anatase(), "Ti", (("Ti", 0.9), ("Zr", 0.1))), max_hops=2)
    assert found.hops
