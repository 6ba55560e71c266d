"""Kernel machines from bands to a checkpoint: what is fitted is what is served, and no fold sees itself."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from app.models.networks.kernel_machines import KernelMachine
from app.models.registry import Registry
from training.cli import train
from training.corpus import Corpus
from training.kernels.calibrated import calibrate
from training.kernels.difficulty import fit_difficulty
from training.kernels.ensemble import Ensemble
from training.kernels.figures import expected_calibration_error
from training.kernels.publish import publish_kernels
from training.kernels.run import KernelRun


def test_a_fold_s_own_labels_change_nothing_of_what_is_said_of_it(
    run: KernelRun, make_run: Callable[[Corpus], KernelRun], corpus: Corpus
) -> None:
    changed = tuple(
        replace(record, barrier_ev=9.0) if record.folds["fold_random"] == 0 else record for record in corpus.records
    )
    other = make_run(replace(corpus, records=changed))
    first = corpus.folds("fold_random") == 0
    one, two = (each.out_of_fold("fold_random").judged.outputs for each in (run, other))
    assert two[first] == pytest.approx(one[first], abs=1e-12)
    assert np.abs(two[~first] - one[~first]).max() > 0.1


def test_what_is_published_answers_what_was_fitted(run: KernelRun, corpus: Corpus, tmp_path: Path) -> None:
    card = publish_kernels(run, tmp_path / "store", version="3")
    predictor = Registry.open(tmp_path / "store", "cpu", default="default").predictor()
    asked = predictor.predict([predictor.graph(record.band) for record in corpus.records])
    expected = run.barriers_ev(run.fitted().judged().outputs)
    assert [one.barrier_ev for one in asked] == pytest.approx(expected, abs=1e-4)
    calibrated = calibrate(run, run.out_of_fold("fold_random"), corpus.sound)
    judged = run.fitted().judged()
    highest = run.barriers_ev(judged.outputs + calibrated.offsets(judged, np.zeros(len(expected), dtype=bool))[-1])
    inside = np.array([one.in_domain for one in asked])
    assert np.array([one.quantiles_ev[-1] for one in asked])[inside] == pytest.approx(highest[inside], rel=1e-4)
    assert card.version == "3"
    assert {"fold_random", "fold_chemistry"} <= set(card.metrics)
    for folding in ("fold_random", "fold_chemistry"):
        assert 0.6 <= card.metrics[folding]["calibration"]["coverage_of_90_percent_intervals"]["value"] <= 1.0


def test_a_second_call_finds_the_features_that_the_first_one_left(
    run: KernelRun, make_run: Callable[[Corpus], KernelRun], corpus: Corpus, folder: Path
) -> None:
    kept = set((folder / "features").glob("described-*.safetensors"))
    before = [path.stat().st_mtime_ns for path in kept]
    again = make_run(corpus)
    assert set((folder / "features").glob("described-*.safetensors")) == kept
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert again.groups["path"] == pytest.approx(run.groups["path"])


def test_a_machine_is_the_sum_that_it_says(run: KernelRun, corpus: Corpus) -> None:
    ensemble = run.fitted()
    assert isinstance(ensemble, Ensemble)
    machine = ensemble.machines[-1]
    network: KernelMachine = machine.network(len(corpus.records))
    groups = {name: torch.from_numpy(run.groups[name]) for name in machine.metric.groups}
    places = network.place(groups).numpy()
    by_hand = [
        sum(w * np.exp(-((place - support) ** 2).sum()) for w, support in zip(machine.weight, places, strict=True))
        + machine.intercept
        for place in places[:5]
    ]
    assert machine.outputs[:5] == pytest.approx(by_hand, abs=1e-9)
    assert network(network.squared_distances(groups)).numpy() == pytest.approx(machine.outputs, abs=1e-6)


def test_difficulty_follows_the_size_of_the_residuals(run: KernelRun, corpus: Corpus) -> None:
    out = run.out_of_fold("fold_random")
    everything = np.ones(len(corpus.records), dtype=bool)
    size = np.exp(0.5 * np.log(out.judged.variance + 0.05))
    folds = corpus.folds("fold_random")
    fitted = fit_difficulty(out.judged, size - 0.03, everything, groups=run.groups, folds=folds, config=None)
    assert fitted.sizes(out.judged) == pytest.approx(size, rel=1e-6)
    assert fitted.unseen_sizes(out.judged) == pytest.approx(size, rel=1e-6)


def test_the_calibration_error_of_probabilities_that_hold_is_small() -> None:
    generator = np.random.default_rng(0)
    probability = generator.uniform(size=20_000)
    good = (generator.uniform(size=20_000) < probability).astype(float)
    assert expected_calibration_error(probability, good) < 0.02
    assert expected_calibration_error(probability, 1.0 - good) > 0.3


def test_the_command_names_what_it_cannot_find(tmp_path: Path) -> None:
    commands = typer.Typer()
    commands.command()(train)
    result = CliRunner().invoke(commands, ["default", "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "no barriers at" in result.output.replace("\n", " ")
