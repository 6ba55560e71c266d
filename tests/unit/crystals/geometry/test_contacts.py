"""Distances that no two atoms have are refused, those that hardly any have are doubted, and bonds are neither."""

import numpy as np
import pytest
from made_crystals import rock_salt, spinel
from pymatgen.core import Lattice, Structure

from app.crystals.crystal import Contents, Crystal, Site
from app.crystals.geometry.contacts import close_contacts, implausible_angstrom, impossible_angstrom, may_be_bonded
from app.crystals.sites.ion_sites import split
from app.crystals.sites.ordering import disordered_places
from app.crystals.sites.soundness import soundness
from app.crystals.sites.split_sites import merge_split_sites
from app.crystals.sites.supercell import choose_supercell

#: The shortest bonds that are known, and what a refined X-ray structure makes of those with hydrogen.
BONDS = {
    ("H", "O"): 0.75,
    ("H", "N"): 0.8,
    ("B", "H"): 1.0,
    ("C", "H"): 0.9,
    ("H", "H"): 0.74,
    ("N", "N"): 1.10,
    ("C", "N"): 1.14,
    ("C", "O"): 1.13,
    ("C", "C"): 1.20,
    ("O", "O"): 1.21,
    ("S", "S"): 1.89,
    ("P", "P"): 2.0,
    ("O", "P"): 1.44,
    ("O", "S"): 1.41,
    ("O", "V"): 1.56,
    ("O", "U"): 1.75,
    ("Cr", "Cr"): 1.83,
    ("Li", "O"): 1.7,
    ("K", "K"): 3.2,
    ("Li", "Li"): 2.0,
}


@pytest.mark.parametrize("pair", BONDS)
def test_no_bond_is_too_short(pair: tuple[str, str]) -> None:
    assert implausible_angstrom(*pair) < BONDS[pair]
    assert impossible_angstrom(*pair) <= implausible_angstrom(*pair)


def found(contents: tuple[Contents, Contents], apart: float) -> tuple[int, int]:
    contacts = close_contacts(contents, np.array([[0, 0, 0], [apart / 9, 0, 0]]), np.eye(3) * 9.0)
    return len(contacts.impossible), len(contacts.implausible)


def test_distances_are_judged_by_element_and_occupancy() -> None:
    lithium, oxygen, fluorine = ((("Li", 1.0),), (("O", 1.0),), (("F", 1.0),))
    assert found((lithium, oxygen), 0.9) == (1, 0)
    assert found((lithium, oxygen), 1.2) == (0, 1)
    assert found((lithium, oxygen), 1.7) == (0, 0)
    assert found((lithium, lithium), 1.75) == (0, 1)
    assert found((oxygen, fluorine), 0.64) == (1, 0)
    assert found((oxygen, oxygen), 1.65) == (0, 1)
    assert found((oxygen, oxygen), 1.57) == (0, 0)
    assert found((fluorine, fluorine), 1.57) == (0, 1)
    assert found((oxygen, fluorine), 1.57) == (0, 1)
    assert found((oxygen, oxygen), 1.48) == (0, 0)
    # two halves of one split atom, and an atom that is there at times beside one that always is
    assert found(((("Li", 0.5),), (("Li", 0.5),)), 0.6) == (0, 0)
    assert found(((("Li", 0.4),), oxygen), 0.6) == (0, 1)
    # a shared site is judged by the smaller of its elements
    assert found(((("H", 0.5), ("K", 0.5)), oxygen), 1.0) == (0, 0)


@pytest.mark.parametrize(
    ("lattice", "atoms"),
    [
        (  # P 63/m m c, relaxed
            Lattice.hexagonal(3.16, 7.69),
            [("Li", (0, 0, 0)), ("Li", (0, 0, 0.5)), ("Li", (1 / 3, 2 / 3, 0.25)), ("Li", (2 / 3, 1 / 3, 0.75))]
            + [("O", (1 / 3, 2 / 3, z)) for z in (0.6485, 0.8515)]
            + [("O", (2 / 3, 1 / 3, z)) for z in (0.1485, 0.3515)],
        ),
        (  # P -6 2 m, relaxed
            Lattice.hexagonal(6.26, 4.5),
            [("Na", (x, y, 0)) for x, y in ((0.296, 0), (0, 0.296), (0.704, 0.704))]
            + [("Na", (x, y, 0.5)) for x, y in ((0.632, 0), (0, 0.632), (0.368, 0.368))]
            + [("O", (0, 0, z)) for z in (0.326, 0.674)]
            + [("O", (x, y, z)) for x, y in ((1 / 3, 2 / 3), (2 / 3, 1 / 3)) for z in (0.172, 0.828)],
        ),
    ],
    ids=["Li2O2", "Na2O2"],
)
def test_relaxed_peroxides_are_plausible(lattice: Lattice, atoms: list[tuple[str, tuple[float, float, float]]]) -> None:
    contents = [((symbol, 1.0),) for symbol, _ in atoms]
    frac = np.array([place for _, place in atoms])
    near = Structure(lattice, [symbol for symbol, _ in atoms], frac).distance_matrix
    assert 1.53 < near[near > 0.1].min() < 1.58
    contacts = close_contacts(contents, frac, lattice.matrix)
    assert contacts.impossible == contacts.implausible == ()


