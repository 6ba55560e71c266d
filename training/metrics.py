"""Errors of predicted barriers, each with a bootstrap interval."""

from collections.abc import Callable, Mapping

import numpy as np

GOOD_CONDUCTOR_EV = 0.65
_RESAMPLES = 2000
_LEVELS = (0.025, 0.975)

Metric = Callable[[np.ndarray, np.ndarray], float]


def mean_absolute_error(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean of |prediction - label|, eV."""
    return float(np.abs(predictions - labels).mean())


def median_absolute_error(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Median of |prediction - label|, eV."""
    return float(np.median(np.abs(predictions - labels)))


def root_mean_square_error(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Root of the mean squared error, eV."""
    return float(np.sqrt(np.mean((predictions - labels) ** 2)))


def coefficient_of_determination(labels: np.ndarray, predictions: np.ndarray) -> float:
    """R2: one minus the squared error over the labels' variance; NaN where all labels are equal."""
    variance = float(np.mean((labels - labels.mean()) ** 2))
    return 1.0 - float(np.mean((predictions - labels) ** 2)) / variance if variance > 0 else float("nan")


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """The share of bands classified correctly at 0.65 eV."""
    return float(np.mean((labels < GOOD_CONDUCTOR_EV) == (predictions < GOOD_CONDUCTOR_EV)))


def precision(labels: np.ndarray, predictions: np.ndarray) -> float:
    """The share of predicted good conductors that are good conductors; NaN where none is predicted."""
    called = predictions < GOOD_CONDUCTOR_EV
    return float(np.mean(labels[called] < GOOD_CONDUCTOR_EV)) if called.any() else float("nan")


def recall(labels: np.ndarray, predictions: np.ndarray) -> float:
    """The share of good conductors that are predicted as such; NaN where there are none."""
    good = labels < GOOD_CONDUCTOR_EV
    return float(np.mean(predictions[good] < GOOD_CONDUCTOR_EV)) if good.any() else float("nan")


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """The harmonic mean of precision and recall; NaN where either is not defined or both are zero."""
    both = precision(labels, predictions), recall(labels, predictions)
    return 2.0 * both[0] * both[1] / sum(both) if sum(both) else float("nan")


METRICS: dict[str, Metric] = {
    "mae_ev": mean_absolute_error,
    "median_absolute_error_ev": median_absolute_error,
    "rmse_ev": root_mean_square_error,
    "r2": coefficient_of_determination,
    "accuracy": accuracy,
    "precision": precision,
    "recall": recall,
}


def metrics_with_intervals(
    labels: np.ndarray, predictions: np.ndarray, metrics: Mapping[str, Metric] = METRICS, *, seed: int = 0
) -> dict[str, dict[str, float | None]]:
    """Every metric with its 95 % bootstrap interval; None where the rows do not define it."""

    def on_rows(metric: Metric) -> Callable[[np.ndarray], float]:
        return lambda rows: metric(labels[rows], predictions[rows])

    return {name: bootstrapped(on_rows(metric), len(labels), seed=seed) for name, metric in metrics.items()}


def bootstrapped(metric: Callable[[np.ndarray], float], row_count: int, *, seed: int) -> dict[str, float | None]:
    """A metric of row numbers on all rows, with its 95 % bootstrap interval.

    Returns:
        value, low, high; None where the rows do not define it.
    """
    draws = np.random.default_rng(seed).integers(0, row_count, size=(_RESAMPLES, row_count))
    resampled = np.array([metric(draw) for draw in draws])
    known = resampled[np.isfinite(resampled)]
    value = metric(np.arange(row_count))
    low, high = (float(bound) for bound in np.quantile(known, _LEVELS)) if len(known) else (None, None)
    return {"value": value if np.isfinite(value) else None, "low": low, "high": high}
