"""A whole run on a handful of bands: fitting, stopping, going on, publishing, loading."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

from app.crystals.band import Band
from app.models.checkpoints import NETWORKS, read_checkpoint
from app.models.networks.multi_property import MultiProperty
from app.models.registry import Registry
from training.barrier_task import outputs_of
from training.cli import evaluate, train
from training.conductivity.config import read_conductivity_config
from training.config import CONFIGS, RunConfig, config_names, read_config
from training.corpus import LITERATURE, LITRAJ, Corpus, read_corpus
from training.evaluation import figures
from training.fit import EpochReport
from training.kernels.config import kernel_config_path, read_kernel_config
from training.pretraining.config import read_pretraining_config
from training.publish import publish
from training.runs import Run


@pytest.fixture(scope="module")
def corpus(data_dir: Path) -> Corpus:
    whole = read_corpus(data_dir)
    small = [record for record in whole.records if record.sound and len(record.band.host_species) < 45][:24]
    records = [replace(record, folds={"fold_random": n % 3, "fold_chemistry": n % 3}) for n, record in enumerate(small)]
    return replace(whole, records=tuple(records))


@pytest.fixture(scope="module")
def config() -> RunConfig:
    shipped = replace(read_config("literature-model-3-compact"), name="model-3", pretrained="")
    trunk = {"features": 16, "alignn_layers": 1, "graph_layers": 1, "embedding": 8, "marks_ion": True}
    return replace(
        shipped,
        arguments={**shipped.arguments, "trunk": trunk, "head": [16]},
        calibration_folds=(0, 1),
        batch_bands=8,
        fit=replace(shipped.fit, epochs=6),
    )


def run_of(config: RunConfig, corpus: Corpus, folder: Path) -> Run:
    return Run(config, corpus, folder, device=torch.device("cpu"))


class Stopped(Exception):  # noqa: N818 - what happened, not what went wrong
    pass


def test_the_loss_falls_and_a_resumed_fit_equals_an_unbroken_one_to_the_last_bit(
    config: RunConfig, corpus: Corpus, tmp_path: Path
) -> None:
    losses: list[float] = []
    run = run_of(config, corpus, tmp_path / "unbroken")
    unbroken, _ = run.fitted(corpus.sound, run.folder / "all", "", lambda _, epoch: losses.append(epoch.loss))
    assert losses[-1] < 0.8 * losses[0]
    assert list((run.folder / "all" / "tensorboard").iterdir())

    def stop_after_two(_: str, epoch: EpochReport) -> None:
        if epoch.epoch == 2:
            raise Stopped

    broken = run_of(config, corpus, tmp_path / "broken")
    with pytest.raises(Stopped):
        broken.fitted(corpus.sound, broken.folder / "all", "", stop_after_two)
    torch.rand(100)  # other random numbers were drawn in between
    seen: list[int] = []
    resumed, _ = broken.fitted(corpus.sound, broken.folder / "all", "", lambda _, epoch: seen.append(epoch.epoch))
    assert seen == [3, 4, 5, 6]
    _, seconds = broken.fitted(corpus.sound, broken.folder / "all", "", lambda *_: None)
    assert seconds > 0  # of the fit, not of the call that found it done
    for (name, one), two in zip(unbroken.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_a_fold_is_judged_by_a_network_that_never_saw_it(config: RunConfig, corpus: Corpus, tmp_path: Path) -> None:
    run = run_of(config, corpus, tmp_path)
    result = run.fold(1, lambda *_: None)
    assert {corpus.records[row].folds["fold_random"] for row in result.rows} == {1}
    # The same network again, fitted on the other folds by hand.
    others = corpus.folds("fold_random") != 1
    network, _ = run.fitted(others, tmp_path / "by-hand", "", lambda *_: None)
    state = load_file(next((run.folder / "fold-1").glob("*.state.safetensors")))
    for name, value in network.state_dict().items():
        assert torch.equal(state[f"network.{name}"], value), name


def test_another_configuration_never_resumes_this_one(config: RunConfig, corpus: Corpus, tmp_path: Path) -> None:
    other = replace(config, fit=replace(config.fit, seed=7))
    assert run_of(config, corpus, tmp_path).folder != run_of(other, corpus, tmp_path).folder


def test_a_published_checkpoint_is_loaded_and_answers_as_the_fitted_network(
    config: RunConfig, corpus: Corpus, tmp_path: Path
) -> None:
    run = run_of(config, corpus, tmp_path / "runs")
    card = publish(run, tmp_path / "store", version="7", report=lambda *_: None)
    network, _ = run.fitted(corpus.sound, run.folder / "all", "", lambda *_: None)
    predictor = Registry.open(tmp_path / "store", "cpu", default="model-3").predictor()
    assert (predictor.version, predictor.digest) == ("7", card.digest)
    bands: list[Band] = [record.band for record in corpus.records[:5]]
    predictions = predictor.predict([predictor.graph(band) for band in bands])
    outputs, _ = outputs_of(network, run.graphs[:5], torch.device("cpu"))
    assert [p.barrier_ev for p in predictions] == pytest.approx(list(run.to_barriers_ev(outputs)), abs=1e-4)
    assert all(p.in_domain for p in predictions), [p.domain_reasons for p in predictions]
    assert card.metrics["fold_random"]["sound"]["rows"] == 16
    assert card.corpus["fitted_rows"] == 24
    again, _, _ = read_checkpoint(tmp_path / "store" / "model-3")
    assert again.to_json() == card.to_json()


def test_one_network_is_fitted_on_two_sources_and_judged_on_each(
    config: RunConfig, two_worlds: Corpus, tmp_path: Path
) -> None:
    run = run_of(replace(config, fit=replace(config.fit, epochs=1)), two_worlds, tmp_path / "runs")
    table = figures(run, [run.fold(0, lambda *_: None)])
    held_out = two_worlds.folds("fold_random") == 0
    worlds = table["worlds"]
    assert isinstance(worlds, dict)
    for source in (LITERATURE, LITRAJ):
        rows = held_out & (two_worlds.sources == source)
        labels = two_worlds.barriers_ev
        assert worlds[source]["sound"]["rows"] == rows.sum() > 0
        median = np.median(labels[~held_out & (two_worlds.sources == source)])
        assert worlds[source]["sound"]["median_predictor_mae_ev"] == pytest.approx(np.abs(labels[rows] - median).mean())
    card = publish(run, tmp_path / "store", version="1", report=lambda *_: None)
    assert set(card.corpus["files"]) == {LITERATURE, LITRAJ}
    one_fold = [replace(one, folds={"fold_random": 0}) if one.source == LITRAJ else one for one in two_worlds.records]
    of_one_fold = run_of(run.config, replace(two_worlds, records=tuple(one_fold), sha256="other"), tmp_path / "runs")
    few = publish(of_one_fold, tmp_path / "other", version="1", report=lambda *_: None)
    assert set(few.metrics["fold_random"]["worlds"]) == {LITERATURE}, "nothing outside its fold says what is usual"
    assert any("LiTraj" in citation for citation in card.citations)


def test_target_transform_goes_there_and_back(config: RunConfig, corpus: Corpus, tmp_path: Path) -> None:
    run = run_of(config, corpus, tmp_path)
    barriers = np.array([0.004, 0.3, 8.0])
    assert run.to_barriers_ev(run.to_target(barriers)) == pytest.approx(barriers)


def test_every_shipped_configuration_builds_its_network(corpus: Corpus) -> None:
    assert {"default", "relaxed", "mpt-compact", "mpt-full", "model-3-compact", "model-3-full"} <= set(config_names())
    for name in config_names():
        if name.startswith("mpt"):
            pretraining = read_pretraining_config(CONFIGS / f"{name}.toml")
            MultiProperty(properties=pretraining.properties, trunk=pretraining.trunk, head=pretraining.head)
            continue
        if name == "conductivity":
            read_conductivity_config(CONFIGS / f"{name}.toml")
            continue
        if (path := kernel_config_path(name)) is not None:
            assert read_kernel_config(path).name == name
            continue
        shipped = read_config(name)
        NETWORKS[shipped.network](**shipped.arguments)


def command_line() -> typer.Typer:
    app = typer.Typer()
    app.command("train")(train)
    app.command("evaluate")(evaluate)
    return app


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_folder_without_data_is_refused_with_a_message(command: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(command_line(), [command, "model-3", "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "no barriers at" in result.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("folds", "words"), [("12", "has the folds 0-9"), ("3-1", "smaller number first"), ("x", "fold")]
)
def test_folds_that_are_not_there_are_refused_with_a_message(
    folds: str, words: str, data_dir: Path, tmp_path: Path
) -> None:
    asked = ["evaluate", "scratch-model-3", "--data", str(data_dir), "--runs", str(tmp_path), "--folds", folds]
    result = CliRunner().invoke(command_line(), asked)
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", " ").split())


def test_an_unknown_model_lists_what_is_shipped(data_dir: Path) -> None:
    result = CliRunner().invoke(command_line(), ["train", "model-9", "--data", str(data_dir)])
    assert result.exit_code == 2
    assert "model-3-compact" in result.output
