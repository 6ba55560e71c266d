"""Several corpora in one model: no fold sees itself, what is served is what was fitted, and shares add up to one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.models.networks.world_machines import ION
from app.models.registry import Registry
from training.corpus import LITERATURE, LITRAJ, Corpus
from training.kernels.calibrated import calibrate, cross_calibrated_ev
from training.kernels.config import WorldConfig
from training.kernels.difficulty import fit_difficulty
from training.kernels.publish import publish_kernels
from training.kernels.run import KernelRun
from training.kernels.worlds import FittedWorlds, worlds_of


def test_what_is_published_answers_what_was_fitted_and_what_it_leans_on(
    world_run: KernelRun, two_worlds: Corpus, tmp_path: Path
) -> None:
    card = publish_kernels(world_run, tmp_path / "store", version="3")
    predictor = Registry.open(tmp_path / "store", "cpu", default="default").predictor()
    asked = predictor.predict([predictor.graph(record.band) for record in two_worlds.records])
    judged = world_run.fitted().judged()
    assert [one.barrier_ev for one in asked] == pytest.approx(world_run.barriers_ev(judged.outputs), abs=1e-4)
    for one, shares in zip(asked, judged.leans_on, strict=True):
        assert one.leans_on == pytest.approx(dict(zip((LITERATURE, LITRAJ), shares, strict=True)), abs=1e-4)
        assert sum(one.leans_on.values()) == pytest.approx(1.0)
    calibrated = calibrate(world_run, world_run.out_of_fold("fold_chemistry"), two_worlds.sound)
    assert card.calibration.outside_factor == pytest.approx(calibrated.outside_factor)
    judged = world_run.fitted().judged()
    tops = world_run.barriers_ev(judged.outputs + calibrated.offsets(judged, np.zeros(len(asked), dtype=bool))[-1])
    inside = [one.in_domain for one in asked]
    assert any(inside)
    assert np.array([one.quantiles_ev[-1] for one in asked])[inside] == pytest.approx(tops[inside], rel=1e-4)
    assert set(card.corpus["files"]) == set(card.metrics["fold_random"]["worlds"]) == {LITERATURE, LITRAJ}
    assert set(card.metrics["fitted_on_one_world"]) == {LITERATURE, LITRAJ}
    assert any("LiTraj" in citation for citation in card.citations)


def test_rows_lean_on_their_own_world_out_of_fold_more_often_than_not(world_run: KernelRun) -> None:
    shares = world_run.out_of_fold("fold_random").judged.leans_on
    assert shares.sum(axis=1) == pytest.approx(1.0)
    own = shares[np.arange(len(shares)), world_run.world_numbers]
    assert own.mean() > 0.6


def test_a_fold_s_own_labels_change_nothing_of_what_is_said_of_it(world_run: KernelRun) -> None:
    first = world_run.corpus.folds("fold_random") == 0
    before = world_run.out_of_fold("fold_random").judged.outputs
    kept = world_run.targets
    try:
        world_run.targets = np.where(first, kept + 3.0, kept)
        after = world_run.out_of_fold("fold_random").judged.outputs
    finally:
        world_run.targets = kept
    assert after[first] == pytest.approx(before[first], abs=1e-12)
    assert np.abs(after[~first] - before[~first]).max() > 0.1


def test_an_ion_leans_on_the_worlds_that_have_it(world_run: KernelRun) -> None:
    sodium = np.flatnonzero(world_run.worlds == 0)[0]
    changed = {**world_run.groups, ION: world_run.groups[ION].copy()}
    changed[ION][sodium] = 11.0
    served = world_run.fitted()
    assert isinstance(served, FittedWorlds)
    fitted = replace(served, groups=changed)
    network = fitted.served
    network._ions = [torch.tensor([3.0, 11.0]), torch.tensor([3.0])]
    assert fitted.judged().leans_on[sodium].tolist() == [1.0, 0.0]
    network._ions = [torch.tensor([3.0, 12.0, 30.0]), torch.tensor([3.0])]
    assert fitted.judged().leans_on[sodium].tolist() == [0.75, 0.25]


def test_intervals_hold_in_both_worlds(world_run: KernelRun, two_worlds: Corpus) -> None:
    quantiles = cross_calibrated_ev(world_run, world_run.out_of_fold("fold_random"))
    labels = two_worlds.barriers_ev
    held = (labels >= quantiles[2]) & (labels <= quantiles[12])
    for number in (0, 1):
        assert held[world_run.world_numbers == number].mean() > 0.65


def test_a_fold_s_own_labels_change_nothing_of_its_intervals(world_run: KernelRun) -> None:
    folds = world_run.corpus.folds("fold_random")
    before = world_run.nested(world_run.out_of_fold("fold_random"))
    kept = world_run.targets
    try:
        world_run.targets = np.where(folds == 0, kept + 3.0, kept)
        after = world_run.nested(world_run.out_of_fold("fold_random"))
    finally:
        world_run.targets = kept
    assert set(before.nested) == set(np.unique(folds))
    assert after.nested[0].residuals[folds != 0] == pytest.approx(before.nested[0].residuals[folds != 0], abs=1e-12)
    assert np.abs(after.residuals - before.residuals)[folds != 0].max() > 0.1
    intervals = (cross_calibrated_ev(world_run, out)[:, folds == 0] for out in (before, after))
    assert next(intervals) == pytest.approx(next(intervals), abs=1e-9)


def test_unseen_sizes_are_those_of_a_regression_fitted_without_the_fold(world_run: KernelRun) -> None:
    out, folds = world_run.out_of_fold("fold_random"), world_run.corpus.folds("fold_random")
    rows, config = world_run.corpus.sound, world_run.config.local
    assert config is not None
    fitted = fit_difficulty(out.judged, out.residuals, rows, groups=world_run.groups, folds=folds, config=config)
    assert fitted.local is not None
    left = np.log(np.abs(out.residuals) + 0.03) - out.judged.terms() @ fitted.coefficients
    others = folds[rows] != 0
    kernel = fitted.local.kernel[rows][np.ix_(others, others)]
    weight = np.linalg.solve(kernel + config.penalty * np.eye(len(kernel)), left[rows][others])
    expected = fitted.local.kernel[rows][~others][:, others] @ weight
    assert fitted.unseen[rows][~others] == pytest.approx(expected, abs=1e-9)
    assert np.abs(fitted.local.outputs[rows][~others] - expected).max() > 0.01


def test_a_lab_s_own_rows_count_as_the_literature_s(world_run: KernelRun) -> None:
    config = world_run.config.worlds
    assert config is not None
    assert worlds_of(np.array(["mylab", LITRAJ, LITERATURE]), config).tolist() == [0, 1, 0]
    own = WorldConfig(name="mylab", penalty=7.0, views=config.worlds[0].views, sources=("mylab",))
    more = replace(config, worlds=(*config.worlds, own))
    assert worlds_of(np.array(["mylab", LITRAJ, LITERATURE]), more).tolist() == [2, 1, 0]
