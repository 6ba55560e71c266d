"""The pictures and the table of a run's errors show what the run says."""

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from app.models.prediction import QUANTILE_LEVELS
from training.cli import evaluate, train
from training.corpus import BARRIERS_FILE, FOLDINGS, Corpus
from training.kernels.config import KernelConfig
from training.kernels.drawing import Judgement, coverages
from training.kernels.learning import learning_curve
from training.kernels.report import kinds, write_report
from training.kernels.run import KernelRun

PICTURES = [f"accuracy-{name}.png" for name in ("calibration", "distance", "kinds", "learning", "parity")]
SETTINGS = """
name = "tiny"
description = "a test's"
relaxes = false
clip = 3.0
tolerance = 0.05
penalties = [14.0]
widths = [0.5]
inner_folds = 3
machines = [{path = 1.0}, {path = 0.5, ion_2 = 0.5}]
target = {offset_ev = 0.2, mean = -0.25, scale = 0.6}
"""


@pytest.fixture(scope="module")
def spoiled(make_run: Callable[[Corpus], KernelRun], corpus: Corpus) -> KernelRun:
    """The first row is not sound, and so far off that it would lead the table if it were counted."""
    first, *others = corpus.records
    return make_run(replace(corpus, records=(replace(first, sound=False, barrier_ev=9.0), *others)))


def test_the_report_draws_every_picture_and_lists_the_worst_sound_rows(spoiled: KernelRun, tmp_path: Path) -> None:
    outs = {folding: spoiled.out_of_fold(folding) for folding in FOLDINGS}
    written = write_report(spoiled, outs, tmp_path / "pictures")
    assert sorted(path.name for path in written) == [*PICTURES, "accuracy-worst.csv"]
    pictures = [(tmp_path / "pictures" / name).read_bytes() for name in PICTURES]
    assert all(picture.startswith(b"\x89PNG") and len(picture) > 5_000 for picture in pictures)
    assert sum(len(picture) for picture in pictures) < 600_000

    labels = spoiled.corpus.barriers_ev
    errors = sum(np.abs(spoiled.barriers_ev(out.judged.outputs) - labels) for out in outs.values())
    worst = [n for n in np.argsort(-np.asarray(errors)) if n != 0][:10]
    with (tmp_path / "pictures" / "accuracy-worst.csv").open() as file:
        rows = list(csv.DictReader(file))
    records = [spoiled.corpus.records[n] for n in worst]
    assert [row["id"] for row in rows] == [record.id for record in records]
    assert [row["family"] for row in rows] == [record.family for record in records]
    assert [float(row["label_ev"]) for row in rows] == [record.barrier_ev for record in records]
    predicted = spoiled.barriers_ev(outs["fold_chemistry"].judged.outputs)[worst]
    assert [float(row["chemistry_ev"]) for row in rows] == pytest.approx(predicted, abs=0.0051)


def test_every_sound_row_is_of_one_kind_in_each_way_to_sort_them(spoiled: KernelRun) -> None:
    sound = [record for record in spoiled.corpus.records if record.sound]
    sorted_ways = kinds(spoiled.corpus)
    for groups in sorted_ways.values():
        assert sorted(np.concatenate(list(groups.values()))) == list(range(len(sound)))
    for ion, rows in sorted_ways["ion"].items():
        assert {sound[n].band.ion for n in rows} == {ion}
    for size, rows in sorted_ways["atoms of the host"].items():
        if size == "30 to 59":
            assert {30 <= len(sound[n].band.host_species) < 60 for n in rows} == {True}


def test_the_learning_curve_ends_at_the_error_of_the_whole_training_sides(
    corpus: Corpus, config: KernelConfig, folder: Path
) -> None:
    run = KernelRun(replace(config, penalties=(14.0,)), corpus, folder, processes=1, report=lambda _: None)
    curve = learning_curve(run, (10, 20, 1000), repeats=3)
    assert [(point.rows, len(point.mae_ev)) for point in curve] == [(10, 3), (20, 3), (40, 1)]
    errors = np.abs(run.barriers_ev(run.out_of_fold("fold_random").judged.outputs) - corpus.barriers_ev)
    assert curve[-1].mae_ev[0] == pytest.approx(errors.mean(), abs=1e-9)
    assert np.mean(curve[0].mae_ev) > curve[-1].mae_ev[0]
    assert len(set(curve[0].mae_ev)) == 3  # each repeat draws its own rows
    assert learning_curve(run, (10, 20, 1000), repeats=3) == curve


def test_intervals_that_hold_what_they_claim_lie_on_the_diagonal() -> None:
    labels = np.random.default_rng(0).uniform(size=20_000)
    one = Judgement(
        labels_ev=labels,
        predictions_ev=np.full(len(labels), 0.5),
        quantiles_ev=np.repeat(np.array(QUANTILE_LEVELS)[:, None], len(labels), axis=1),
        distance=np.zeros(len(labels)),
    )
    nominal, held = coverages(one)
    assert nominal == pytest.approx([0.98, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2])
    assert held == pytest.approx(nominal, abs=0.01)


def test_the_command_writes_the_report(data_dir: Path, tmp_path: Path) -> None:
    with gzip.open(data_dir / BARRIERS_FILE) as file:
        rows = [json.loads(line) for line in file]
    small = [row for row in rows if row["sound"] and len(row["host_species"]) < 45][:24]
    for number, row in enumerate(small):
        row["fold_random"] = row["fold_chemistry"] = number % 3
    (tmp_path / BARRIERS_FILE).parent.mkdir()
    with gzip.open(tmp_path / BARRIERS_FILE, "wt") as lines:
        lines.writelines(f"{json.dumps(row)}\n" for row in small)
    (tmp_path / "tiny.toml").write_text(SETTINGS)
    asked = [tmp_path / "tiny.toml", "--data", tmp_path, "--runs", tmp_path / "runs", "--report", tmp_path / "report"]
    result = _invoke([*map(str, asked), "--threads", "1"])
    assert result[0] == 0
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [*PICTURES, "accuracy-worst.csv"]


@pytest.mark.parametrize(
    ("count", "folds", "words"),
    [
        (24, 10, "sound barriers are too few to fit default"),
        (130, 2, "world literature lie in 2 of the folds of fold_random, and at least 3 are needed"),
    ],
)
def test_a_default_is_not_fitted_on_few_barriers_or_folds(
    count: int, folds: int, words: str, data_dir: Path, tmp_path: Path
) -> None:
    with gzip.open(data_dir / BARRIERS_FILE) as file:
        rows = [json.loads(line) for line, _ in zip(file, range(count), strict=False)]
    (tmp_path / BARRIERS_FILE).parent.mkdir()
    with gzip.open(tmp_path / BARRIERS_FILE, "wt") as lines:
        lines.writelines(f"{json.dumps({**row, 'fold_random': n % folds})}\n" for n, row in enumerate(rows))
    asked = ["default", "--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--store", str(tmp_path / "store")]
    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "store").exists()


def test_a_model_without_a_report_says_so(tmp_path: Path) -> None:
    code, output = _invoke(["model-3", "--report", str(tmp_path / "report")])
    assert code == 2
    assert "--report" in output
    assert not (tmp_path / "report").exists()


def _invoke(arguments: list[str]) -> tuple[int, str]:
    commands = typer.Typer()
    commands.command()(evaluate)
    result = CliRunner().invoke(commands, arguments)
    return result.exit_code, result.output
