"""Pictures of errors: each function makes one figure from arrays and touches no global state of matplotlib."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from app.models.prediction import QUANTILE_LEVELS
from training.kernels.figures import probability_good, reliability
from training.kernels.learning import LearningPoint
from training.metrics import GOOD_CONDUCTOR_EV, bootstrapped

DPI = 100
_COLOURS = {"fold_random": "#0b6e6e", "fold_chemistry": "#b3421b"}
_NAMES = {"fold_random": "random folds", "fold_chemistry": "folds by chemistry"}
_INK, _SOFT = "#17201f", "#8a9594"
_EV_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_BINS = 8  # of the distance, equally filled


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Predictions of a run on rows that it had not seen.

    Attributes:
        labels_ev, predictions_ev: shape [n_rows].
        quantiles_ev: at QUANTILE_LEVELS, calibrated without the row's fold, shape [n_levels, n_rows].
        distance: to the nearest fitted row, in the last machine's metric, shape [n_rows].
    """

    labels_ev: np.ndarray
    predictions_ev: np.ndarray
    quantiles_ev: np.ndarray
    distance: np.ndarray

    @property
    def errors_ev(self) -> np.ndarray:
        """|prediction - label|, shape [n_rows]."""
        return np.asarray(np.abs(self.predictions_ev - self.labels_ev))


Judgements = Mapping[str, Judgement]
Kinds = Mapping[str, Mapping[str, np.ndarray]]


def parity(judgements: Judgements) -> Figure:
    """Predicted against reported barriers, one panel per folding, on logarithmic axes."""
    figure = _figure((8.6, 4.5))
    axes = figure.subplots(1, len(judgements), squeeze=False, sharex=True, sharey=True)[0]
    for axis, (folding, one) in zip(axes, judgements.items(), strict=True):
        floor, top = _EV_TICKS[0], 1.2 * max(one.labels_ev.max(), one.predictions_ev.max())
        span = np.array([floor, top])
        axis.plot(span, span, color=_INK, linewidth=1)
        axis.axhline(GOOD_CONDUCTOR_EV, color=_SOFT, linestyle="--", linewidth=0.8)
        axis.axvline(GOOD_CONDUCTOR_EV, color=_SOFT, linestyle="--", linewidth=0.8)
        shown = [np.maximum(values, floor) for values in (one.labels_ev, one.predictions_ev)]
        axis.scatter(*shown, s=11, color=_COLOURS[folding], alpha=0.5, linewidth=0)
        for scale in (axis.set_xscale, axis.set_yscale):
            scale("log")
        axis.set_xlim(floor * 0.9, top)
        axis.set_ylim(floor * 0.9, top)
        axis.set_aspect("equal")
        _ev_ticks(axis, "xy")
        _quiet(axis, f"{_NAMES[folding]}: mean absolute error {one.errors_ev.mean():.3f} eV")
        axis.set_xlabel("reported barrier, eV")
    axes[0].set_ylabel("predicted barrier, eV")
    return figure


def calibration(judgements: Judgements) -> Figure:
    """Actual against nominal coverage of intervals, and actual against predicted frequency of good conductors."""
    figure = _figure((8.6, 4.4))
    covers, verdicts = figure.subplots(1, 2)
    for axis in (covers, verdicts):
        axis.plot([0, 1], [0, 1], color=_SOFT, linewidth=1)
        axis.set_aspect("equal")
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
    for folding, one in judgements.items():
        style = {"color": _COLOURS[folding], "label": _NAMES[folding], "marker": "o", "markersize": 4, "linewidth": 1.2}
        covers.plot(*coverages(one), **style)
        good = (one.labels_ev < GOOD_CONDUCTOR_EV).astype(float)
        verdicts.plot(*reliability(probability_good(one.quantiles_ev), good), **style)
    _quiet(covers, "central intervals")
    covers.set_xlabel("nominal coverage")
    covers.set_ylabel("share of barriers inside")
    _quiet(verdicts, f"probability of a barrier under {GOOD_CONDUCTOR_EV:g} eV")
    verdicts.set_xlabel("predicted probability, mean of each tenth of the rows")
    verdicts.set_ylabel("share that is under")
    covers.legend(frameon=False, fontsize=9)
    return figure


