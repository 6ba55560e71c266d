"""Pictures of a conductivity model's errors, and its ten worst predictions with what may explain them."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from app.models.prediction import QUANTILE_LEVELS
from training.conductivity.run import ConductivityRun, OutOfFold, cross_calibrated

PICTURE = "conductivity.png"
WORST = "conductivity-worst.csv"
_NAMES = {"fold_family": "families left out", "fold_random": "random folds"}
_COLOURS = {"fold_family": "#b3421b", "fold_random": "#0b6e6e"}
_GOOD_LOG10 = -4.0
_WORST_COUNT = 10


def write_report(run: ConductivityRun, outs: Mapping[str, OutOfFold], folder: Path) -> list[Path]:
    """Draw parity, ROC and calibration of both foldings, and list the ten worst predictions of new families.

    Args:
        run: the run.
        outs: its predictions out of fold, by folding.
        folder: created if it is missing.

    Returns:
        the files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(11.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    parity, roc, calibration = figure.subplots(1, 3)
    every = list(outs.values())
    for out in every:
        _parity(parity, run, out)
        _roc(roc, run, out)
        _calibration(calibration, run, out, cross_calibrated(run, out, every))
    for axes in (parity, roc, calibration):
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(folder / PICTURE, dpi=110)
    _write_worst(run, outs["fold_family"], folder / WORST)
    return [folder / PICTURE, folder / WORST]


def _parity(axes: Axes, run: ConductivityRun, out: OutOfFold) -> None:
    measured = ~run.measurements.is_bound
    values = run.measurements.values[measured]
    axes.plot(values, out.predicted[measured], ".", ms=4, color=_COLOURS[out.folding], label=_NAMES[out.folding])
    axes.plot([-18, -1], [-18, -1], lw=0.8, color="#888888")
    axes.set(xlabel="measured, log10 of S/cm", ylabel="predicted, log10 of S/cm", xlim=(-18, -1), ylim=(-14, -1))


def _roc(axes: Axes, run: ConductivityRun, out: OutOfFold) -> None:
    positive = (run.measurements.values > _GOOD_LOG10)[np.argsort(-out.predicted)]
    true, false = np.cumsum(positive) / positive.sum(), np.cumsum(~positive) / (~positive).sum()
    axes.plot([0, *false], [0, *true], color=_COLOURS[out.folding], label=_NAMES[out.folding])
    axes.set(xlabel="poor conductors let through", ylabel="conductors above 1e-4 S/cm found")


def _calibration(axes: Axes, run: ConductivityRun, out: OutOfFold, quantiles: np.ndarray) -> None:
    measured = ~run.measurements.is_bound
    below = (run.measurements.values <= quantiles)[:, measured].mean(axis=1)
    axes.plot(QUANTILE_LEVELS, below, ".-", color=_COLOURS[out.folding], label=_NAMES[out.folding])
    axes.plot([0, 1], [0, 1], lw=0.8, color="#888888")
    axes.set(xlabel="level of the quantile", ylabel="measured values below it")


def _write_worst(run: ConductivityRun, out: OutOfFold, path: Path) -> None:
    rows = run.measurements.rows
    errors = np.where(run.measurements.is_bound, 0.0, np.abs(out.predicted - run.measurements.values))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "composition", "family", "measured_log10", "predicted_log10", "close_match"])
        for number in np.argsort(-errors)[:_WORST_COUNT]:
            row = rows[number]
            values = (f"{row.log10_s_per_cm:.1f}", f"{out.predicted[number]:.1f}", "yes" if row.close_match else "no")
            writer.writerow([row.id, row.composition, row.family, *values])
