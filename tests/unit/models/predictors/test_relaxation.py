"""A few steps of relaxation: down in energy, the ion kept in its place along the hop, the same however it is turned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bands import CHANGES, band_of

from app.crystals.band import Band
from app.models.networks.chgnet import Chgnet
from app.models.predictors.relaxation import STEPS, RelaxedBand, band_structure, relax
from app.models.predictors.relaxed_descriptors import RELAXED_DESCRIPTOR_NAMES, relaxed_descriptors
from app.models.registry import Registry
from training.potentials import published_chgnet


@pytest.fixture(scope="module")
def potential() -> Chgnet:
    return published_chgnet()


@pytest.fixture(scope="module")
def band(data_rows: list[dict[str, Any]]) -> Band:
    return band_of(min((row for row in data_rows if row["sound"]), key=lambda row: len(row["host_species"])))


def relaxed(band: Band, potential: Chgnet) -> RelaxedBand:
    (one,) = relax([band_structure(band)], potential, torch.device("cpu"))
    return one


@pytest.fixture(scope="module")
def plain(band: Band, potential: Chgnet) -> RelaxedBand:
    return relaxed(band, potential)


def test_every_image_goes_down_and_its_forces_fall(plain: RelaxedBand) -> None:
    assert plain.energy_ev.shape == (STEPS + 1, 5)
    assert np.all(plain.energy_ev[-1] <= plain.energy_ev[0] + 1e-4)
    assert plain.energy_ev[-1].sum() < plain.energy_ev[0].sum() - 0.05
    assert plain.greatest_force[-1].max() < 0.5 * plain.greatest_force[0].max()


def test_it_is_described_by_finite_numbers_the_same_both_ways(plain: RelaxedBand) -> None:
    backwards = RelaxedBand(
        energy_ev=plain.energy_ev[:, ::-1],
        ion_shift_angstrom=plain.ion_shift_angstrom[::-1],
        greatest_shift_angstrom=plain.greatest_shift_angstrom[::-1],
        greatest_force=plain.greatest_force[:, ::-1],
    )
    numbers = relaxed_descriptors(plain)
    assert len(numbers) == len(RELAXED_DESCRIPTOR_NAMES)
    assert np.isfinite(numbers).all()
    assert relaxed_descriptors(backwards) == pytest.approx(numbers, abs=1e-9)


def test_turning_the_crystal_changes_nothing(band: Band, plain: RelaxedBand, potential: Chgnet) -> None:
    turned = relaxed(CHANGES["rotation"](band, np.random.default_rng(2)), potential)
    assert turned.energy_ev - turned.energy_ev.min() == pytest.approx(plain.energy_ev - plain.energy_ev.min(), abs=2e-3)


def test_the_shipped_checkpoint_answers_as_a_service_asks_it(repository: Path, band: Band) -> None:
    predictor = Registry.open(repository / "model_store", "cpu", default="default").predictor("relaxed")
    predictor.warm_up()
    (prediction,) = predictor.predict([predictor.graph(band)])
    low, high = prediction.interval_ev
    assert 0 <= low <= prediction.barrier_ev <= high
    assert predictor.cost(predictor.graph(band)) > 1e5


def test_a_large_cell_is_cut_to_what_is_near_the_path(data_rows: list[dict[str, Any]]) -> None:
    row = max(data_rows, key=lambda row: len(row["host_species"]))
    structure = band_structure(band_of(row))
    assert len(structure.numbers) < len(row["host_species"]) / 2
    assert structure.images.shape == (5, len(structure.numbers), 3)
