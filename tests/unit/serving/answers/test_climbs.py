"""What hops count in percolation: site energies and saddles by bond valence beside the model's barriers."""

from dataclasses import replace

import numpy as np
import pytest
from made_crystals import layered_oxide, spinel

from app.crystals.crystal import Crystal, Site
from app.crystals.hops.search import Hop, HopSearch, find_hops
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.serving.answers.climbs import Climbs, climb_ev, climbing, climbs


def hop(start: int, end: int) -> Hop:
    return Hop(
        from_site=start,
        to_site=end,
        offset=(0, 0, 0),
        distance_angstrom=2.5,
        multiplicity=1,
        bands=(None,),
        excluded_because=None,
    )


def predicted(barrier_ev: float, *, in_domain: bool) -> Prediction:
    quantiles = tuple(barrier_ev + 0.4 * (level - 0.5) for level in QUANTILE_LEVELS)
    return Prediction(barrier_ev=barrier_ev, quantiles_ev=quantiles, in_domain=in_domain, domain_reasons=())


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        # both filled: from the one the ion climbs, and the other is empty as often as its energy allows
        ((-0.1, -0.2), 0.5 * (0.4 - 0.2) + 0.5 * 0.6 + 0.3),
        # from a filled site to an empty one: from the filled one
        ((-0.1, 0.2), 0.5 * (0.4 - 0.1) + 0.5 * 0.6 + 0.1),
        # both empty: the ion has to come there first
        ((0.1, 0.2), 0.5 * (0.4 + 0.1) + 0.5 * 0.6),
        ((0.0, 0.0), 0.5 * 0.4 + 0.5 * 0.6),
    ],
)
def test_a_climb_starts_where_the_ion_is(ends: tuple[float, float], expected: float) -> None:
    found = Climbs(sites_ev=np.array(ends), saddles_ev=np.array([0.6]))
    there, back = (climb_ev(0.4, found.shift_ev(hop(*way), 0)) for way in ((0, 1), (1, 0)))
    assert there == pytest.approx(expected)
    assert back == there


def outside_of(search: HopSearch) -> list[Prediction | None]:
    """A prediction outside the domain for each hop that has a band."""
    return [None if one.band is None else predicted(0.5, in_domain=False) for one in search.hops]


def test_a_hop_in_the_domain_counts_its_barrier_and_another_the_mean() -> None:
    search = find_hops(layered_oxide(), "Li", max_atoms=2000)
    inside = [predicted(0.5, in_domain=True)] * len(search.hops)
    assert climbs(search, inside) is None
    assert climbing(search, None, inside) == inside
    found = climbs(search, outside_of(search))
    assert found is not None
    assert climbing(search, found, inside) == inside
    for index, one in enumerate(climbing(search, found, outside_of(search))):
        if one is None:
            continue
        assert one.barrier_ev == pytest.approx(0.25 + 0.5 * found.saddles_ev[index])
        assert np.ptp(one.quantiles_ev) <= np.ptp(inside[0].quantiles_ev) + 1e-9


def test_equal_sites_have_one_energy_and_the_sites_of_the_file_are_the_zero() -> None:
    search = find_hops(layered_oxide(), "Li", max_atoms=2000)
    found = climbs(search, outside_of(search))
    assert found is not None
    assert np.allclose(found.sites_ev, 0.0, atol=1e-6)
    assert np.nanmin(found.saddles_ev) > 0.0


def test_an_atom_that_shares_the_ion_s_site_gives_way_to_it() -> None:
    """With Mg on a tenth of the sites the ion's energy there is not that of an ion on top of an atom."""
    shared = tuple(
        Site(species=(("Li", 0.9), ("Mg", 0.1)), frac_coords=site.frac_coords) if site.occupancy_of("Li") else site
        for site in layered_oxide().sites
    )
    searches = [
        find_hops(one, "Li", max_atoms=2000) for one in (layered_oxide(), replace(layered_oxide(), sites=shared))
    ]
    plain, mixed = (climbs(one, outside_of(one)) for one in searches)
    assert plain is not None
    assert mixed is not None
    assert mixed.saddles_ev[0] == pytest.approx(plain.saddles_ev[0], abs=0.15)


def test_other_ions_than_lithium_climb_by_the_model_alone() -> None:
    search = find_hops(spinel(), "Mg", max_atoms=2000)
    outside = outside_of(search)
    assert climbs(search, outside) is None
    assert climbing(search, None, outside) == outside


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
    search = find_hops(sparse(), "Li", max_atoms=2000)
    assert sum(not site.is_interstitial for site in search.sites) == 1
    assert any(site.is_interstitial for site in search.sites)
    assert any("sites between them were added" in warning for warning in search.warnings)
    found = climbs(search, outside_of(search))
    assert found is not None
    assert found.sites_ev[0] == 0.0
