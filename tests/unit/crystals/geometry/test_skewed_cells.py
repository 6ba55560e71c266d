"""A lattice may be written with long, skewed vectors: nothing that is read or found depends on it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from put_back import row_band

from app.crystals.band import Band, IntArray
from app.crystals.geometry.identity import same_band
from app.crystals.geometry.periodic import cell_heights_angstrom, near_pairs
from app.crystals.hops.search import find_hops
from app.crystals.limits import Limits
from app.crystals.readers import File, read_band_file, read_crystal, read_json_band
from app.crystals.writers import band_to_extxyz, band_to_json
from app.errors import InputError

Rows = Sequence[Mapping[str, Any]]
SKEWED = np.array([[1, 0, 0], [12, 1, 0], [-10, 9, 1]])


def in_setting(band: Band, setting: IntArray) -> Band:
    """The same band in other vectors of the same lattice, its atoms wrapped into that cell."""
    change = np.linalg.inv(setting)
    return replace(
        band,
        lattice_angstrom=setting @ band.lattice_angstrom,
        host_frac_coords=(band.host_frac_coords @ change) % 1.0,
        image_frac_coords=(band.image_frac_coords @ change) % 1.0,
    )


@pytest.mark.parametrize("setting", [np.array([[1, 0, 0], [4, 1, 0], [3, -3, 1]]), SKEWED])
def test_a_row_in_a_skewed_setting_is_the_same_band(data_rows: Rows, setting: IntArray) -> None:
    for row in [row for row in data_rows if row["sound"]][::60]:
        band = row_band(row)
        skewed = in_setting(band, setting)
        if setting is SKEWED:
            assert cell_heights_angstrom(skewed.lattice_angstrom).min() < 1.2
        texts = (("band.json", str(band_to_json(skewed)).replace("'", '"')), ("band.xyz", band_to_extxyz(skewed)))
        for name, text in texts:
            read = read_band_file(File(name=name, content=text.encode()), Limits()).band
            assert read.hop_distance_angstrom == pytest.approx(band.hop_distance_angstrom, abs=1e-3)
            assert same_band(read, band), (row["id"], name)


def test_a_crystal_in_a_skewed_setting_has_the_same_hops(repository: Path) -> None:
    path = repository / "examples" / "LiFePO4.cif"
    crystal = read_crystal(File(name=path.name, content=path.read_bytes()), Limits())
    change = np.linalg.inv(SKEWED)
    symbols = [site.species[0][0] for site in crystal.sites]
    rows = [SKEWED @ crystal.lattice_angstrom, *((np.array(site.frac_coords) @ change) % 1.0 for site in crystal.sites)]
    numbers = [" ".join(f"{value:.12f}" for value in row) for row in np.vstack(rows)]
    head = ["title", "1", *numbers[:3], " ".join(symbols), " ".join("1" for _ in symbols), "Direct"]
    skewed = read_crystal(File(name="POSCAR", content="\n".join([*head, *numbers[3:]]).encode()), Limits())
    plain, other = (find_hops(one, "Li", max_atoms=2000) for one in (crystal, skewed))
    assert len(plain.hops) == len(other.hops)
    for one, two in zip(plain.hops, other.hops, strict=True):
        assert two.distance_angstrom == pytest.approx(one.distance_angstrom, abs=1e-6)
        assert two.multiplicity == one.multiplicity
        assert one.band is not None
        assert two.band is not None
        assert same_band(one.band, two.band)


def test_overlaps_are_seen_across_a_skewed_cell() -> None:
    band = Band(
        lattice_angstrom=np.eye(3) * 8.0,
        host_species=("O", "Fe"),
        host_frac_coords=np.array([[0.5, 0.5, 0.999], [0.5, 0.5, 0.001]]),
        ion="Li",
        image_frac_coords=np.array([[0.0, 0.0, 0.0], [0.15, 0.0, 0.0], [0.3, 0.0, 0.0]]),
    )
    with pytest.raises(InputError, match=r"0\.02 angstrom apart") as refused:
        read_json_band(band_to_json(in_setting(band, SKEWED)), Limits())
    assert refused.value.kind == "atoms-overlap"
    on_atom = replace(band, host_species=("O",), host_frac_coords=np.array([[0.3, 0.01, 0.0]]))
    with pytest.raises(InputError, match="ends on top of O"):
        read_json_band(band_to_json(in_setting(on_atom, SKEWED)), Limits())


def test_near_pairs_are_those_that_looking_at_every_copy_finds() -> None:
    generator = np.random.default_rng(3)
    lattice = SKEWED @ np.array([[3.1, 0.2, 0.0], [0.4, 4.0, -0.3], [0.0, 0.5, 3.6]])
    frac = generator.random((20, 3))
    cells = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    reduced = frac @ SKEWED
    away = reduced[None] - reduced[:, None]
    away -= np.rint(away)
    every = np.linalg.norm((away[:, :, None] + cells) @ np.linalg.inv(SKEWED) @ lattice, axis=3).min(axis=2)
    pairs, lengths = near_pairs(frac, None, lattice, 1.4)
    expected = {(i, j) for i, j in np.argwhere(every < 1.4) if i < j}
    assert {(min(i, j), max(i, j)) for i, j in pairs.tolist()} == expected
    np.testing.assert_allclose(lengths, every[pairs[:, 0], pairs[:, 1]], atol=1e-9)
