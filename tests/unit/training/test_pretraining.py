"""The pre-training on a few real crystals: graphs, fitting, stopping, going on, publishing, handing on a trunk."""

import gzip
import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from untrained import write_untrained

from app.crystals.crystal import Crystal, Site
from app.models.checkpoints import read_property_predictor
from app.models.graphs.crystal_graphs import crystal_graph
from app.models.graphs.shells import GraphSpec
from app.models.networks.model_3 import Model3
from app.models.registry import Registry
from training.config import CONFIGS, read_config
from training.fit import EpochReport
from training.pretraining.config import PretrainingConfig, read_pretraining_config
from training.pretraining.crystals import CRYSTALS_FILE, prepare_crystals
from training.pretraining.figures import property_figures
from training.pretraining.properties import PROPERTIES, scalings
from training.pretraining.publish import publish_pretraining
from training.pretraining.run import Pretraining
from training.trunks import read_trunk

ROWS = 90


@pytest.fixture(scope="module")
def rows(data_dir: Path) -> list[dict[str, object]]:
    with gzip.open(data_dir / CRYSTALS_FILE, "rt", encoding="utf-8") as lines:
        small = (row for row in map(json.loads, lines) if len(row["species"]) <= 12)
        chosen = list(islice(small, ROWS))
    for number, row in enumerate(chosen):
        row["split"] = ("train", "train", "train", "validation", "test")[number % 5]
        row["properties"] |= {"log10_shear_modulus_gpa": 1.0 + number % 3, "dielectric_constant": 5.0 + number}
    return chosen


