"""The end of a run: the final network, its calibration and its card, written to the model store."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from app.models.cards.card import Card
from app.models.checkpoints import write_checkpoint
from training.barrier_task import outputs_of
from training.calibration import calibrate, coverage, fitted_domain
from training.evaluation import figures, out_of_fold
from training.metadata import corpus_citations, corpus_entry, fitted_on
from training.runs import Report, Run

METHOD_CITATION = (
    "K. Choudhary, B. DeCost, Atomistic Line Graph Neural Network for improved materials property predictions, "
    "npj Comput. Mater. 7, 185 (2021), doi:10.1038/s41524-021-00650-1"
)


def publish(run: Run, store: Path, *, version: str, report: Report) -> Card:
    """Finish all fits, calibrate on the out-of-fold residuals, and write the checkpoint.

    Args:
        run: its configuration names the checkpoint and the calibration's folds.
        store: the model store.
        version: of the checkpoint.
        report: called after each epoch.
    """
    folds = run.config.calibration_folds
    results = [run.fold(fold, report) for fold in folds]
    joined = out_of_fold(run, results)
    calibration = calibrate(joined, folds)
    network, seconds = run.fitted(run.corpus.sound, run.folder / "all", "all bands", report)
    _, vectors = outputs_of(network, [run.graphs[number] for number in np.flatnonzero(run.corpus.sound)], run.device)
    metrics: dict[str, Any] = {
        run.config.folding: {
            **figures(run, results),
            "by_fold": {str(result.fold): figures(run, [result]) for result in results},
        }
    }
    metrics["interval_coverage"] = {
        "claimed": 0.9,
        "of_calibration_rows": coverage(calibration, joined, 0.05, 0.95),
        "left_out_fold": _left_out_coverage(run, folds, report),
    }
    card = Card(
        name=run.config.name,
        version=version,
        description=run.config.description,
        network=run.config.network,
        arguments=run.config.arguments,
        graph=run.config.graph,
        target=run.config.target,
        calibration=calibration,
        domain=fitted_domain(run, vectors),
        directional=bool(network.directional),
        corpus=corpus_entry(run.corpus),
        metrics=metrics,
        training={
            **fitted_on(run.config.to_json(), run.device, seconds, network),
            "seconds_of_folds": {str(result.fold): round(result.seconds) for result in results},
            "pretrained": {"name": run.config.pretrained, "weights_sha256": run.trunk.weights_sha256}
            if run.trunk
            else None,
        },
        licence="MIT",
        citations=(*corpus_citations(run.corpus), METHOD_CITATION),
        date=datetime.now(UTC).date().isoformat(),
        weights_sha256="",
    )
    return write_checkpoint(store / run.config.name, network, vectors, card)


def _left_out_coverage(run: Run, folds: tuple[int, ...], report: Report) -> float | None:
    """Coverage of each fold by a calibration without its residuals; None with a single fold."""
    results = {fold: run.fold(fold, report) for fold in folds}
    if len(results) == 1:
        return None
    covered, rows = 0.0, 0
    for fold in folds:
        others = tuple(other for other in folds if other != fold)
        calibration = calibrate(out_of_fold(run, [results[other] for other in others]), others)
        judged = out_of_fold(run, [results[fold]])
        count = int(judged.sound.sum())
        covered += coverage(calibration, judged, 0.05, 0.95) * count
        rows += count
    return covered / rows
