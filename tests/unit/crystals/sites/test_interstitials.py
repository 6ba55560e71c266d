"""Interstitial sites of hosts whose sites are known, and hosts that have none."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_crystals import crystal_of, layered_oxide, repeated, rock_salt, spinel
from pymatgen.analysis.bond_valence import BV_PARAMS
from scipy.spatial import Voronoi

from app.crystals.crystal import Crystal
from app.crystals.geometry.periodic import near_pairs
from app.crystals.hops.options import HopOptions
from app.crystals.hops.search import HopSearch, find_hops
from app.crystals.limits import Limits
from app.crystals.readers.crystal_file import read_crystal
from app.crystals.readers.reading import File
from app.crystals.sites.interstitials import _bond_valence_radii, _limiting, _surroundings, bond_lengths
from app.crystals.sites.ion_sites import split
from app.errors import InputError


def without(crystal: Crystal, element: str) -> Crystal:
    return replace(crystal, sites=tuple(site for site in crystal.sites if not site.occupancy_of(element)))


def search(crystal: Crystal, ion: str = "Li", **options: Any) -> HopSearch:
    max_atoms = options.pop("max_atoms", 2000)
    return find_hops(crystal, ion, HopOptions(**options), max_atoms=max_atoms)


def places(found: HopSearch) -> np.ndarray:
    return np.array([site.frac_coords for site in found.sites])


def olivine(repository: Any) -> Crystal:
    content = (repository / "examples" / "LiFePO4.cif").read_bytes()
    return read_crystal(File(name="LiFePO4.cif", content=content), Limits())


@pytest.mark.parametrize("name", ["layered", "olivine", "spinel"])
def test_a_host_without_its_ions_has_sites_where_they_were(name: str, repository: Any) -> None:
    crystal, ion = {
        "layered": (layered_oxide(), "Li"),
        "olivine": (olivine(repository), "Li"),
        "spinel": (spinel(), "Mg"),
    }[name]
    own = np.array([site.frac_coords for site in crystal.sites if site.occupancy_of(ion)])
    found = search(without(crystal, ion), ion)
    pairs, lengths = near_pairs(own, places(found), crystal.lattice_angstrom, 0.5)
    assert set(pairs[:, 0]) == set(range(len(own)))
    assert lengths.max() < 0.05
    assert found.mechanism == "dilute"
    assert any(f"no {ion} in the uploaded crystal" in text for text in found.warnings)
    assert any(f"interstitial sites of {ion}" in text for text in found.warnings)
    assert {site.occupancy for site in found.sites} == {0.0}
    predicted = [hop for hop in found.hops if hop.band is not None]
    assert predicted
    assert all(ion not in hop.band.host_species for hop in predicted if hop.band)


def test_lengths_of_bonds_are_by_the_radii_that_pymatgen_has() -> None:
    expected = {element.symbol: (row["r"], row["c"]) for element, row in BV_PARAMS.items()}
    assert _bond_valence_radii() == expected
    assert bond_lengths("Li", ["O", "Xe"]) == {"O": pytest.approx(1.497, abs=1e-3), "Xe": 0.0}


@pytest.mark.parametrize("name", ["layered", "olivine", "spinel"])
def test_few_atoms_limit_the_empty_spheres_of_a_crystal_and_all_of_them_those_of_a_void(
    name: str, repository: Any
) -> None:
    made = {"layered": layered_oxide(), "spinel": spinel(), "olivine": olivine(repository)}[name]
    around = _surroundings(split(made, "Li"))
    few = _limiting(around)
    assert len(few) < 0.6 * len(around.points_angstrom)
    whole = {tuple(np.round(corner, 3)) for corner in Voronoi(around.points_angstrom).vertices}
    frac = Voronoi(few).vertices @ np.linalg.inv(around.basis_angstrom)
    inside = frac[((frac > 0.0) & (frac < 1.0)).all(axis=1)] @ around.basis_angstrom
    radii = around.tree.query(inside)[0]
    places = np.array(sorted(whole))
    assert len(inside[radii > 1.0]) > 0
    for corner in inside[radii > 1.0]:
        assert np.linalg.norm(places - corner, axis=1).min() < 5e-3
    void = _surroundings(split(replace(made, lattice_angstrom=4.0 * made.lattice_angstrom), "Li"))
    assert len(_limiting(void)) == len(void.points_angstrom)


def test_one_site_is_named_as_one() -> None:
    """A cube of four atoms around the middle of a cell, and chlorine is open to one lithium there."""
    cube = crystal_of(np.eye(3) * 4.12, [("Cl", (0.0, 0.0, 0.0)), ("Cs", (0.5, 0.5, 0.5))])
    found = search(without(cube, "Cs"), "Cs", max_hop_angstrom=4.5)
    assert len(found.sites) == 1
    assert any(text.startswith("1 interstitial site of Cs was found by geometry") for text in found.warnings)


def test_the_sites_have_the_symmetry_of_the_host_in_whatever_cell() -> None:
    one, two = (search(without(repeated(spinel(), times), "Mg"), "Mg") for times in ((1, 1, 1), (2, 1, 1)))
    assert len(two.sites) == 2 * len(one.sites)
    # a cell that is kept has less symmetry when it is longer one way: more kinds of hops, and the same hops
    counts = [Counter[float](), Counter[float]()]
    for count, found in zip(counts, (one, two), strict=True):
        for hop in found.hops:
            count[round(hop.distance_angstrom, 2)] += hop.multiplicity
    assert counts[1] == {distance: 2 * number for distance, number in counts[0].items()}


def test_a_crystal_with_its_ions_has_their_sites_alone_unless_asked_for_more() -> None:
    plain, more = (search(spinel(), "Mg", interstitials=asked) for asked in (False, True))
    assert len(plain.sites) == 8
    assert {site.occupancy for site in plain.sites} == {1.0}
    assert len(more.sites) == 24  # the empty octahedra, 16c
    octahedra = [site for site in more.sites if site.occupancy == 0.0]
    assert len(octahedra) == 16
    assert more.mechanism == "vacancy"
    assert more.hops[0].distance_angstrom == pytest.approx(8.5 * 3**0.5 / 8, abs=0.01)
    assert [site.index for site in more.sites] == list(range(24))
    eighths = 8 * np.array([site.frac_coords for site in octahedra])
    assert np.abs(eighths - np.rint(eighths)).max() < 1e-6  # exactly on the symmetry element


def test_no_site_is_near_an_atom_or_another_site() -> None:
    found = search(without(layered_oxide(), "Li"), "Mg")
    crystal = without(layered_oxide(), "Li")
    atoms = np.array([site.frac_coords for site in crystal.sites])
    assert not len(near_pairs(places(found), atoms, crystal.lattice_angstrom, 1.5)[0])
    assert not len(near_pairs(places(found), None, crystal.lattice_angstrom, 1.2)[0])


@pytest.mark.parametrize("ion", ["Rb", "Na"])
def test_a_dense_crystal_has_no_site_and_that_is_said(ion: str) -> None:
    with pytest.raises(InputError, match=f"no {ion} in this crystal and no interstitial site for it") as refused:
        search(rock_salt(a=4.2, ion="Mg", other="O"), ion)
    assert (refused.value.kind, refused.value.where, refused.value.status) == ("no-site", "ion", 422)
    assert "Its elements are Mg, O" in refused.value.detail


def test_a_host_of_neutral_atoms_is_judged_by_geometry_alone() -> None:
    graphite = crystal_of(
        np.array([[2.46, 0, 0], [-1.23, 2.1304, 0], [0, 0, 7.4]]),
        [("C", (0.0, 0.0, z)) for z in (0.0, 0.5)] + [("C", (1 / 3, 2 / 3, z)) for z in (0.0, 0.5)],
    )
    found = search(graphite)
    assert found.sites
    assert any("bond valences were not checked" in text for text in found.warnings)