@pytest.fixture(scope="module")
def data(rows: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / CRYSTALS_FILE).parent.mkdir()
    with gzip.open(folder / CRYSTALS_FILE, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


@pytest.fixture(scope="module")
def config() -> PretrainingConfig:
    shipped = read_pretraining_config(CONFIGS / "mpt-compact.toml")
    return replace(
        shipped,
        properties=("formation_energy_ev_per_atom", "log10_shear_modulus_gpa", "dielectric_constant"),
        trunk={"features": 16, "alignn_layers": 1, "graph_layers": 1, "embedding": 8},
        head=(8,),
        batch_line_edges=12_000,
        fit=replace(shipped.fit, epochs=4, patience=0),
    )


def run_of(config: PretrainingConfig, data: Path, runs: Path) -> Pretraining:
    return Pretraining(config, data, runs, device=torch.device("cpu"))


class Stopped(Exception):  # noqa: N818 - what happened, not what went wrong
    pass


def test_graphs_on_disk_are_those_of_the_rows_and_are_made_once(
    data: Path, rows: list[dict[str, object]], tmp_path: Path
) -> None:
    spec = GraphSpec(neighbour_count=8)
    reports: list[tuple[int, int]] = []
    crystals = prepare_crystals(data, tmp_path, spec, processes=2, report=lambda *done: reports.append(done))
    assert reports[-1] == (ROWS, ROWS)
    assert len(crystals) == ROWS
    for number in (0, 7, ROWS - 1):
        row = rows[number]
        assert crystals.split[number] == ("train", "validation", "test").index(str(row["split"]))
        kept = crystals.graph(number)
        from pymatgen.core import Element  # noqa: PLC0415 - takes a second

        numbers = np.array([Element(symbol).Z for symbol in row["species"]])  # type: ignore[attr-defined]
        made = crystal_graph(np.array(row["lattice_angstrom"]), numbers, np.array(row["frac_coords"]), spec)
        for name in ("atomic_numbers", "edge_source", "edge_target", "edge_vector_angstrom", "edge_weight"):
            assert torch.equal(getattr(kept, name), getattr(made, name)), name
        assert crystals.line_counts[number] == made.line_edge_count
    known = crystals.properties[:, PROPERTIES.index("dielectric_constant")]
    assert known == pytest.approx(5.0 + np.arange(ROWS))

    written = {path: path.stat().st_mtime_ns for path in crystals.folder.iterdir()}
    again: list[tuple[int, int]] = []
    prepare_crystals(data, tmp_path, spec, processes=1, report=lambda *done: again.append(done))
    assert again == []
    assert {path: path.stat().st_mtime_ns for path in crystals.folder.iterdir()} == written
    other = prepare_crystals(data, tmp_path, GraphSpec(), processes=1, report=lambda *_: None)
    assert other.folder != crystals.folder


def test_an_invalid_row_is_named(tmp_path: Path) -> None:
    (tmp_path / CRYSTALS_FILE).parent.mkdir()
    with gzip.open(tmp_path / CRYSTALS_FILE, "wt", encoding="utf-8") as lines:
        lines.write('{"species": ["Li"], "split": "train", "properties": {}}\n')
    with pytest.raises(ValueError, match="line 1 of the crystals"):
        prepare_crystals(tmp_path, tmp_path, GraphSpec(), processes=1, report=lambda *_: None)


def test_the_loss_falls_and_a_run_in_two_pieces_equals_an_unbroken_one_to_the_last_bit(
    config: PretrainingConfig, data: Path, tmp_path: Path
) -> None:
    reports: list[EpochReport] = []
    run = run_of(config, data, tmp_path / "unbroken")
    unbroken, _ = run.fitted(reports.append)
    assert reports[-1].loss < 0.9 * reports[0].loss
    assert all(report.validation_loss is not None for report in reports)
    assert list((run.folder / "tensorboard").iterdir())

    def stop_after_two(report: EpochReport) -> None:
        if report.epoch == 2:
            raise Stopped

    broken = run_of(config, data, tmp_path / "broken")
    with pytest.raises(Stopped):
        broken.fitted(stop_after_two)
    torch.rand(100)  # other random numbers were drawn in between
    seen: list[int] = []
    resumed, _ = broken.fitted(lambda report: seen.append(report.epoch))
    assert seen == [3, 4]
    for (name, one), two in zip(unbroken.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, two), name


def test_epochs_without_a_better_validation_loss_end_a_run_with_its_best_weights(
    config: PretrainingConfig, data: Path, tmp_path: Path
) -> None:
    restless = replace(config, fit=replace(config.fit, epochs=40, patience=2, peak_learning_rate=0.3))
    reports: list[EpochReport] = []
    run = run_of(restless, data, tmp_path)
    network, _ = run.fitted(reports.append)
    losses = [report.validation_loss for report in reports if report.validation_loss is not None]
    assert len(losses) < 40
    assert min(losses) == min(losses[:-2]) < min(losses[-2:])
    assert run._task().validation_loss(network, torch.device("cpu")) == pytest.approx(min(losses))


def test_a_value_that_a_row_does_not_have_counts_nowhere(config: PretrainingConfig, data: Path, tmp_path: Path) -> None:
    run = run_of(config, data, tmp_path)
    task = run._task()
    batch, targets = next(iter(task.batches(0)))
    network, _ = run.fitted(lambda _: None)
    without = targets.clone()
    without[:, 1] = torch.nan
    device = torch.device("cpu")
    with torch.no_grad():
        both = task.loss(network, (batch, targets), device)
        fewer = task.loss(network, (batch, without), device)
        error = (network(batch)[:, 1] - targets[:, 1]).abs().mean() * float(task.weights[1])
    assert float(both - fewer) == pytest.approx(float(error), rel=1e-4)


def test_every_epoch_holds_every_row_once_in_batches_of_like_cost(
    config: PretrainingConfig, data: Path, tmp_path: Path
) -> None:
    run = run_of(config, data, tmp_path)
    task = run._task()
    seen = list(task.batches(3))
    assert len(seen) == task.steps > 1
    assert sum(batch.graph_count for batch, _ in seen) == len(run.fitted_rows)
    largest = max(int(run.crystals.line_counts[row]) for row in run.fitted_rows)
    assert max(len(batch.line_source) for batch, _ in seen) <= config.batch_line_edges + largest


def test_a_published_checkpoint_answers_as_the_fitted_network_and_hands_on_its_trunk(
    config: PretrainingConfig, data: Path, rows: list[dict[str, object]], tmp_path: Path
) -> None:
    run = run_of(config, data, tmp_path / "runs")
    store = tmp_path / "store"
    card = publish_pretraining(run, store, version="1", report=lambda _: None)
    network, _ = run.fitted(lambda _: None)
    labels, predictions = run.predictions(network, "test")
    assert card.metrics["test"] == property_figures(run, labels, predictions)
    assert card.metrics["test"]["dielectric_constant"]["rows"] == ROWS // 5

    write_untrained(store)  # a model of barriers, which the service cannot do without
    registry = Registry.open(store, "cpu", default="default")
    assert registry.names() == ("default",)
    assert registry.property_names() == ("mpt",)
    assert [card["name"] for card in registry.cards()] == ["default", "mpt"]
    predictor = registry.property_predictor()
    crystals = []
    for number in run.crystals.rows("test")[:4]:
        row = rows[number]
        sites = zip(row["species"], row["frac_coords"], strict=True)
        crystals.append(
            Crystal(
                lattice_angstrom=np.array(row["lattice_angstrom"]),
                sites=tuple(Site(species=((symbol, 1.0),), frac_coords=tuple(place)) for symbol, place in sites),
            )
        )
    answers = predictor.predict([predictor.graph(crystal) for crystal in crystals])
    for answer, expected in zip(answers, predictions, strict=False):
        assert list(answer.values) == list(config.properties)
        assert list(answer.values.values()) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    mixed = replace(crystals[0], sites=(replace(crystals[0].sites[0], species=(("Li", 0.5),)), *crystals[0].sites[1:]))
    with pytest.raises(ValueError, match="ordered"):
        predictor.graph(mixed)

    torch.manual_seed(5)
    barriers = Model3(trunk={**config.trunk, "marks_ion": True})
    read_trunk(store / "mpt", read_config("model-3-compact")).copy_to(barriers)
    own = barriers.trunk.state_dict()
    for name, value in network.trunk.state_dict().items():
        assert torch.equal(own[name], value), name
    assert not own["ion_mark.weight"].any()
    with pytest.raises(ValueError, match="other layers"):
        read_trunk(store / "mpt", read_config("model-3-compact")).copy_to(
            Model3(trunk={**config.trunk, "graph_layers": 2})
        )
    with pytest.raises(ValueError, match="neighbour_count"):
        read_trunk(store / "mpt", replace(read_config("model-3-compact"), graph=read_config("model-3-full").graph))
    with pytest.raises(FileNotFoundError, match="ionpath train mpt-9"):
        read_trunk(store / "mpt-9", read_config("model-3-compact"))
    assert read_property_predictor(store / "mpt", device=torch.device("cpu")).digest == card.digest


def test_scaling_goes_there_and_back_and_covers_minus_one_to_one() -> None:
    values = np.array([[0.0, 2.0], [3.0, 10.0], [np.nan, 300.0]])
    plain, logarithmic = scalings(("band_gap_ev", "dielectric_constant"), values)
    assert plain.to_target(values[:, 0]) == pytest.approx([-1.0, 1.0, np.nan], nan_ok=True)
    assert logarithmic.logarithmic
    assert logarithmic.to_target(values[:, 1])[[0, 2]] == pytest.approx([-1.0, 1.0])
    assert logarithmic.from_output(logarithmic.to_target(values[:, 1])) == pytest.approx(values[:, 1])


def test_a_frozen_trunk_stays_as_it_was_and_a_slow_one_moves_less(
    config: PretrainingConfig, data: Path, tmp_path: Path
) -> None:
    def moved(*, gathered: bool = False, **changes: object) -> tuple[float, float]:
        """How far the trunk's weights went, and all others'; `gathered` counts batch normalisation's statistics too."""
        fit = replace(config.fit, epochs=1, **changes)  # type: ignore[arg-type]  # fields of FitConfig
        torch.manual_seed(config.fit.seed)
        run = run_of(replace(config, fit=fit), data, tmp_path)
        network, _ = run.fitted(lambda _: None)
        torch.manual_seed(config.fit.seed)
        fresh = type(network)(properties=config.properties, trunk=config.trunk, head=list(config.head))
        apart = {
            name: float((one - two).detach().abs().max())
            for (name, one), two in zip(network.state_dict().items(), fresh.state_dict().values(), strict=True)
            if one.is_floating_point() and (gathered or "running_" not in name)
        }
        trunk = max(value for name, value in apart.items() if name.startswith("trunk."))
        return trunk, max(value for name, value in apart.items() if not name.startswith("trunk."))

    assert moved(frozen=("trunk.",), gathered=True)[0] == 0.0
    assert moved(frozen=("trunk.",))[1] > 0.0
    assert 0.0 < moved(trunk_rate_factor=0.1)[0] < 0.5 * moved()[0]
