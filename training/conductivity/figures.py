"""How good a conductivity model is out of fold, beside trees on composition and the median."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import rankdata

from app.models.prediction import INTERVAL_COVERAGE, QUANTILE_LEVELS
from training.conductivity.run import ConductivityRun, OutOfFold
from training.metrics import bootstrapped

#: log10 of conductivities in S/cm above which a crystal is asked to be.
THRESHOLDS = (-4.0, -3.0)


def figures(run: ConductivityRun, out: OutOfFold, quantiles: np.ndarray) -> dict[str, Any]:
    """Figures with 95 % bootstrap intervals: errors and ranks on measured values, ROC areas with the bounds as well.

    Args:
        run: the run.
        out: its predictions out of fold.
        quantiles: of each row, by a calibration that had not seen its fold, shape [n_levels, n].
    """
    values, bound = run.measurements.values, run.measurements.is_bound
    measured = np.flatnonzero(~bound)
    tail = (1.0 - INTERVAL_COVERAGE) / 2.0
    low, high = (
        np.array([np.interp(level, QUANTILE_LEVELS, one) for one in quantiles.T]) for level in (tail, 1 - tail)
    )
    inside = (low <= values) & (values <= high)

    def on_measured(metric: Callable[[np.ndarray], float]) -> dict[str, float | None]:
        return bootstrapped(lambda rows: metric(measured[rows]), len(measured), seed=0)

    def errors(predictions: np.ndarray) -> dict[str, float | None]:
        return on_measured(lambda rows: float(np.abs(predictions - values)[rows].mean()))

    def paired(other: np.ndarray) -> dict[str, float | None]:
        difference = np.abs(out.predicted - values) - np.abs(other - values)
        return on_measured(lambda rows: float(difference[rows].mean()))

    table: dict[str, Any] = {"rows": len(values), "measured": len(measured), "bounds": int(bound.sum())}

    def judged(predictions: np.ndarray) -> dict[str, Any]:
        def roc(threshold: float) -> dict[str, float | None]:
            positive = values > threshold
            return bootstrapped(lambda rows: _roc(positive[rows], predictions[rows]), len(values), seed=0)

        return {
            "mae_decades": errors(predictions),
            "rank": on_measured(lambda rows: _rank(predictions[rows], values[rows])),
            **{f"roc_1e{threshold:.0f}": roc(threshold) for threshold in THRESHOLDS},
            "bounds_held": float(np.mean(predictions[bound] <= values[bound])) if bound.any() else None,
        }

    table |= {"model": judged(out.predicted), "trees": judged(out.trees), "median": judged(out.median)}
    table["less_than_trees_decades"] = paired(out.trees)
    table["less_than_median_decades"] = paired(out.median)
    table["coverage"] = on_measured(lambda rows: float(inside[rows].mean()))
    # of a bound only "at or below" is known: the interval is not wrong where it reaches down to it
    table["bounds_reached"] = float(np.mean(low[bound] <= values[bound])) if bound.any() else None
    table["interval_width_decades"] = float(np.median((high - low)[measured]))
    table["width_to_error_rank"] = _rank((high - low)[measured], np.abs(out.predicted - values)[measured])
    return table


def by_family(run: ConductivityRun, out: OutOfFold, *, least: int = 5) -> list[dict[str, Any]]:
    """Errors of each family of at least so many measured members, the largest first."""
    values, bound, families = run.measurements.values, run.measurements.is_bound, run.measurements.families
    rows = []
    for family in np.unique(families):
        chosen = (families == family) & ~bound
        if chosen.sum() >= least:
            rows.append(
                {
                    "family": str(family),
                    "rows": int(chosen.sum()),
                    "measured_median": float(np.median(values[chosen])),
                    "predicted_median": float(np.median(out.predicted[chosen])),
                    "mae_decades": float(np.abs(out.predicted - values)[chosen].mean()),
                    "trees_mae_decades": float(np.abs(out.trees - values)[chosen].mean()),
                }
            )
    return sorted(rows, key=lambda row: -int(row["rows"]))


def _rank(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation; NaN where either does not vary."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _roc(positive: np.ndarray, scores: np.ndarray) -> float:
    """The area under the ROC curve, by the ranks of the positive rows; NaN where there are none, or no others."""
    count = int(positive.sum())
    if not 0 < count < len(positive):
        return float("nan")
    ranks = rankdata(scores)[positive]
    return float((ranks.sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))
