"""How grids percolate: landscapes with known passes, and bvlain's search as the check."""

import warnings

import numpy as np
import pytest
from made_crystals import layered_oxide
from scipy.ndimage import gaussian_filter

from app.crystals.band import FloatArray
from app.crystals.bvse import bond_valence_percolation
from app.crystals.charged_host import crystal_host
from app.crystals.sites.ion_sites import split
from app.crystals.sites.supercell import primitive_motif
from app.crystals.sites.symmetry import find_symmetry
from app.errors import TooLargeError
from app.models.bond_valence.basins import basins, neighbours_within
from app.models.bond_valence.grid import energy_grid

SHAPE = (12, 10, 14)


def percolation_of(energies: FloatArray) -> tuple[float | None, ...]:
    found = basins(energies).percolation()
    return found.one_d, found.two_d, found.three_d


def waves(heights: tuple[float, float, float]) -> FloatArray:
    """One minimum a cell, and a pass of a height of its own along each lattice vector."""
    x, y, z = np.meshgrid(*(np.arange(count) / count for count in SHAPE), indexing="ij")
    return np.asarray(sum(h * np.sin(np.pi * place) ** 2 for h, place in zip(heights, (x, y, z), strict=True)))


def test_one_pass_along_each_vector() -> None:
    found = basins(waves((0.5, 3.0, 1.25)) - 7.0)
    assert found.energies_ev == pytest.approx([0.0])
    assert found.frac_coords == pytest.approx(np.zeros((1, 3)))
    assert percolation_of(waves((0.5, 3.0, 1.25)) - 7.0) == pytest.approx((0.5, 1.25, 3.0))


def test_passes_that_no_ion_takes_do_not_count() -> None:
    one, two, three = percolation_of(waves((0.5, 30.0, 1.25)))
    assert (one, two) == pytest.approx((0.5, 1.25))
    assert three is None


def test_channels_that_do_not_meet_add_no_dimension() -> None:
    energies = np.full((8, 8, 8), 20.0)
    energies[:, 1, 1] = 0.0
    energies[1, :, 5] = 0.25
    assert percolation_of(energies) == (0.0, None, None)
    energies[1, 1, 2:5] = 0.75  # now they do
    assert percolation_of(energies) == (0.0, 0.75, None)


def test_a_channel_that_winds_through_two_cells_is_found() -> None:
    energies = np.full((8, 8, 8), 20.0)
    energies[np.arange(8), (np.arange(8) * 2) % 8, 2] = 1.0  # from (0, 0, 0) to (1, 2, 0), by steps across corners
    energies[np.arange(8), (np.arange(8) * 2 + 1) % 8, 2] = 1.0
    energies[0, 0, 2] = 0.0
    assert percolation_of(energies) == (1.0, None, None)


def test_the_highest_pass_that_counts_counts() -> None:
    energies = np.full((8, 8, 8), 20.0)
    energies[:, 2, 2], energies[4, 2, 2] = 0.0, 10.0
    assert percolation_of(energies) == (10.0, None, None)


def river(length: int) -> FloatArray:
    """A valley that goes around the first axis once in four points and down along the last, in rough ground."""
    energies = 2.0 + 6.0 * np.random.default_rng(length).random((4, 4, length))
    down = np.arange(length - 4)
    energies[down % 4, 0, down] = 1.9 * down / length
    return energies


def test_a_valley_that_winds_through_many_cells_is_followed() -> None:
    """Wherever its cells are counted: along the first axis, the second or the last."""
    energies = river(200)
    expected = percolation_of(energies)
    assert None not in expected
    assert percolation_of(energies.transpose(2, 0, 1)) == expected
    assert percolation_of(energies.transpose(1, 2, 0)) == expected
    assert basins(energies).passes[:, :2].min() == 0


@pytest.mark.parametrize(
    ("energies", "words"),
    [(river(1100), "winds through 2[0-9]{2} cells"), (np.indices((52, 52, 52)).sum(axis=0) % 2, "70,304 minima")],
    ids=["a valley too long", "too many minima"],
)
def test_what_whole_numbers_do_not_hold_is_refused(energies: FloatArray, words: str) -> None:
    faces = np.zeros((3, 3, 3), dtype=bool)
    faces[1, 1, :] = faces[1, :, 1] = faces[:, 1, 1] = True
    with pytest.raises(TooLargeError, match=words):
        basins(energies, neighbours=faces if "minima" in words else None)


def test_a_flat_landscape_is_open() -> None:
    assert percolation_of(np.zeros((4, 5, 6))) == (0.0, 0.0, 0.0)


def rough(seed: int) -> FloatArray:
    noise = np.random.default_rng(seed).standard_normal(SHAPE)
    smooth = gaussian_filter(noise, 1.2, mode="wrap")
    return np.asarray(smooth / smooth.std())


@pytest.mark.parametrize("seed", range(4))
def test_where_the_cell_begins_and_how_large_it_is_change_nothing(seed: int) -> None:
    energies = rough(seed)
    expected = percolation_of(energies)
    assert None not in expected
    assert percolation_of(np.roll(energies, (3, 5, 7), axis=(0, 1, 2))) == pytest.approx(expected)
    assert percolation_of(np.tile(energies, (2, 1, 1))) == pytest.approx(expected)
    assert percolation_of(energies.transpose(2, 0, 1)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(2))
def test_percolation_is_that_of_bvlain(seed: int) -> None:
    energies = rough(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bvlain imports a part of scipy by its old name
        from bvlain import Lain  # noqa: PLC0415 # takes a second

        calculator = Lain(verbose=False)
        calculator.data = np.pad(energies, (0, 1), mode="wrap")  # it repeats the first point at the end
        calculator.size = calculator.data.shape
        published = calculator.percolation_barriers()
    assert percolation_of(energies) == pytest.approx([published[f"E_{n}D"] for n in (1, 2, 3)], abs=0.0101)


def test_a_crystal_percolates_as_bvlain_says() -> None:
    crystal = layered_oxide()
    published = bond_valence_percolation(crystal, "Li", max_atoms=2000)
    lattices = split(crystal, "Li")
    host, states = crystal_host(primitive_motif(lattices, find_symmetry(lattices)).crystal)
    assert states == published.states
    lengths = np.linalg.norm(host.lattice_angstrom, axis=1)
    a, b, c = (int(length // published.grid_angstrom) - 1 for length in lengths)  # bvlain's points
    ours = basins(energy_grid(host, (a, b, c)).energies_ev).percolation()
    for dimension in (1, 2, 3):
        assert ours.of(dimension) == pytest.approx(published.barriers.of(dimension), abs=0.02)


def test_neighbours_are_chosen_by_length() -> None:
    assert neighbours_within(np.eye(3) * 4.0, (16, 16, 16)).sum() == 19  # across edges, not across corners
    face_centred = np.array([[0.0, 2.0, 2.0], [2.0, 0.0, 2.0], [2.0, 2.0, 0.0]])
    near = neighbours_within(face_centred, (12, 12, 12))
    assert near.sum() == 19
    assert not near[2, 2, 2]
    assert near[2, 2, 0]


def test_a_path_does_not_jump_across_a_corner_of_a_skewed_cell() -> None:
    energies = np.full((8, 8, 8), 3.0)
    energies[np.arange(8), np.arange(8), np.arange(8)] = 0.0
    lattice = np.array([[0.0, 2.0, 2.0], [2.0, 0.0, 2.0], [2.0, 2.0, 0.0]])
    assert basins(energies).percolation().one_d == 0.0
    assert basins(energies, neighbours=neighbours_within(lattice, energies.shape)).percolation().one_d == 3.0
