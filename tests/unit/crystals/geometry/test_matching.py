"""Atoms are matched by position, coincident ones first; vectors are the shortest there are."""

import numpy as np
import pytest
from ase.geometry import find_mic

from app.crystals.geometry.matching import match_atoms
from app.crystals.geometry.periodic import shortest_vectors
from app.crystals.limits import Limits
from app.crystals.readers.frames import Frame, band_of_frames
from app.crystals.validation import concerted_hop_doubt
from app.errors import InputError

CELL = np.diag([8.0, 9.0, 10.0])


def sheared(generator: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    lattice = np.diag([4.0, 6.0, 9.0]) + generator.normal(size=(3, 3))
    for _ in range(4):
        i, j = generator.choice(3, 2, replace=False)
        lattice[i] += generator.integers(-9, 10) * lattice[j]
    return np.asarray(lattice)


def test_shortest_vectors_agree_with_ase_in_sheared_cells() -> None:
    generator = np.random.default_rng(3)
    for _ in range(50):
        lattice = sheared(generator)
        vectors = generator.normal(size=(20, 3)) * 3
        found = shortest_vectors(vectors, lattice)
        _, lengths = find_mic(vectors @ lattice, lattice)
        np.testing.assert_allclose(found.lengths_angstrom, lengths, atol=1e-9)
        joined = np.linalg.norm((vectors + found.offsets) @ lattice, axis=1)
        np.testing.assert_allclose(joined, lengths, atol=1.1e-3)
        assert (found.runner_up_angstrom >= found.lengths_angstrom).all()


def test_a_shuffled_wrapped_and_shaken_crystal_is_matched_atom_by_atom() -> None:
    generator = np.random.default_rng(5)
    species = ("O",) * 40 + ("Fe",) * 20
    # a grid keeps atoms apart; 60 of its 100 points
    grid = np.stack(np.meshgrid(*[np.arange(n) / n for n in (4, 5, 5)], indexing="ij"), axis=-1).reshape(-1, 3)
    frac = grid[generator.permutation(100)[:60]]
    order = generator.permutation(60)
    shaken = frac + generator.normal(size=frac.shape) * 0.01 + generator.integers(-2, 3, size=frac.shape)
    other_species = tuple(species[k] for k in order)
    found = match_atoms(species, frac, other_species, shaken[order], CELL)
    np.testing.assert_array_equal(order[found], np.arange(60))


def frame(*sites: tuple[str, float]) -> Frame:
    frac = np.array([[x, 0.5, 0.5] for _, x in sites])
    return Frame(lattice_angstrom=CELL, species=tuple(symbol for symbol, _ in sites), frac_coords=frac, name="frame")


def test_coincident_atoms_are_matched_first_so_a_row_of_ions_pushed_on_is_one_hop() -> None:
    start = frame(("Li", 0.0), ("Li", 0.25), ("O", 0.85))
    end = frame(("Li", 0.25), ("Li", 0.5), ("O", 0.85))
    with pytest.raises(InputError, match="Nothing hops"):
        band_of_frames([start, start], Limits())
    band = band_of_frames([start, end], Limits()).band
    np.testing.assert_allclose(band.host_frac_coords[:, 0], [0.25, 0.85])
    assert band.hop_distance_angstrom == pytest.approx(
        4
    )  # not two hops of 2 angstrom, though their squares add up to less


def test_the_atom_that_moves_most_is_the_ion_and_the_others_are_reported() -> None:
    start = frame(("Na", 0.0), ("Li", 0.5), ("O", 0.75))
    reading = band_of_frames([start, frame(("Na", 0.1), ("Li", 0.3), ("O", 0.75))], Limits())
    assert reading.band.ion == "Li"
    assert (
        "One host atom moves by more than 0.3 angstrom besides the ion, Na (host atom 0) by 0.80" in reading.warnings[0]
    )
    named = band_of_frames([start, frame(("Na", 0.1), ("Li", 0.3), ("O", 0.75))], Limits(), ion="Na")
    assert named.band.ion == "Na"


@pytest.mark.parametrize(("moved", "hops"), [(0.1, False), (0.2, True)])
def test_another_ion_that_hops_as_well_puts_the_barrier_in_doubt(moved: float, hops: bool) -> None:
    """The cell is eight angstrom long: the other ion moves by 0.8 or 1.6."""
    start = frame(("Li", 0.0), ("Li", 0.45), ("O", 0.8))
    end = frame(("Li", 0.0 + moved), ("Li", 0.7), ("O", 0.8))
    doubt = concerted_hop_doubt(band_of_frames([start, end], Limits()).band)
    assert (doubt is not None) == hops
    if doubt is not None:
        assert doubt.startswith("another Li moves by 1.60 angstrom, and hops of several ions at once")


def test_an_offset_leads_a_lone_ion_to_its_own_copy() -> None:
    start = frame(("Li", 0.0), ("O", 0.5))
    with pytest.raises(InputError, match="Nothing hops"):
        band_of_frames([start, start], Limits(), ion="Li")
    band = band_of_frames([start, start], Limits(), ion="Li", offset=(0, 1, 0)).band
    assert band.hop_distance_angstrom == pytest.approx(9)


def test_two_crystals_that_do_not_belong_together_are_refused() -> None:
    start = frame(*[("O", k / 3) for k in range(3)], ("Li", 0.9))
    shifted = frame(*[("O", k / 3 + 1 / 6) for k in range(3)], ("Li", 0.4))
    with pytest.raises(InputError, match="not two images of one crystal") as caught:
        band_of_frames([start, shifted], Limits())
    assert caught.value.kind == "unrelated-images"
