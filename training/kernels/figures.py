"""Figures of a run of kernel machines for its card: errors, calibration and domain, out of fold."""

from collections.abc import Callable

import numpy as np
from scipy.stats import spearmanr

from app.models.prediction import QUANTILE_LEVELS
from training.kernels.run import KernelRun, OutOfFold, cross_calibrated
from training.metrics import GOOD_CONDUCTOR_EV, bootstrapped, metrics_with_intervals

_BINS = 10
_INTERVAL = (QUANTILE_LEVELS.index(0.05), QUANTILE_LEVELS.index(0.95))
_SHARES = (1.0, 0.9, 0.8, 0.7)

Values = dict[str, float | None]


def figures(run: KernelRun, out: OutOfFold) -> dict[str, object]:
    """Errors on the sound and on all rows, and the quality of intervals and probabilities on the sound ones."""
    sound = run.corpus.sound
    predictions, labels = run.barriers_ev(out.judged.outputs), run.corpus.barriers_ev
    folds = run.corpus.folds(out.folding)
    median = np.array([np.median(labels[(folds != fold) & sound]) for fold in folds])
    table: dict[str, object] = {"folds": [int(fold) for fold in np.unique(folds)]}
    for name, chosen in (("sound", sound), ("all", np.ones(len(sound), dtype=bool))):
        table[name] = {
            "rows": int(chosen.sum()),
            **metrics_with_intervals(labels[chosen], predictions[chosen]),
            "median_predictor_mae_ev": float(np.abs(median[chosen] - labels[chosen]).mean()),
        }
    table["calibration"] = calibration_figures(run, out)
    return table


def calibration_figures(run: KernelRun, out: OutOfFold) -> dict[str, Values | dict[str, float]]:
    """Coverage, width against error, calibration of the probability, each calibrated without the row's own fold."""
    sound = run.corpus.sound
    quantiles = cross_calibrated(run, out).quantiles_ev[:, sound]
    labels = run.corpus.barriers_ev[sound]
    errors = np.abs(run.barriers_ev(out.judged.outputs)[sound] - labels)
    low, high = quantiles[_INTERVAL[0]], quantiles[_INTERVAL[1]]
    covered = ((labels >= low) & (labels <= high)).astype(float)
    probability = probability_good(quantiles)
    good = (labels < GOOD_CONDUCTOR_EV).astype(float)
    doubt = np.log(out.judged.variance[sound])
    return {
        "coverage_of_90_percent_intervals": _figure(lambda rows: float(covered[rows].mean()), len(labels)),
        "rank_correlation_of_width_and_error": _figure(
            lambda rows: float(spearmanr((high - low)[rows], errors[rows]).statistic), len(labels)
        ),
        "expected_calibration_error": _figure(
            lambda rows: expected_calibration_error(probability[rows], good[rows]), len(labels)
        ),
        "mae_ev_of_most_in_domain": {
            f"{share:.0%}": float(errors[np.argsort(doubt, kind="stable")[: round(share * len(doubt))]].mean())
            for share in _SHARES
        },
    }


def expected_calibration_error(probability: np.ndarray, good: np.ndarray) -> float:
    """Mean over ten equally filled bins of |mean probability - share of good conductors|."""
    claimed, found = reliability(probability, good)
    return float(np.abs(claimed - found).mean())


def reliability(probability: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean probability and the share of good conductors in ten equally filled bins of rising probability."""
    bins = np.array_split(np.argsort(probability, kind="stable"), _BINS)
    claimed = np.array([probability[rows].mean() for rows in bins])
    return claimed, np.array([good[rows].mean() for rows in bins])


def probability_good(quantiles_ev: np.ndarray) -> np.ndarray:
    """The probability of a good conductor for every row, from quantiles of shape [n_levels, n_rows], eV."""
    return np.array([_probability_below(column) for column in quantiles_ev.T])


def _probability_below(quantiles_ev: np.ndarray) -> float:
    increasing = quantiles_ev + np.arange(len(quantiles_ev)) * 1e-9
    return float(np.interp(GOOD_CONDUCTOR_EV, increasing, QUANTILE_LEVELS))


def _figure(metric: Callable[[np.ndarray], float], rows: int) -> Values:
    return bootstrapped(metric, rows, seed=0)
