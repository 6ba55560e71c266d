"""Out-of-fold figures of a run, on the sound rows and on all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.metrics import metrics_with_intervals
from training.runs import FoldResult, Run


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """The out-of-fold predictions of a run's fitted folds, in the corpus's order.

    Attributes:
        rows: row numbers in the corpus, shape [n], in the order of the other arrays.
        labels_ev, predictions_ev: shape [n], eV.
        residuals: label minus output, in transformed units, shape [n].
        distances: to the nearest fitted band, shape [n].
    """

    rows: np.ndarray
    labels_ev: np.ndarray
    predictions_ev: np.ndarray
    residuals: np.ndarray
    distances: np.ndarray
    sound: np.ndarray


def out_of_fold(run: Run, results: Sequence[FoldResult]) -> OutOfFold:
    """Join the results of some folds."""
    rows = np.concatenate([result.rows for result in results])
    order = np.argsort(rows)
    rows = rows[order]
    outputs = np.concatenate([result.outputs for result in results])[order]
    labels = run.corpus.barriers_ev[rows]
    return OutOfFold(
        rows=rows,
        labels_ev=labels,
        predictions_ev=run.to_barriers_ev(outputs),
        residuals=run.to_target(labels) - outputs,
        distances=np.concatenate([result.distances for result in results])[order],
        sound=run.corpus.sound[rows],
    )


def figures(run: Run, results: Sequence[FoldResult]) -> dict[str, object]:
    """Metrics with bootstrap intervals over the rows of some folds, and those of always predicting the median.

    Those of each source alone stand under `worlds`, where there are several.
    """
    joined, sources = out_of_fold(run, results), run.corpus.sources
    table: dict[str, object] = {"folds": [result.fold for result in results]}
    table |= _figures_of(run, results, joined, np.ones(len(sources), dtype=bool))
    if len(run.corpus.files) > 1:
        table["worlds"] = {
            name: _figures_of(run, results, joined, sources == name)
            for name in run.corpus.files
            if _may_be_judged(run, results, joined, sources == name)
        }
    return table


def _may_be_judged(run: Run, results: Sequence[FoldResult], joined: OutOfFold, rows: np.ndarray) -> bool:
    """Whether some rows have sound ones among the predicted, and others outside of each fold, for its median."""
    folds, sound = run.corpus.folds(run.config.folding), run.corpus.sound & rows
    return bool(sound[joined.rows].any()) and all((sound & (folds != result.fold)).any() for result in results)


def _figures_of(run: Run, results: Sequence[FoldResult], joined: OutOfFold, rows: np.ndarray) -> dict[str, object]:
    """The same of some rows of the corpus, a mask of shape [n_rows]."""
    median = np.empty(len(rows))
    folds = run.corpus.folds(run.config.folding)
    for result in results:
        median[result.rows] = np.median(run.corpus.barriers_ev[(folds != result.fold) & run.corpus.sound & rows])
    median, rows = median[joined.rows], rows[joined.rows]
    table: dict[str, object] = {}
    for name, chosen in (("sound", joined.sound & rows), ("all", rows)):
        labels = joined.labels_ev[chosen]
        table[name] = {
            "rows": int(chosen.sum()),
            **metrics_with_intervals(labels, joined.predictions_ev[chosen]),
            "median_predictor_mae_ev": float(np.abs(median[chosen] - labels).mean()),
        }
    return table
