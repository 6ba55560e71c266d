from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.models.prediction import QUANTILE_LEVELS
from training.barrier_task import outputs_of
from training.calibration import calibrate, coverage, fitted_domain
from training.config import RunConfig, read_config
from training.corpus import Corpus, read_corpus
from training.evaluation import OutOfFold, figures, out_of_fold
from training.runs import Run


def judged(residuals: np.ndarray, distances: np.ndarray | None = None) -> OutOfFold:
    count = len(residuals)
    return OutOfFold(
        rows=np.arange(count),
        labels_ev=np.ones(count),
        predictions_ev=np.ones(count),
        residuals=residuals,
        distances=np.ones(count) if distances is None else distances,
        sound=np.ones(count, dtype=bool),
    )


@pytest.mark.parametrize("rows", [55, 272])
def test_a_ninety_percent_interval_covers_ninety_percent_of_new_rows(rows: int) -> None:
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(400):
        calibration = calibrate(judged(generator.standard_t(3, rows)), (0,))
        covered.append(coverage(calibration, judged(generator.standard_t(3, 500)), 0.05, 0.95))
    assert np.mean(covered) == pytest.approx(0.90, abs=0.006)


def test_quantiles_rise_and_rows_that_are_not_sound_do_not_count() -> None:
    residuals = np.concatenate([np.linspace(-1, 1, 101), [50.0]])
    sound = np.arange(102) < 101
    calibration = calibrate(replace(judged(residuals), sound=sound), (3,))
    assert list(calibration.residual_quantiles) == sorted(calibration.residual_quantiles)
    assert len(calibration.residual_quantiles) == len(QUANTILE_LEVELS)
    assert (calibration.rows, calibration.folds) == (101, (3,))
    assert max(calibration.residual_quantiles) <= 1.0


def test_outside_the_domain_is_wider_by_what_far_rows_were_off() -> None:
    generator = np.random.default_rng(2)
    residuals, distances = generator.normal(size=1000), generator.random(1000)
    residuals[distances > np.quantile(distances, 0.9)] *= 3
    assert calibrate(judged(residuals, distances), (0,)).outside_factor == pytest.approx(3.0, rel=0.3)
    assert calibrate(judged(generator.normal(size=1000), distances), (0,)).outside_factor == 1.5


@pytest.fixture(scope="module")
def corpus(data_dir: Path) -> Corpus:
    whole = read_corpus(data_dir)
    few = [record for record in whole.records if len(record.band.host_species) < 45][:12]
    return replace(whole, records=tuple(replace(one, folds={"fold_random": n % 3}) for n, one in enumerate(few)))


@pytest.fixture(scope="module")
def config() -> RunConfig:
    shipped = read_config("literature-model-3-compact")
    trunk = {"features": 8, "alignn_layers": 1, "graph_layers": 1, "embedding": 8, "marks_ion": True}
    arguments = {**shipped.arguments, "trunk": trunk, "head": [8]}
    fit = replace(shipped.fit, epochs=2)
    return replace(shipped, arguments=arguments, pretrained="", batch_bands=4, fit=fit)


def test_each_fold_s_outputs_belong_to_its_rows(config: RunConfig, corpus: Corpus, tmp_path: Path) -> None:
    run = Run(config, corpus, tmp_path, device=torch.device("cpu"))
    results = [run.fold(fold, lambda *_: None) for fold in (2, 0)]
    for result in results:
        others = corpus.folds("fold_random") != result.fold
        network, _ = run.fitted(others & corpus.sound, tmp_path / str(result.fold), "", lambda *_: None)
        for row, output in zip(result.rows, result.outputs, strict=True):
            alone, _ = outputs_of(network, [run.graphs[row]], run.device)
            assert output == pytest.approx(alone[0], abs=1e-5)
    joined = out_of_fold(run, results)
    assert joined.rows.tolist() == [row for row in range(12) if row % 3 != 1]
    assert joined.labels_ev.tolist() == [corpus.records[row].barrier_ev for row in joined.rows]
    assert run.to_target(joined.predictions_ev) == pytest.approx(run.to_target(joined.labels_ev) - joined.residuals)
    table = figures(run, results)
    assert table["folds"] == [2, 0]
    assert isinstance(table["all"], dict)
    assert table["all"]["mae_ev"]["value"] == pytest.approx(np.abs(joined.predictions_ev - joined.labels_ev).mean())


def test_the_domain_is_what_the_sound_bands_cover(config: RunConfig, corpus: Corpus, tmp_path: Path) -> None:
    run = Run(config, corpus, tmp_path, device=torch.device("cpu"))
    domain = fitted_domain(run, torch.randn(len(corpus.records), 8))
    bands = [record.band for record in corpus.records if record.sound]
    assert set(domain.ions) == {band.ion for band in bands}
    assert set(domain.elements) == {symbol for band in bands for symbol in band.host_species}
    low, high = domain.hop_distance_angstrom
    assert all(low <= band.hop_distance_angstrom <= high for band in bands)
