"""Figures of a run of kernel machines for its card: errors, calibration and domain, out of fold."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from app.models.prediction import QUANTILE_LEVELS
from training.kernels.calibrated import calibrate, cross_calibrated_ev
from training.kernels.run import KernelRun, OutOfFold
from training.metrics import GOOD_CONDUCTOR_EV, bootstrapped, metrics_with_intervals

_BINS = 10
#: The places of the 90 % interval in QUANTILE_LEVELS.
INTERVAL = (QUANTILE_LEVELS.index(0.05), QUANTILE_LEVELS.index(0.95))
_SHARES = (1.0, 0.9, 0.8, 0.7)

Values = dict[str, float | None]


def figures(run: KernelRun, out: OutOfFold) -> dict[str, object]:
    """Errors on the sound and on all rows, and the quality of intervals and probabilities on the sound ones.

    Those of each world alone stand under `worlds`, where there are several.
    """
    everything = np.ones(len(run.corpus.records), dtype=bool)
    quantiles = cross_calibrated_ev(run, out)
    table: dict[str, Any] = {"folds": [int(fold) for fold in np.unique(run.corpus.folds(out.folding))]}
    table |= _figures_of(run, out, quantiles, everything)
    if len(run.world_names) > 1:
        table["worlds"] = {
            name: _figures_of(run, out, quantiles, run.world_numbers == number)
            for number, name in enumerate(run.world_names)
        }
    return table


def _figures_of(run: KernelRun, out: OutOfFold, quantiles_ev: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    sound, labels = run.corpus.sound, run.corpus.barriers_ev
    predictions, folds = run.barriers_ev(out.judged.outputs), run.corpus.folds(out.folding)
    median = np.array([np.median(labels[(folds != fold) & sound & rows]) for fold in range(folds.max() + 1)])[folds]
    table: dict[str, Any] = {}
    for name, chosen in (("sound", sound & rows), ("all", rows)):
        table[name] = {
            "rows": int(chosen.sum()),
            **metrics_with_intervals(labels[chosen], predictions[chosen]),
            "median_predictor_mae_ev": float(np.abs(median[chosen] - labels[chosen]).mean()),
        }
    table["calibration"] = calibration_figures(run, out, quantiles_ev, sound & rows)
    return table


def calibration_figures(
    run: KernelRun, out: OutOfFold, quantiles_ev: np.ndarray, rows: np.ndarray
) -> dict[str, Values | dict[str, float]]:
    """Coverage, width against error, calibration of the probability, and what the domain separates.

    Args:
        run: the corpus and the transform.
        out: the predictions.
        quantiles_ev: of every row, calibrated without its own fold, shape [n_levels, n_rows].
        rows: mask of those to judge, shape [n_rows].
    """
    quantiles, labels = quantiles_ev[:, rows], run.corpus.barriers_ev[rows]
    errors = np.abs(run.barriers_ev(out.judged.outputs)[rows] - labels)
    low, high = quantiles[INTERVAL[0]], quantiles[INTERVAL[1]]
    covered = ((labels >= low) & (labels <= high)).astype(float)
    probability = probability_good(quantiles)
    good = (labels < GOOD_CONDUCTOR_EV).astype(float)
    doubt = np.log(out.judged.variance[rows])
    far = out.judged.distance[rows] > calibrate(run, out, run.corpus.sound).farthest
    return {
        "coverage_of_90_percent_intervals": bootstrapped_over(covered),
        "rank_correlation_of_width_and_error": _figure(
            lambda chosen: float(spearmanr((high - low)[chosen], errors[chosen]).statistic), len(labels)
        ),
        "expected_calibration_error": _figure(
            lambda chosen: expected_calibration_error(probability[chosen], good[chosen]), len(labels)
        ),
        "mae_ev_of_most_in_domain": {
            f"{share:.0%}": float(errors[np.argsort(doubt, kind="stable")[: round(share * len(doubt))]].mean())
            for share in _SHARES
        },
        "mae_ev_near": bootstrapped_over(errors[~far]),
        "mae_ev_far": bootstrapped_over(errors[far]),
    }


def expected_calibration_error(probability: np.ndarray, good: np.ndarray) -> float:
    """Mean over ten equally filled bins of |mean probability - share of good conductors|."""
    predicted, found = reliability(probability, good)
    return float(np.abs(predicted - found).mean())


def reliability(probability: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean probability and the share of good conductors in ten equally filled bins of rising probability."""
    bins = np.array_split(np.argsort(probability, kind="stable"), _BINS)
    predicted = np.array([probability[rows].mean() for rows in bins])
    return predicted, np.array([good[rows].mean() for rows in bins])


def probability_good(quantiles_ev: np.ndarray) -> np.ndarray:
    """The probability of a good conductor for every row, from quantiles of shape [n_levels, n_rows], eV."""
    return np.array([_probability_below(column) for column in quantiles_ev.T])


def _probability_below(quantiles_ev: np.ndarray) -> float:
    increasing = quantiles_ev + np.arange(len(quantiles_ev)) * 1e-9
    return float(np.interp(GOOD_CONDUCTOR_EV, increasing, QUANTILE_LEVELS))


def bootstrapped_over(values: np.ndarray) -> Values:
    """The mean of values of rows with its interval; None where there are none."""
    if not len(values):
        return {"value": None, "low": None, "high": None}
    return _figure(lambda chosen: float(np.mean(values[chosen])), len(values))


def _figure(metric: Callable[[np.ndarray], float], rows: int) -> Values:
    return bootstrapped(metric, rows, seed=0)
