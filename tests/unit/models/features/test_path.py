"""The promises of the path's descriptors, on real bands and on made ones."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from bands import CHANGES, band_of, rock_salt, with_images
from hypothesis import given, settings
from hypothesis import strategies as st

from app.crystals.band import Band
from app.crystals.elements import LAST_COVERED, SYMBOLS
from app.crystals.geometry.lattices import shortest_translation_angstrom
from app.crystals.hops.surroundings import path_surroundings
from app.models.features.eased import EASED_NAMES
from app.models.features.path import PATH_DESCRIPTOR_NAMES, descriptors_of, path_descriptors
from app.models.features.surroundings import OUTER_ANGSTROM

#: High-symmetry hosts, where orders are tied, sulfates, dilute and vacancy hops.
CHOSEN = ("MgFe2O4", "AlFe2O4", "CaMoO3", "Li3PS4", "NaFePO4", "KFeSO4F", "MgTi2S4", "LiCoO2")


@pytest.fixture(scope="module")
def bands(data_rows: list[dict[str, object]]) -> list[Band]:
    named = [row for row in data_rows if str(row["id"]).startswith(CHOSEN)]
    rows = named[:12] + data_rows[::40]
    assert any(str(row["id"]).startswith("MgFe2O4") for row in rows)
    return [band_of(row) for row in rows]


NAMES = (*PATH_DESCRIPTOR_NAMES, *EASED_NAMES)


def described(band: Band) -> np.ndarray:
    """The descriptors of both lines."""
    found = path_descriptors(band)
    return np.concatenate([found.values, found.eased])


def assert_same(one: Band, two: Band) -> None:
    first, second = described(one), described(two)
    apart = np.abs(first - second) > 1e-6 * np.abs(first) + 1e-9
    assert not apart.any(), [(NAMES[i], first[i], second[i]) for i in np.flatnonzero(apart)]


def test_names_are_distinct_and_match_the_values() -> None:
    found = path_descriptors(rock_salt())
    assert len(set(NAMES)) == len(NAMES) == len(described(rock_salt()))
    assert list(found.as_dict()) == list(PATH_DESCRIPTOR_NAMES)


def test_hops_described_together_are_described_as_each_alone(bands: list[Band]) -> None:
    """Of unlike ions, sizes and chemistry, several stacks of them; and one in the void, which has no atoms near."""
    void = replace(rock_salt(), lattice_angstrom=np.eye(3) * 400.0)
    hops = [*bands, void, replace(bands[0], image_frac_coords=bands[0].image_frac_coords[[0, -1]])]
    assert len(hops) > 8
    assert len({band.ion for band in hops[:8]}) > 1
    together = descriptors_of([path_surroundings(band, OUTER_ANGSTROM) for band in hops])
    for band, one in zip(hops, together, strict=True):
        alone = path_descriptors(band)
        np.testing.assert_allclose(one.values, alone.values, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(one.eased, alone.eased, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(one.eased_images, alone.eased_images, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_nothing_changes_with_how_a_hop_is_written(
    change: Callable[[Band, np.random.Generator], Band], bands: list[Band]
) -> None:
    generator = np.random.default_rng(7)
    for band in bands:
        assert_same(band, change(band, generator))


@pytest.mark.parametrize("count", [2, 3, 9])
def test_any_number_of_straight_images_gives_the_same(count: int, bands: list[Band]) -> None:
    for band in bands:
        assert_same(band, with_images(band, count))


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 2)])
def test_a_larger_supercell_of_the_same_host_gives_the_same(repeats: tuple[int, int, int], bands: list[Band]) -> None:
    """The repeated host keeps the copied vacancies empty, so what is within 8 angstrom of the path is the same."""
    wide = [band for band in bands if alone_in_a_wide_cell(band)]
    assert len(wide) >= 2
    for band in wide:
        assert_same(band, repeated(band, repeats))


def alone_in_a_wide_cell(band: Band) -> bool:
    """Elsewhere copies of the ion count as filled: see app.crystals.hops.surroundings."""
    return band.ion not in band.host_species and shortest_translation_angstrom(band.lattice_angstrom) > 8.0


def test_rounding_of_coordinates_changes_little(bands: list[Band]) -> None:
    """No count flips where neighbours are nearly tied: a change of 1e-6 angstrom shows as little.

    Electrostatic sums are steep, some 100 eV an angstrom; a hard count would change by a whole number.
    """
    generator = np.random.default_rng(3)
    for band in bands:
        shift = generator.normal(scale=1e-6, size=band.host_frac_coords.shape) @ np.linalg.inv(band.lattice_angstrom)
        moved = replace(band, host_frac_coords=band.host_frac_coords + shift)
        first, second = described(band), described(moved)
        apart = np.abs(first - second) > 5e-4 * np.maximum(np.abs(first), 1.0)
        assert not apart.any(), [NAMES[i] for i in np.flatnonzero(apart)]


def test_nothing_jumps_while_a_crystal_swells() -> None:
    """In 240 steps from 2.0 to 2.6 angstrom no number takes a tenth of its whole way at once, as a hard count would."""
    swelling = np.stack([described(rock_salt(spacing)) for spacing in np.linspace(2.0, 2.6, 241)])
    longest_step = np.abs(np.diff(swelling, axis=0)).max(axis=0)
    jumps = longest_step > 0.1 * np.ptp(swelling, axis=0) + 1e-9
    assert not jumps.any(), [NAMES[i] for i in np.flatnonzero(jumps)]


@pytest.mark.parametrize("number", range(1, LAST_COVERED + 1))
def test_every_covered_element_gives_finite_numbers(number: int) -> None:
    symbol = SYMBOLS[number - 1]
    host = rock_salt()
    as_cation = replace(host, host_species=tuple(symbol if one == "Mg" else one for one in host.host_species))
    as_anion = replace(host, host_species=tuple(symbol if one == "O" else one for one in host.host_species))
    for band in (as_cation, as_anion, replace(host, ion=symbol)):
        assert np.isfinite(described(band)).all()


@pytest.mark.parametrize("species", [(), ("O",), ("Fe",)])
def test_a_host_of_few_atoms_is_described(species: tuple[str, ...]) -> None:
    band = Band(
        lattice_angstrom=np.eye(3) * 30.0,
        host_species=species,
        host_frac_coords=np.zeros((len(species), 3)),
        ion="Li",
        image_frac_coords=np.array([[0.06, 0.0, 0.0], [0.16, 0.0, 0.0]]),
    )
    assert np.isfinite(described(band)).all()


def test_an_ion_that_passes_through_an_atom_or_stays_is_described() -> None:
    band = rock_salt()
    through = replace(band, image_frac_coords=np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]))
    still = replace(band, image_frac_coords=np.array([[0.1, 0.1, 0.1], [0.1, 0.1, 0.1]]))
    for one in (through, still):
        assert np.isfinite(described(one)).all()


def test_what_is_known_of_rock_salt_is_found() -> None:
    """From one tetrahedral void of MgO (a/2 = 2.1 angstrom) to the next, through the middle of an edge."""
    found = path_descriptors(rock_salt()).as_dict()
    assert found["hop_length_angstrom"] == pytest.approx(2.1)
    assert found["ends_anion_distance_1_angstrom"] == pytest.approx(2.1 * np.sqrt(3) / 2)
    assert found["ends_anion_distance_4_angstrom"] == pytest.approx(2.1 * np.sqrt(3) / 2)
    assert found["ends_anion_distance_5_angstrom"] > 3.0
    assert found["middle_anion_distance_2_angstrom"] == pytest.approx(2.1 / np.sqrt(2))
    assert found["bottleneck_radius_angstrom"] == pytest.approx(min(2.1 / np.sqrt(2) - 1.4, 2.1 / np.sqrt(2) - 0.72))
    assert found["shared_anions"] == pytest.approx(2.0, abs=0.01)
    assert found["anion_share_O"] == pytest.approx(1.0, abs=1e-3)
    assert found["ion_charge"] == 1.0


def test_sulfur_is_a_cation_in_a_sulfate_and_an_anion_in_a_sulfide(data_rows: list[dict[str, object]]) -> None:
    sulfate = next(row for row in data_rows if str(row["chemical_system"]) == "Fe-Na-O-S")
    sulfide = next(row for row in data_rows if str(row["chemical_system"]) == "Mg-S-Ti")
    found = path_descriptors(band_of(sulfate)).as_dict()
    assert found["anion_share_S"] == pytest.approx(0.0, abs=1e-3)
    assert found["polyanion_share_S"] > 0.5
    found = path_descriptors(band_of(sulfide)).as_dict()
    assert found["anion_share_S"] == pytest.approx(1.0, abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_bands_are_described_alike_however_they_are_written(data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count = data.draw(st.integers(1, 24))
    species = data.draw(st.lists(st.sampled_from(SYMBOLS[:LAST_COVERED]), min_size=count, max_size=count))
    band = Band(
        lattice_angstrom=np.eye(3) * generator.uniform(4.0, 9.0) + generator.uniform(-1.0, 1.0, (3, 3)),
        host_species=tuple(species),
        host_frac_coords=generator.random((count, 3)),
        ion=data.draw(st.sampled_from(["Li", "Mg", "Zn", "Al", "F"])),
        image_frac_coords=generator.random((2, 3)),
    )
    assert np.isfinite(described(band)).all()
    for change in CHANGES.values():
        assert_same(band, change(band, generator))


def test_a_hop_close_to_a_lattice_vector_is_the_same_in_both_directions() -> None:
    """The ion's own copies are then as near as 0.4 angstrom to the ends, and count once, halfway."""
    band = Band(
        lattice_angstrom=np.array([[4.4, 0.5, 0.6], [0.2, 4.5, -0.9], [0.9, 0.8, 5.4]]),
        host_species=("H",),
        host_frac_coords=np.array([[0.29, 0.09, 0.15]]),
        ion="Li",
        image_frac_coords=np.array([[0.06, 0.09, 0.28], [0.96, 0.12, 0.31]]),
    )
    assert_same(band, replace(band, image_frac_coords=band.image_frac_coords[::-1].copy()))


def repeated(band: Band, repeats: tuple[int, int, int]) -> Band:
    cells = np.stack(np.meshgrid(*map(np.arange, repeats), indexing="ij"), axis=-1).reshape(-1, 3)
    times = np.array(repeats)
    return replace(
        band,
        lattice_angstrom=band.lattice_angstrom * times[:, None],
        host_species=band.host_species * len(cells),
        host_frac_coords=((band.host_frac_coords[None] + cells[:, None]) / times).reshape(-1, 3),
        image_frac_coords=band.image_frac_coords / times,
    )
