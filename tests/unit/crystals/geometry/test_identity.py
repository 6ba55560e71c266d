"""When two bands are the same: on twenty rows of the data set, high symmetry among them."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.crystals.band import Band, model_band
from app.crystals.geometry.identity import (
    TOLERANCE_ANGSTROM,
    bucket_keys,
    canonical,
    fingerprint,
    same_band,
)

Rows = list[dict[str, object]]
Change = Callable[[Band, np.random.Generator], Band]


def band_of(row: dict[str, object]) -> Band:
    return Band(
        lattice_angstrom=np.array(row["lattice_angstrom"]),
        host_species=tuple(str(symbol) for symbol in np.array(row["host_species"])),
        host_frac_coords=np.array(row["host_frac_coords"]),
        ion=str(row["ion"]),
        image_frac_coords=np.array(row["image_frac_coords"]),
    )


@pytest.fixture(scope="module")
def bands(data_rows: Rows) -> list[Band]:
    named = [
        next(row for row in data_rows if row["id"] == "MgFe2O4"),
        next(row for row in data_rows if row["crystal_system"] == "Hexagonal"),
    ]
    rows = [*named, *data_rows[::31][:18]]
    assert len({row["id"] for row in rows}) == 20
    assert {"Triclinic", "Monoclinic", "Cubic", "Hexagonal"} <= {row["crystal_system"] for row in rows}
    return [band_of(row) for row in rows]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240611)


def steps(rng: np.random.Generator, count: int, length_angstrom: float) -> NDArray[np.float64]:
    directions = rng.normal(size=(count, 3))
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    return np.asarray(length_angstrom * directions / lengths)


def shifted(band: Band, rng: np.random.Generator) -> Band:
    by = rng.random(3)
    return replace(band, host_frac_coords=band.host_frac_coords + by, image_frac_coords=band.image_frac_coords + by)


def permuted(band: Band, rng: np.random.Generator) -> Band:
    order = rng.permutation(len(band.host_species))
    species = tuple(band.host_species[number] for number in order)
    return replace(band, host_species=species, host_frac_coords=band.host_frac_coords[order])


def wrapped(band: Band, rng: np.random.Generator) -> Band:
    cells = rng.integers(-2, 3, band.host_frac_coords.shape)
    return replace(
        band,
        host_frac_coords=band.host_frac_coords % 1.0 + cells,
        image_frac_coords=band.image_frac_coords + rng.integers(-2, 3, 3),
    )


def rotated(band: Band, rng: np.random.Generator) -> Band:
    orthogonal, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return replace(band, lattice_angstrom=band.lattice_angstrom @ orthogonal)


def in_another_setting(band: Band, rng: np.random.Generator) -> Band:
    matrix = np.eye(3)[rng.permutation(3)]
    for _ in range(4):
        one, two = rng.permutation(3)[:2]
        matrix[one] += rng.integers(-2, 3) * matrix[two]
    back = np.linalg.inv(matrix)
    return replace(
        band,
        lattice_angstrom=matrix @ band.lattice_angstrom,
        host_frac_coords=band.host_frac_coords @ back,
        image_frac_coords=band.image_frac_coords @ back,
    )


def rounded(band: Band, rng: np.random.Generator) -> Band:
    to_frac = np.linalg.inv(band.lattice_angstrom)
    host = band.host_frac_coords + steps(rng, len(band.host_species), 1e-3) @ to_frac
    images = band.image_frac_coords + steps(rng, len(band.image_frac_coords), 1e-3) @ to_frac
    lattice = np.round(band.lattice_angstrom, 4)
    return replace(band, lattice_angstrom=lattice, host_frac_coords=host, image_frac_coords=images)


def reversed_hop(band: Band, _rng: np.random.Generator) -> Band:
    return replace(band, image_frac_coords=band.image_frac_coords[::-1])


def with_nine_images(band: Band, _rng: np.random.Generator) -> Band:
    first, last = band.image_frac_coords[[0, -1]]
    return replace(band, image_frac_coords=first + np.linspace(0, 1, 9)[:, None] * (last - first))


EXACT: tuple[Change, ...] = (
    shifted,
    permuted,
    wrapped,
    rotated,
    in_another_setting,
    reversed_hop,
    with_nine_images,
)


def all_at_once(band: Band, rng: np.random.Generator) -> Band:
    for change in (*EXACT, rounded):
        band = change(band, rng)
    return band


def with_an_atom_moved(band: Band, rng: np.random.Generator) -> Band:
    host = band.host_frac_coords.copy()
    host[rng.integers(len(host))] += steps(rng, 1, 0.01)[0] @ np.linalg.inv(band.lattice_angstrom)
    return replace(band, host_frac_coords=host)


def with_the_end_moved(band: Band, rng: np.random.Generator) -> Band:
    images = band.image_frac_coords.copy()
    images[-1] += steps(rng, 1, 0.01)[0] @ np.linalg.inv(band.lattice_angstrom)
    return replace(band, image_frac_coords=images)


def with_another_element(band: Band, rng: np.random.Generator) -> Band:
    species = list(band.host_species)
    species[rng.integers(len(species))] = "Xe"
    return replace(band, host_species=tuple(species))


def with_two_atoms_exchanged(band: Band, rng: np.random.Generator) -> Band:
    species = np.array(band.host_species)
    one, two = rng.permutation(np.unique(species))[:2]
    first, second = rng.choice(np.flatnonzero(species == one)), rng.choice(np.flatnonzero(species == two))
    species[[first, second]] = two, one
    return replace(band, host_species=tuple(map(str, species)))


def strained(band: Band, _rng: np.random.Generator) -> Band:
    return replace(band, lattice_angstrom=band.lattice_angstrom * 1.003)


def stretched_one_way(band: Band, _rng: np.random.Generator) -> Band:
    return replace(band, lattice_angstrom=band.lattice_angstrom @ np.diag([1.003, 1.0, 1.0]))


def with_another_ion(band: Band, _rng: np.random.Generator) -> Band:
    return replace(band, ion="Rb" if band.ion != "Rb" else "Cs")


def the_longer_way(band: Band, _rng: np.random.Generator) -> Band:
    images = band.image_frac_coords + np.linspace(0, 1, len(band.image_frac_coords))[:, None] * [2.0, 0, 0]
    return replace(band, image_frac_coords=images)


@pytest.mark.parametrize("change", [*EXACT, rounded, all_at_once])
def test_the_same_band_is_recognised_and_found(bands: list[Band], rng: np.random.Generator, change: Change) -> None:
    for band in bands:
        other = change(band, rng)
        assert same_band(other, band)
        assert same_band(band, other)
        assert bucket_keys(fingerprint(band))[0] in bucket_keys(fingerprint(other))


@pytest.mark.parametrize(
    "change",
    [
        with_an_atom_moved,
        with_the_end_moved,
        with_another_element,
        with_two_atoms_exchanged,
        strained,
        stretched_one_way,
        with_another_ion,
        the_longer_way,
    ],
)
def test_another_band_is_not_the_same(bands: list[Band], rng: np.random.Generator, change: Change) -> None:
    for band in bands:
        other = all_at_once(change(band, rng), rng) if change is not with_the_end_moved else change(band, rng)
        assert not same_band(other, band)
        assert not same_band(band, other)


def test_every_row_of_the_data_set_is_recognised_in_other_words(data_rows: Rows, rng: np.random.Generator) -> None:
    missed = [row["id"] for row in data_rows if not same_band(all_at_once(band_of(row), rng), band_of(row))]
    assert missed == []


def test_different_hops_of_one_crystal_differ_unless_their_distances_agree(data_rows: Rows) -> None:
    forms = [canonical(band_of(row)) for row in data_rows[:200]]
    pairs = [(one, two) for one, two in combinations(forms, 2) if (one.ion, one.elements) == (two.ion, two.elements)]
    same = [(one, two) for one, two in pairs if same_band(one, two)]
    assert len(pairs) > 50
    assert len(same) < len(pairs) / 10
    for one, two in same:
        assert one.invariants_angstrom == pytest.approx(two.invariants_angstrom, abs=5e-3)


def test_the_tolerance_is_the_one_that_is_promised(bands: list[Band]) -> None:
    band = bands[0]
    to_frac = np.linalg.inv(band.lattice_angstrom)
    for share, expected in ((0.95, True), (1.1, False)):
        host = band.host_frac_coords.copy()
        host[3] += share * np.array([TOLERANCE_ANGSTROM, 0, 0]) @ to_frac
        assert same_band(replace(band, host_frac_coords=host), band) is expected


def test_the_rounding_of_the_ion_does_not_count_for_every_atom(bands: list[Band]) -> None:
    band = bands[0]
    step = np.array([1.5e-3, 0, 0]) @ np.linalg.inv(band.lattice_angstrom)
    host = band.host_frac_coords.copy()
    host[3] += step
    other = replace(band, host_frac_coords=host, image_frac_coords=band.image_frac_coords - step)
    assert same_band(other, band)


def test_two_atoms_never_share_a_partner(bands: list[Band]) -> None:
    band = bands[0]
    apart = np.array([0.004, 0, 0]) @ np.linalg.inv(band.lattice_angstrom)
    where = band.host_frac_coords[0]

    def with_twins(first: NDArray[np.float64], second: NDArray[np.float64]) -> Band:
        host = np.vstack([band.host_frac_coords, where + first, where + second])
        return replace(band, host_species=(*band.host_species, "Xe", "Xe"), host_frac_coords=host)

    assert same_band(with_twins(-apart, apart), with_twins(apart, -apart))
    assert not same_band(with_twins(-apart, apart), with_twins(apart, apart))


def test_a_directional_model_tells_a_hop_from_its_reverse(bands: list[Band], rng: np.random.Generator) -> None:
    told_apart = 0
    for band in bands:
        back = reversed_hop(band, rng)
        assert same_band(shifted(band, rng), band, directional=True)
        told_apart += not same_band(back, band, directional=True)
    assert told_apart > 0  # of a hop between equivalent sites the reverse may be congruent to it


def test_only_what_the_models_see_counts(bands: list[Band], rng: np.random.Generator) -> None:
    for band in bands[:5]:
        curved = band.image_frac_coords.copy()
        curved[2] += 0.05
        relaxed = np.repeat(band.host_frac_coords[None], 5, axis=0)
        relaxed[1:] += 0.01 * rng.random(relaxed[1:].shape)
        other = replace(band, image_frac_coords=curved, relaxed_host_frac_coords=relaxed)
        assert same_band(other, band)
        assert same_band(model_band(other), other)


def test_few_buckets_are_looked_into(bands: list[Band]) -> None:
    counts = [len(bucket_keys(fingerprint(band))) for band in bands]
    assert np.mean(counts) < 3
    assert max(counts) <= 32


def test_an_ion_without_a_host_breaks_nothing() -> None:
    lone = Band(
        lattice_angstrom=np.eye(3) * 8.0,
        host_species=(),
        host_frac_coords=np.zeros((0, 3)),
        ion="Li",
        image_frac_coords=np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]]),
    )
    longer = replace(lone, image_frac_coords=lone.image_frac_coords * 1.1)
    assert same_band(lone, lone)
    assert not same_band(lone, longer)
    assert bucket_keys(fingerprint(lone))
