"""Lattices in whole numbers, and supercells of the right size."""

import itertools

import numpy as np
import pytest
from made_crystals import crystal_of, layered_oxide, repeated, rock_salt

from app.crystals.crystal import Crystal
from app.crystals.geometry.lattices import (
    contains,
    cosets,
    hermite_form,
    hermite_forms,
    reduce_modulo,
    shortest_translation_angstrom,
)
from app.crystals.geometry.reduction import reduced_lattice
from app.crystals.hops.search import find_hops
from app.crystals.sites.ion_sites import split
from app.crystals.sites.supercell import choose_supercell, primitive_motif, smallest_supercell
from app.crystals.sites.symmetry import find_symmetry
from app.errors import TooLargeError


@pytest.mark.parametrize(("index", "count"), [(1, 1), (2, 7), (3, 13), (4, 35), (5, 31), (6, 91)])
def test_every_sublattice_of_an_index_is_listed_once(index: int, count: int) -> None:
    forms = hermite_forms(index)
    assert len({tuple(form.ravel()) for form in forms}) == len(forms) == count
    assert np.allclose(np.linalg.det(forms), index)


def test_equal_lattices_have_equal_hermite_forms() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        vectors = rng.integers(-5, 6, size=(3, 3))
        if abs(np.linalg.det(vectors)) < 0.5:
            continue
        combined = np.vstack([vectors[[2, 0, 1]] * [[-1], [1], [1]], vectors[0] + 3 * vectors[1]])
        form = hermite_form(vectors)
        assert np.array_equal(form, hermite_form(combined))
        assert round(abs(np.linalg.det(vectors))) == np.prod(np.diag(form))
        assert contains(form[None], vectors).all()
        assert len(np.unique(reduce_modulo(cosets(form) + 2 * vectors[1], form), axis=0)) == np.prod(np.diag(form))


def test_the_shortest_translation_is_found_in_skewed_cells() -> None:
    rng = np.random.default_rng(5)
    combinations = np.array([v for v in itertools.product(range(-3, 4), repeat=3) if any(v)])
    for _ in range(30):
        basis = reduced_lattice(rng.normal(size=(3, 3)) * 4 + np.eye(3) * 3)[0]
        known = np.linalg.norm(combinations @ basis, axis=1).min()
        skewed = np.array([[1, 0, 0], [4, 1, 0], [-3, 5, 1]]) @ basis
        assert np.linalg.norm(skewed, axis=1).min() >= known - 1e-9
        assert shortest_translation_angstrom(skewed) == pytest.approx(known, abs=1e-9)


@pytest.mark.parametrize("crystal", [layered_oxide(), rock_salt()], ids=["layered", "rock salt"])
def test_a_supercell_is_large_enough_and_none_with_fewer_atoms_is(crystal: Crystal) -> None:
    lattices = split(crystal, "Li")
    motif = primitive_motif(lattices, find_symmetry(lattices))
    found = smallest_supercell(motif, max_atoms=2000)
    assert shortest_translation_angstrom(found.lattice_angstrom) >= 8.0
    for index in range(1, found.copies):
        for form in hermite_forms(index):
            assert shortest_translation_angstrom(form @ motif.lattice_angstrom) < 8.0


def test_a_supercell_has_the_crystal_in_it() -> None:
    crystal = layered_oxide()
    lattices = split(crystal, "Li")
    cell = choose_supercell(lattices, max_atoms=2000)
    volume = abs(np.linalg.det(cell.lattice_angstrom))
    atoms = len(cell.host_contents) + len(cell.occupancies)
    assert atoms / volume == pytest.approx(len(crystal.sites) / abs(np.linalg.det(crystal.lattice_angstrom)))
    # each of its atoms lies on an atom of the uploaded crystal
    uploaded = np.array([site.frac_coords for site in crystal.sites])
    positions = np.vstack([cell.host_frac_coords, cell.ion_frac_coords]) @ cell.lattice_angstrom
    away = (positions @ np.linalg.inv(crystal.lattice_angstrom))[:, None] - uploaded[None]
    distances = np.linalg.norm((away - np.rint(away)) @ crystal.lattice_angstrom, axis=2)
    assert distances.min(axis=1).max() < 1e-6
    for site, offset in ((0, (0, 0, 0)), (1, (2, -1, 0)), (2, (0, 3, 1))):
        ion, place = cell.locate(site, np.array(offset))
        wanted = (lattices.site_frac_coords[site] + offset) @ crystal.lattice_angstrom
        assert np.allclose(place @ cell.lattice_angstrom, wanted, atol=1e-6)
        wrapped = place - cell.ion_frac_coords[ion]
        assert np.allclose(wrapped, np.rint(wrapped), atol=1e-6)


def test_an_uploaded_cell_that_is_large_enough_is_kept_as_it_is() -> None:
    crystal = repeated(rock_salt(), (2, 2, 2))
    lattices = split(crystal, "Li")
    cell = choose_supercell(lattices, max_atoms=2000)
    assert np.array_equal(cell.lattice_angstrom, crystal.lattice_angstrom)
    difference = cell.ion_frac_coords - lattices.site_frac_coords
    assert np.allclose(difference, np.rint(difference), atol=1e-12)


def test_a_cell_that_must_grow_grows_from_the_primitive_one() -> None:
    sizes = set()
    for crystal in (rock_salt(), repeated(rock_salt(), (1, 1, 2)), repeated(rock_salt(), (3, 1, 1))):
        lattices = split(crystal, "Li")
        cell = choose_supercell(lattices, max_atoms=2000)
        sizes.add(len(cell.host_contents))
    assert len(sizes) == 1


def test_a_supercell_beyond_the_limit_is_refused_with_the_setting_that_holds_it() -> None:
    for crystal in (rock_salt(), repeated(rock_salt(), (2, 2, 2))):
        lattices = split(crystal, "Li")
        with pytest.raises(TooLargeError) as refused:
            choose_supercell(lattices, max_atoms=20)
        assert refused.value.kind == "too-many-atoms"
        assert "IONPATH_MAX_ATOMS" in refused.value.detail


@pytest.mark.parametrize("times", [(1, 1, 1), (1, 1, 2), (3, 1, 1), (2, 1, 1), (2, 2, 1)])
def test_hops_are_as_many_however_often_the_cell_is_repeated(times: tuple[int, int, int]) -> None:
    """Tetragonal, c = 2 a: doubled along a its cell has as many isometries as the primitive one, but others."""
    crystal = crystal_of(np.diag([3.9, 3.9, 7.8]), [("Li", (0, 0, 0)), ("O", (0.5, 0.5, 0.2)), ("F", (0.5, 0.5, 0.6))])
    assert len(find_hops(repeated(crystal, times), "Li", max_atoms=2000).hops) == 1
