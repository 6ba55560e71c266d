"""The comparison as a table: errors with bootstrap intervals, and paired differences between two models."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.comparison.entries import Entry
from training.corpus import Corpus
from training.metrics import METRICS, accuracy, bootstrapped, f1, metrics_with_intervals, precision, recall

#: In the table's order.
COMPARED = {name: METRICS[name] for name in ("mae_ev", "median_absolute_error_ev", "rmse_ev", "r2")} | {
    "accuracy": accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
}
_PLAIN = ("model", "fitted_on", "folds", "rows", "parameters", "training_seconds", "milliseconds_a_band")


def table(entries: Sequence[Entry], corpus: Corpus, *, sound: bool = True) -> list[dict[str, Any]]:
    """One mapping per entry: plain figures, and each metric as value, low and high, or None where it did not run.

    Args:
        entries: the models.
        corpus: the labels.
        sound: True for the sound rows only, False for all rows.
    """
    return [_row(entry, corpus, sound=sound) for entry in entries]


def _row(entry: Entry, corpus: Corpus, *, sound: bool) -> dict[str, Any]:
    chosen = corpus.sound[entry.rows] if sound else np.ones(len(entry.rows), dtype=bool)
    labels, predictions = corpus.barriers_ev[entry.rows][chosen], entry.predictions_ev[chosen]
    figures: dict[str, Any] = dict.fromkeys(COMPARED)
    if len(labels):
        figures = metrics_with_intervals(labels, predictions, COMPARED)
    return {
        "model": entry.name,
        "fitted_on": " ".join(entry.fitted_on),
        "folds": span(entry.folds),
        "rows": len(labels),
        "parameters": entry.parameters,
        "training_seconds": entry.training_seconds,
        "milliseconds_a_band": entry.milliseconds,
        **figures,
    }


def span(folds: Sequence[int]) -> str:
    """A compact list of folds, such as "0" or "0-6"; "none" for an empty one."""
    if not folds:
        return "none"
    low, high = min(folds), max(folds)
    if sorted(folds) != list(range(low, high + 1)):
        return " ".join(map(str, sorted(folds)))
    return str(low) if low == high else f"{low}-{high}"


def twin_difference(worse: Entry, better: Entry, corpus: Corpus) -> dict[str, float | None] | None:
    """The reduction in error from one model to another on the sound rows that both predicted, eV.

    Returns:
        value, low, high of the paired bootstrap; None where they share no rows.
    """
    shared = np.intersect1d(worse.rows, better.rows)
    shared = shared[corpus.sound[shared]]
    if not len(shared):
        return None
    gain = _errors(worse, shared, corpus) - _errors(better, shared, corpus)
    return bootstrapped(lambda rows: float(gain[rows].mean()), len(gain), seed=0)


def _errors(entry: Entry, rows: np.ndarray, corpus: Corpus) -> np.ndarray:
    order = np.argsort(entry.rows)
    place = order[np.searchsorted(entry.rows[order], rows)]
    return np.asarray(np.abs(entry.predictions_ev[place] - corpus.barriers_ev[rows]))


def write_csv(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a table with a column each for the value and the two bounds of a metric."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = [*_PLAIN, *[f"{name}{bound}" for name in COMPARED for bound in ("", "_low", "_high")]]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            flat = {name: row[name] for name in _PLAIN}
            for name in COMPARED:
                for bound, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                    flat[f"{name}{bound}"] = None if row[name] is None else _rounded(row[name][key])
            flat["training_seconds"] = _rounded(row["training_seconds"], 1)
            flat["milliseconds_a_band"] = _rounded(row["milliseconds_a_band"], 1)
            writer.writerow(flat)


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
