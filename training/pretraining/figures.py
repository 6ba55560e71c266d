"""Errors of predicted bulk properties, and those of always predicting the training median."""

from typing import Any

import numpy as np

from training.metrics import bootstrapped
from training.pretraining.run import Pretraining


def property_figures(run: Pretraining, labels: np.ndarray, predictions: np.ndarray) -> dict[str, dict[str, Any]]:
    """Mean absolute errors by property, with bootstrap intervals.

    Args:
        run: its training rows give the median.
        labels: of some rows in the properties' units, NaN where a row has none, shape [n, n_properties].
        predictions: of the same shape.

    Returns:
        By property: rows, unit, mae and median_predictor_mae, and their ratio. Errors of a
        logarithmic property are of log(1 + value).
    """
    train = run.values[run.crystals.rows("train")]
    table: dict[str, dict[str, Any]] = {}
    for column, scale in enumerate(run.scalings):
        known = np.isfinite(labels[:, column])
        label = scale.judged(labels[known, column])
        error = np.abs(scale.judged(predictions[known, column]) - label)
        away = np.abs(scale.judged(np.array([np.nanmedian(train[:, column])])) - label)
        table[scale.name] = _compared(error, away) | {
            "rows": int(known.sum()),
            "unit": f"log(1 + {scale.unit or 'value'})" if scale.logarithmic else scale.unit,
        }
    return table


def _compared(error: np.ndarray, away: np.ndarray) -> dict[str, Any]:
    return {
        "mae": bootstrapped(lambda rows: float(error[rows].mean()), len(error), seed=0),
        "median_predictor_mae": float(away.mean()),
        "times_better": bootstrapped(lambda rows: float(away[rows].mean() / error[rows].mean()), len(error), seed=0),
    }
