"""Sites that one ion cannot fill both: split ones, ones on a host atom, and what becomes of their hops."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_crystals import layered_oxide, rock_salt

from app.crystals.crystal import Crystal, Site
from app.crystals.hops.options import HopOptions
from app.crystals.hops.percolation import percolation
from app.crystals.hops.search import HopSearch, find_hops
from app.crystals.sites.ion_sites import split


def search(crystal: Crystal, **options: Any) -> HopSearch:
    max_atoms = options.pop("max_atoms", 2000)
    return find_hops(crystal, "Li", HopOptions(**options), max_atoms=max_atoms)


def with_split_sites(crystal: Crystal, parts: dict[tuple[float, float, float], float]) -> Crystal:
    """Each Li site shared out over places some angstrom away."""
    inverse = np.linalg.inv(crystal.lattice_angstrom)
    others = [site for site in crystal.sites if not site.occupancy_of("Li")]
    places = []
    for site in crystal.sites:
        for away, occupancy in parts.items() if site.occupancy_of("Li") else ():
            x, y, z = (np.array(site.frac_coords) + np.array(away) @ inverse) % 1.0
            places.append(Site(species=(("Li", occupancy),), frac_coords=(float(x), float(y), float(z))))
    return replace(crystal, sites=(*others, *places))


@pytest.mark.parametrize("apart_angstrom", [0.0, 0.156, 0.9])
def test_the_parts_of_a_split_site_are_one_site(apart_angstrom: float) -> None:
    plain = search(layered_oxide())
    parts = {(0.0, 0.0, -apart_angstrom / 2): 0.5, (0.0, 1e-9, apart_angstrom / 2): 0.5}
    found = search(with_split_sites(layered_oxide(), parts))
    assert len(found.sites) == 3
    assert [site.occupancy for site in found.sites] == [1.0, 1.0, 1.0]
    assert [site.index for site in found.sites] == [0, 1, 2]
    distances = [hop.distance_angstrom for hop in found.hops]
    assert distances == pytest.approx([hop.distance_angstrom for hop in plain.hops], abs=1e-6)
    assert [hop.multiplicity for hop in found.hops] == [hop.multiplicity for hop in plain.hops]
    assert any("3 Li sites are split" in text and "as (0.000, 0.000, 0.500)" in text for text in found.warnings)
    assert percolation(found.all_hops, [0.3, 0.6, 2.0]) == percolation(plain.all_hops, [0.3, 0.6, 2.0])


def test_a_merged_site_lies_at_the_mean_by_occupancy_and_across_a_face_of_the_cell() -> None:
    crystal = with_split_sites(rock_salt(), {(0.3, 0.0, 0.0): 0.6, (-0.3, 0.0, 0.0): 0.2})
    lattices = split(crystal, "Li")
    assert len(lattices.sites) == 4
    np.testing.assert_allclose(lattices.occupancies, 0.8)
    nearest = lattices.site_frac_coords[0] - np.rint(lattices.site_frac_coords[0])
    np.testing.assert_allclose(nearest * 5.13, [0.15, 0.0, 0.0], atol=1e-9)


def test_three_parts_around_an_axis_are_one_site_on_it() -> None:
    angles = np.array([0.0, 120.0, 240.0]) * np.pi / 180
    parts = {(0.5 * float(np.cos(a)), 0.5 * float(np.sin(a)), 0.0): 1 / 3 for a in angles}
    lattices = split(with_split_sites(layered_oxide(), parts), "Li")
    plain = split(layered_oxide(), "Li")
    np.testing.assert_allclose(lattices.site_frac_coords, plain.site_frac_coords, atol=1e-9)
    np.testing.assert_allclose(lattices.occupancies, 1.0)


def test_sites_that_are_too_full_to_be_one_are_kept_and_their_short_hop_is_not_predicted() -> None:
    found = search(with_split_sites(rock_salt(), {(0.35, 0.0, 0.0): 0.8, (-0.35, 0.0, 0.0): 0.8}))
    assert len(found.sites) == 8
    short = [hop for hop in found.hops if hop.distance_angstrom < 1.0]
    assert short
    for hop in short:
        assert hop.band is None
        assert hop.excluded_because is not None
        assert "0.70 angstrom apart" in hop.excluded_because


def test_ordered_sites_are_left_alone() -> None:
    assert split(layered_oxide(), "Li").warnings == ()


def test_a_partly_occupied_site_on_an_atom_is_not_filled() -> None:
    crystal = rock_salt(a=5.4)
    lithium = [site for site in crystal.sites if site.occupancy_of("Li")]
    chlorine = [site for site in crystal.sites if not site.occupancy_of("Li")]
    # the best occupied of the partly occupied sites, 0.3 angstrom from a chlorine
    x, y, z = chlorine[0].frac_coords
    wrong = Site(species=(("Li", 0.9),), frac_coords=(x + 0.3 / 5.4, y, z))
    partly = [replace(site, species=(("Li", 0.5),)) for site in lithium]
    found = search(replace(crystal, sites=(*chlorine, *partly, wrong)), max_hop_angstrom=4.0)
    predicted = [hop.band for hop in found.hops if hop.band is not None]
    assert predicted
    for band in predicted:
        atoms = np.array(band.host_species)
        vectors = band.host_frac_coords[atoms == "Li"][:, None] - band.host_frac_coords[atoms == "Cl"][None]
        vectors -= np.rint(vectors)
        assert np.linalg.norm(vectors @ band.lattice_angstrom, axis=2).min() > 0.5
