"""The comparison of all models: classical learners, twins, the table and its files."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner
from untrained import write_untrained

from app.cli import cli
from app.models.cards.card import CARD_FILE
from app.models.checkpoints import read_predictor
from training.comparison.baselines import BASELINES, judge_baseline
from training.comparison.drawing import draw
from training.comparison.entries import FORMS, Entry, Sources, entries
from training.comparison.table import COMPARED, span, table, twin_difference, write_csv
from training.config import read_config
from training.corpus import Corpus
from training.kernels.run import KernelRun
from training.metrics import f1, precision, recall


def entry_of(corpus: Corpus, error_ev: float, rows: np.ndarray, name: str = "some") -> Entry:
    random = np.random.default_rng(7)
    return Entry(
        name=name,
        fitted_on=("literature",),
        folds=(0, 1),
        rows=rows,
        predictions_ev=corpus.barriers_ev[rows] + error_ev + 0.01 * random.normal(size=len(rows)),
        parameters=10,
        training_seconds=1.0,
        milliseconds=2.0,
    )


def test_every_classical_learner_is_better_than_the_median(run: KernelRun, corpus: Corpus) -> None:
    labels = corpus.barriers_ev
    of_median = np.abs(labels - np.median(labels)).mean()
    seen = []
    for name in BASELINES:
        judged = judge_baseline(name, run.groups["path"], corpus, "fold_random")
        assert np.isfinite(judged.predictions_ev).all()
        assert judged.seconds > 0 < judged.milliseconds
        assert np.abs(judged.predictions_ev - labels).mean() < of_median, name
        seen.append(judged.predictions_ev.round(6).tolist())
    assert len({tuple(one) for one in seen}) == len(BASELINES)


def test_a_fold_s_labels_do_not_tell_on_its_own_predictions(run: KernelRun, corpus: Corpus) -> None:
    judged = judge_baseline("extra-trees", run.groups["path"], corpus, "fold_random")
    folds = corpus.folds("fold_random")
    records = [
        replace(record, barrier_ev=record.barrier_ev + 3.0) if fold == 1 else record
        for record, fold in zip(corpus.records, folds, strict=True)
    ]
    changed = judge_baseline("extra-trees", run.groups["path"], replace(corpus, records=tuple(records)), "fold_random")
    assert changed.predictions_ev[folds == 1] == pytest.approx(judged.predictions_ev[folds == 1])
    assert changed.predictions_ev[folds != 1] != pytest.approx(judged.predictions_ev[folds != 1])


def test_a_difference_on_every_row_is_significant(corpus: Corpus) -> None:
    rows = np.arange(len(corpus.records))
    worse, better = entry_of(corpus, 0.30, rows), entry_of(corpus, 0.10, rows[::-1])
    gain = twin_difference(worse, better, corpus)
    assert gain is not None
    assert gain["value"] == pytest.approx(0.2, abs=0.01)
    assert gain["low"] is not None
    assert gain["low"] > 0.1
    assert twin_difference(worse, replace(better, rows=rows[:0], predictions_ev=rows[:0] * 1.0), corpus) is None


def test_f1_is_the_harmonic_mean_and_undefined_where_nothing_is_called_good() -> None:
    labels, predictions = np.array([0.1, 0.2, 0.9, 0.3]), np.array([0.2, 0.9, 0.3, 0.1])
    p, r = precision(labels, predictions), recall(labels, predictions)
    assert f1(labels, predictions) == pytest.approx(2 * p * r / (p + r))
    assert np.isnan(f1(labels, np.full(4, 2.0)))


def test_what_did_not_run_is_in_the_table_as_not_run(corpus: Corpus, tmp_path: Path) -> None:
    ran = entry_of(corpus, 0.1, np.arange(len(corpus.records)), "ran")
    none = replace(ran, name="not-run", folds=(), rows=ran.rows[:0], predictions_ev=ran.predictions_ev[:0])
    rows = table([ran, none], corpus)
    assert set(COMPARED) <= set(rows[0])
    assert [row["rows"] for row in rows] == [int(corpus.sound.sum()), 0]
    assert rows[1]["mae_ev"] is None
    assert [row["folds"] for row in rows] == ["0-1", "none"]
    assert (span([3]), span([0, 2, 1]), span([4, 0])) == ("3", "0-2", "0 4")
    write_csv(rows, tmp_path / "deep" / "table.csv")
    with (tmp_path / "deep" / "table.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert float(read[0]["mae_ev"]) == pytest.approx(rows[0]["mae_ev"]["value"], abs=1e-4)
    assert read[1]["mae_ev"] == ""
    draw([ran, none], corpus, tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")


def sources(corpus: Corpus, folder: Path, report: Callable[[str], None] = lambda _: None) -> Sources:
    return Sources(
        corpus=corpus,
        every=corpus,
        runs=folder,
        store=folder / "store",
        size="compact",
        processes=1,
        report=report,
    )


def test_forms_without_results_are_listed_and_nothing_is_fitted_for_them(corpus: Corpus, tmp_path: Path) -> None:
    messages: list[str] = []
    made = entries(sources(corpus, tmp_path, messages.append))
    assert [entry.name for entry in made[: len(FORMS)]] == list(FORMS)
    assert all(not len(entry.rows) for entry in made)
    assert any("ionpath train mpt" in text for text in messages)


def test_on_other_barriers_the_forms_are_judged_as_they_are_served(corpus: Corpus, tmp_path: Path) -> None:
    write_untrained(tmp_path / "store", "scratch-model-1")
    other = replace(corpus, records=corpus.records[:9], files={"litraj": "0"})
    made = entries(sources(other, tmp_path))
    (judged,) = (entry for entry in made if len(entry.rows))
    assert (judged.name, judged.fitted_on, judged.folds) == ("scratch-model-1", ("literature",), (0, 1, 2))
    card = tmp_path / "store" / "scratch-model-1" / CARD_FILE
    predictor = read_predictor(card.parent, device=torch.device("cpu"))
    expected = predictor.predict([predictor.graph(record.band) for record in other.records])
    assert judged.predictions_ev == pytest.approx([one.barrier_ev for one in expected], abs=1e-5)
    (row,) = (row for row in table(made, other) if row["rows"])
    assert (row["fitted_on"], row["rows"], row["folds"]) == ("literature", 9, "0-2")
    fitted = json.loads(card.read_text(encoding="utf-8"))
    fitted["corpus"]["files"] = {"literature": {}, "litraj": {}}
    card.write_text(json.dumps(fitted), encoding="utf-8")
    assert not any(len(entry.rows) for entry in entries(sources(other, tmp_path))), "it was fitted on these"


def test_each_form_differs_from_its_base_by_a_few_lines() -> None:
    base = read_config("literature-model-3-compact").to_json()
    for name in (*FORMS, "both-scratch-model-3", "both-model-1-sum", "both-model-2", "literature-model-4"):
        own = read_config(f"{name}-compact").to_json()
        assert own["graph"] == base["graph"]
        assert own["target"] == base["target"]
    corpora = ("sources", "folding", "calibration_folds")
    for one, other, fields in (
        ("scratch-model-3", "literature-model-3", ("pretrained",)),
        ("both-scratch-model-3", "model-3", ("pretrained",)),
        ("both-model-1-sum", "model-1-sum", corpora),
        ("both-model-2", "model-2", corpora),
        ("literature-model-4", "model-4", corpora),
    ):
        twin, base = read_config(f"{one}-compact").to_json(), read_config(f"{other}-compact").to_json()
        for field in ("name", "description", *fields):
            del twin[field], base[field]
        assert twin == base


def test_a_folder_without_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IONPATH_DATA_DIR", raising=False)
    from training.comparison.cli import compare  # noqa: PLC0415 - a command like any other

    app = type(cli)()
    app.command("compare")(compare)
    result = CliRunner().invoke(app, ["--data", str(tmp_path)])
    assert result.exit_code == 2
    assert "no barriers at" in " ".join(result.output.replace("│", " ").split())
