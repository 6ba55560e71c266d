"""Descriptors of a conductor: what they say of known crystals, and what they do not depend on."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from made_crystals import garnet, olivine, repeated, rock_salt
from scipy.spatial.transform import Rotation

from app.crystals.crystal import Crystal, Site
from app.crystals.hops.percolation import PercolationBarriers
from app.crystals.sites.ion_sites import split
from app.models.features.conductor import DESCRIPTORS, HIGHEST_PERCOLATION_EV, conductor_descriptors

BARRIERS = PercolationBarriers(one_d=0.2, two_d=0.3, three_d=0.4)
NEVER = PercolationBarriers(one_d=0.2, two_d=None, three_d=None)


def values(crystal: Crystal, barriers: PercolationBarriers | None = BARRIERS) -> dict[str, float]:
    return dict(zip(DESCRIPTORS, conductor_descriptors(split(crystal, "Li"), barriers).values.tolist(), strict=True))


def mixed(crystal: Crystal, element: str, other: str, share: float) -> Crystal:
    """The crystal with a share of one element replaced by another on every site."""
    return replace(
        crystal,
        sites=tuple(
            Site(species=((element, 1 - share), (other, share)), frac_coords=site.frac_coords)
            if site.species[0][0] == element
            else site
            for site in crystal.sites
        ),
    )


def rotated(crystal: Crystal) -> Crystal:
    turn = Rotation.from_euler("xyz", [20, 30, 40], degrees=True).as_matrix()
    return replace(crystal, lattice_angstrom=crystal.lattice_angstrom @ turn)


CHANGES: list[Callable[[Crystal], Crystal]] = [
    lambda one: repeated(one, (2, 1, 1)),
    rotated,
    lambda one: replace(one, sites=one.sites[::-1]),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("crystal", [olivine(), garnet(), mixed(olivine(), "Fe", "Mn", 0.3)])
def test_neither_the_cell_nor_the_order_of_atoms_matters(
    crystal: Crystal, change: Callable[[Crystal], Crystal]
) -> None:
    one, other = (conductor_descriptors(split(each, "Li"), BARRIERS) for each in (crystal, change(crystal)))
    assert one.values == pytest.approx(other.values)
    assert one.root_fractions == pytest.approx(other.root_fractions)
    assert one.log_anion_volume == pytest.approx(other.log_anion_volume)
    assert one.elements == other.elements


def test_phosphorus_of_a_phosphate_is_no_anion() -> None:
    assert values(olivine())["anion_electronegativity"] == pytest.approx(3.44)
    assert values(rock_salt())["anion_electronegativity"] == pytest.approx(3.16)


def test_a_substituted_host_is_disordered_the_more_the_more_is_substituted() -> None:
    found = [values(olivine() if not share else mixed(olivine(), "Fe", "Mn", share)) for share in (0, 0.001, 0.05, 0.3)]
    assert found[0]["host_disorder"] == found[0]["host_substitution"] == 0
    for name in ("host_disorder", "host_substitution"):
        ranked = [one[name] for one in found]
        assert ranked == sorted(set(ranked))
        assert ranked[-1] <= 1


def test_partly_empty_sites_of_the_ion_count_as_such() -> None:
    assert values(olivine())["ion_site_occupancy"] == 1
    halved = replace(
        olivine(),
        sites=tuple(
            replace(site, species=(("Li", 0.5),)) if site.species[0][0] == "Li" else site for site in olivine().sites
        ),
    )
    assert values(halved)["ion_site_occupancy"] == pytest.approx(0.5)
    assert values(halved)["host_disorder"] == 0


def test_a_crystal_without_a_path_counts_as_the_highest_barrier_and_one_that_is_not_known_as_unknown() -> None:
    assert values(olivine())["percolation_3d_ev"] == 0.4
    assert values(olivine(), NEVER)["percolation_3d_ev"] == HIGHEST_PERCOLATION_EV
    assert np.isnan(values(olivine(), None)["percolation_3d_ev"])


def test_an_alloy_has_no_anions_and_is_described_all_the_same() -> None:
    alloy = rock_salt(other="Mg")
    described = conductor_descriptors(split(alloy, "Li"), BARRIERS)
    assert np.isnan(described.log_anion_volume)
    assert np.isnan(described.values[DESCRIPTORS.index("anion_electronegativity")])
    assert described.root_fractions.max() > 0
