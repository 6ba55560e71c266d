"""The perceptrons beside the kernel machines: what is fitted is what is served, twice the same, and it learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.corpus import Corpus
from training.kernels.config import KernelConfig, NetworkConfig, kernel_config_path, read_kernel_config
from training.kernels.ensemble import Ensemble
from training.kernels.networks import FittedNetworks, fit_networks
from training.kernels.run import KernelRun


@pytest.fixture
def perceptrons(config: KernelConfig) -> NetworkConfig:
    return config.networks[0]


def fitted(run: KernelRun, config: NetworkConfig, rows: np.ndarray, **changed: np.ndarray) -> FittedNetworks:
    groups = {**run.groups, **changed}
    return fit_networks(groups, config, clip=run.config.clip, targets=run.targets, rows=rows)


def test_a_second_fit_is_the_first_one_whatever_was_drawn_before(
    run: KernelRun, perceptrons: NetworkConfig, corpus: Corpus
) -> None:
    torch.manual_seed(1)
    one = fitted(run, perceptrons, corpus.sound)
    drawn = torch.rand(3)
    torch.manual_seed(2)
    two = fitted(run, perceptrons, corpus.sound)
    assert one.outputs == pytest.approx(two.outputs, abs=0.0)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), drawn)  # and what others draw is left alone
    other = fitted(run, replace(perceptrons, seed=1), corpus.sound)
    assert np.abs(other.outputs - one.outputs).max() > 1e-3


def test_more_epochs_come_closer_to_the_fitted_labels(
    run: KernelRun, perceptrons: NetworkConfig, corpus: Corpus
) -> None:
    errors = [
        np.abs(fitted(run, replace(perceptrons, epochs=epochs), corpus.sound).outputs - run.targets).mean()
        for epochs in (24, 120)
    ]
    median = np.abs(np.median(run.targets) - run.targets).mean()
    assert errors[1] < 0.6 * errors[0]
    assert errors[1] < 0.6 * median


def test_the_mean_of_the_members_is_what_is_said(run: KernelRun, perceptrons: NetworkConfig, corpus: Corpus) -> None:
    one = fitted(run, perceptrons, corpus.sound)
    groups = {"path": torch.from_numpy(run.groups["path"])}
    members = one.network.member_outputs(one.network.place(groups)).numpy()
    assert members.shape == (perceptrons.members, len(corpus.records))
    assert np.abs(members[0] - members[1]).max() > 1e-3
    assert one.outputs == pytest.approx(members.mean(axis=0), abs=1e-6)
    alone = [float(one.network({"path": groups["path"][[row]]})) for row in range(4)]
    assert one.outputs[:4] == pytest.approx(alone, abs=1e-5)


def test_a_descriptor_that_did_not_vary_where_it_was_fitted_is_not_read(
    run: KernelRun, perceptrons: NetworkConfig, corpus: Corpus
) -> None:
    half = np.arange(len(corpus.records)) % 2 == 0
    flat = run.groups["path"].copy()
    flat[half, 0] = 1.0
    strange = flat.copy()
    strange[~half, 0] = 50.0
    one, two = (fitted(run, perceptrons, half, path=path).outputs for path in (flat, strange))
    assert one == pytest.approx(two, abs=1e-12)


def test_a_descriptor_far_off_counts_as_one_at_the_clip(
    run: KernelRun, perceptrons: NetworkConfig, corpus: Corpus
) -> None:
    network = fitted(run, perceptrons, corpus.sound).network
    path = torch.from_numpy(run.groups["path"])
    column = int(torch.argmax(network.scale))
    at_clip, far, farther = (path.clone() for _ in range(3))
    for changed, spreads in ((at_clip, network.clip), (far, 100.0), (farther, 1e6)):
        changed[:, column] = network.centre[column] + spreads / network.scale[column]
    answers = [network({"path": changed}).numpy() for changed in (at_clip, far, farther)]
    assert answers[1] == pytest.approx(answers[0], abs=1e-5)
    assert answers[2] == pytest.approx(answers[0], abs=1e-5)


def test_the_number_of_threads_changes_nothing_and_is_left_as_it_was(
    run: KernelRun, perceptrons: NetworkConfig, corpus: Corpus
) -> None:
    before = torch.get_num_threads()
    wide = replace(perceptrons, hidden=256, members=5)
    try:
        outputs = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            outputs.append(fitted(run, wide, corpus.sound).outputs)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(outputs[0], outputs[1])


def test_too_few_steps_are_refused(run: KernelRun, perceptrons: NetworkConfig, corpus: Corpus) -> None:
    with pytest.raises(ValueError, match="10 steps are too few"):
        fitted(run, replace(perceptrons, epochs=10), corpus.sound)


def test_a_table_without_its_groups_is_named(tmp_path: Path) -> None:
    path = kernel_config_path("relaxed")
    assert path is not None
    changed = tmp_path / "kernel-mine.toml"
    before, after = path.read_text(encoding="utf-8").split("[[networks]]")
    changed.write_text(before + "[[networks]]" + after.replace('groups = ["path"]', ""), encoding="utf-8")
    with pytest.raises(TypeError, match="groups"):
        read_kernel_config(changed)


def test_the_machines_answer_has_the_perceptrons_in_it(run: KernelRun) -> None:
    ensemble = run.fitted()
    assert isinstance(ensemble, Ensemble)
    outputs = [one.outputs for one in ensemble.machines] + [one.outputs for one in ensemble.networks]
    assert len(outputs) == 4
    assert ensemble.judged().outputs == pytest.approx(np.mean(outputs, axis=0), abs=1e-9)
    assert ensemble.judged().spread == pytest.approx(np.ptp(outputs, axis=0), abs=1e-9)