def coverages(one: Judgement) -> tuple[np.ndarray, np.ndarray]:
    """Nominal and actual coverage of the central interval between each pair of opposite quantile levels."""
    count = len(QUANTILE_LEVELS)
    pairs = [(low, count - 1 - low) for low in range(count // 2)]
    nominal = [QUANTILE_LEVELS[high] - QUANTILE_LEVELS[low] for low, high in pairs]
    held = [
        np.mean((one.labels_ev >= one.quantiles_ev[low]) & (one.labels_ev <= one.quantiles_ev[high]))
        for low, high in pairs
    ]
    return np.array(nominal), np.array(held)


def errors_by_kind(kinds: Kinds, judgements: Judgements) -> Figure:
    """Mean absolute errors of each kind of row with bootstrap intervals; the last grouping has its own column.

    Args:
        kinds: for each grouping, the row numbers of each kind, in the order to show.
        judgements: by folding.
    """
    *short, tall = kinds
    errors = {
        name: {
            folding: [_mean_with_interval(one.errors_ev[rows]) for rows in groups.values()]
            for folding, one in judgements.items()
        }
        for name, groups in kinds.items()
    }
    counts = [len(kinds[name]) for name in short]
    figure = _figure((8.6, 0.3 * max(sum(counts) + 5, len(kinds[tall])) + 0.6))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.25))[0]
    panels = left.subplots(len(short), 1, squeeze=False, sharex=True, height_ratios=counts)[:, 0]
    axes = dict(zip(kinds, [*panels, right.subplots()], strict=True))
    for name, axis in axes.items():
        labels = [f"{kind} ({len(rows)})" for kind, rows in kinds[name].items()]
        _kind_panel(axis, labels, errors[name])
        for folding, one in judgements.items():
            axis.axvline(one.errors_ev.mean(), color=_COLOURS[folding], linestyle="--", linewidth=0.7)
        axis.set_xlim(0, 1.04 * max(high for means in errors.values() for each in means.values() for *_, high in each))
        _quiet(axis, f"by {name} (rows)")
    for axis in (panels[-1], axes[tall]):
        axis.set_xlabel("mean absolute error, eV")
    axes[tall].legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _kind_panel(axis: Axes, labels: list[str], errors: Mapping[str, list[tuple[float, float, float]]]) -> None:
    for shift, (folding, values) in zip((-0.17, 0.17), errors.items(), strict=True):
        means, lows, highs = zip(*values, strict=True)
        heights = np.arange(len(values)) + shift
        axis.hlines(heights, lows, highs, color=_COLOURS[folding], linewidth=3.5, alpha=0.3)
        axis.plot(means, heights, "o", color=_COLOURS[folding], markersize=4, label=_NAMES[folding])
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)


def learning(curve: Sequence[LearningPoint]) -> Figure:
    """The error against the number of fitted rows: one dot per sample, and a line through the means.

    Where there are several worlds, a line for the rows of each.
    """
    figure = _figure((5.6, 3.6))
    axis = figure.subplots()
    rows = [point.rows for point in curve]
    lines = {name: [point.worlds[name] for point in curve] for name in curve[0].worlds}
    for (name, errors), colour in zip(
        (lines or {"": [point.mae_ev for point in curve]}).items(), _COLOURS.values(), strict=False
    ):
        means = [float(np.mean(one)) for one in errors]
        axis.plot(rows, means, color=colour, linewidth=1.2, label=name)
        for count, one, mean in zip(rows, errors, means, strict=True):
            axis.scatter([count] * len(one), one, s=16, color=colour, alpha=0.5, linewidth=0)
            axis.annotate(f"{mean:.3f}", (count, mean), (6, 6), textcoords="offset points", fontsize=9, color=_INK)
    if lines:
        axis.legend(frameon=False, fontsize=9)
    axis.margins(x=0.12, y=0.15)
    axis.set_xticks([point.rows for point in curve])
    _quiet(axis, "fitted on samples, random folds, settings fixed")
    axis.set_xlabel("fitted rows")
    axis.set_ylabel("mean absolute error, eV")
    return figure


def errors_by_distance(judgements: Judgements) -> Figure:
    """Every row's error against its distance to the nearest fitted row, with the mean of equally filled bins."""
    figure = _figure((8.6, 3.8))
    axes = figure.subplots(1, len(judgements), squeeze=False, sharex=True, sharey=True)[0]
    for axis, (folding, one) in zip(axes, judgements.items(), strict=True):
        colour = _COLOURS[folding]
        axis.scatter(one.distance, np.maximum(one.errors_ev, 0.005), s=9, color=colour, alpha=0.3, linewidth=0)
        bins = np.array_split(np.argsort(one.distance, kind="stable"), _BINS)
        centres = [np.median(one.distance[rows]) for rows in bins]
        axis.plot(centres, [one.errors_ev[rows].mean() for rows in bins], "o-", color=_INK, linewidth=1.4, markersize=4)
        axis.set_yscale("log")
        axis.set_ylim(0.004, None)
        _ev_ticks(axis, "y", floor=0.005)
        _quiet(axis, _NAMES[folding])
        axis.set_xlabel("distance to the nearest fitted row")
    axes[0].set_ylabel("absolute error, eV")
    return figure


def _figure(inches: tuple[float, float]) -> Figure:
    return Figure(figsize=inches, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))


def _mean_with_interval(errors: np.ndarray) -> tuple[float, float, float]:
    values = bootstrapped(lambda rows: float(errors[rows].mean()), len(errors), seed=0)
    mean, low, high = values["value"], values["low"], values["high"]
    assert mean is not None
    assert low is not None
    assert high is not None
    return mean, low, high


def _ev_ticks(axis: Axes, which: str, *, floor: float = _EV_TICKS[0]) -> None:
    """Set ticks at round figures in eV on logarithmic axes, without minor ones."""
    ticks = [tick for tick in (0.005, 0.01, *_EV_TICKS) if tick >= floor]
    for name in which:
        line = axis.xaxis if name == "x" else axis.yaxis
        low, high = axis.get_xlim() if name == "x" else axis.get_ylim()
        shown = [tick for tick in ticks if low <= tick <= high]
        line.set_ticks(shown, [f"{tick:g}" for tick in shown])
        line.set_ticks([], minor=True)


def _quiet(axis: Axes, title: str) -> None:
    axis.set_title(title, loc="left", fontsize=9.5, color=_INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8.5, colors=_INK)
    axis.xaxis.label.set_fontsize(9)
    axis.yaxis.label.set_fontsize(9)
    axis.grid(alpha=0.2)
    axis.set_axisbelow(True)