def test_bonds_within_a_disordered_group() -> None:
    assert may_be_bonded("C", "N", 1.16)
    assert may_be_bonded("O", "H", 0.95)
    assert may_be_bonded(["Fe", "C"], ["N"], 1.16)
    assert not may_be_bonded("O", "O", 1.3)
    assert not may_be_bonded("C", "N", 0.6)
    assert not may_be_bonded(["Li"], ["O"], 1.2)


def test_bonded_atoms_of_a_disordered_group_are_not_merged() -> None:
    lattice, frac, halves = np.eye(3) * 10.0, np.array([[0, 0, 0], [0.116, 0, 0]]), np.array([0.5, 0.5])
    assert len(merge_split_sites(lattice, frac, halves, ["C", "N"], within_angstrom=1.3).frac_coords) == 2
    assert len(merge_split_sites(lattice, frac, halves, ["O", "O"], within_angstrom=1.3).frac_coords) == 1


def test_a_split_atom_is_not_merged_onto_another() -> None:
    lattice, halves = np.eye(3) * 10.0, np.array([0.4, 0.6])
    frac = np.array([[0.06, 0, 0], [-0.06, 0, 0]])
    alone = merge_split_sites(lattice, frac, halves, ["H", "H"], within_angstrom=1.3)
    around = merge_split_sites(
        lattice, frac, halves, ["H", "H"], within_angstrom=1.3, others=(["O"], np.array([[0.0, 0.02, 0.0]]))
    )
    assert np.abs(alone.frac_coords[0]).max() < 0.02
    np.testing.assert_allclose(around.frac_coords[0], [-0.06, 0, 0])
    assert around.occupancies[0] == pytest.approx(1.0)


def test_only_atoms_that_are_not_bonded_exclude_each_other() -> None:
    sites = [Site(species=(("Li", 1.0),), frac_coords=(0.5, 0.5, 0.5))]
    sites += [
        Site(species=((symbol, 0.4),), frac_coords=(x, 0.0, 0.0))
        for symbol, x in (("C", 0.0), ("N", 0.145), ("O", 0.29))
    ]
    crystal = Crystal(lattice_angstrom=np.eye(3) * 8.0, sites=tuple(sites))
    places = disordered_places(choose_supercell(split(crystal, "Li"), max_atoms=200))
    symbols = [contents[0][0] for contents in places.contents]
    assert {symbols[k] for k in places.neighbours[symbols.index("C")]} == set()
    crystal = Crystal(
        lattice_angstrom=np.eye(3) * 8.0,
        sites=(sites[0], *(Site(species=(("O", 0.4),), frac_coords=(x, 0, 0)) for x in (0.0, 0.17))),
    )
    places = disordered_places(choose_supercell(split(crystal, "Li"), max_atoms=200))
    assert places.neighbours[0] == (1,)


def test_a_crystal_is_sound_and_one_with_atoms_elsewhere_is_not() -> None:
    assert soundness(rock_salt()) == "sound"
    assert soundness(spinel(a=8.08, other="Al")) == "sound"
    assert soundness(rock_salt(a=9.0)) == "doubtful"
    assert soundness(rock_salt(a=2.5)) == "impossible"
    salt = rock_salt()
    moved = tuple(
        Site(species=site.species, frac_coords=(site.frac_coords[0] + 0.3 * (k == 0), *site.frac_coords[1:]))
        for k, site in enumerate(salt.sites)
    )
    assert soundness(Crystal(lattice_angstrom=salt.lattice_angstrom, sites=moved)) != "sound"
