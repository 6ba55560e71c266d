"""The end of a run of a conductivity model: its figures, its card and its checkpoint."""

import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from app.models.cards.conductivity_card import ConductivityCard
from app.models.checkpoints import write_checkpoint
from app.models.features.conductor import DESCRIPTORS
from training.conductivity.figures import by_family, figures
from training.conductivity.fit import arguments
from training.conductivity.measured import CITATIONS
from training.conductivity.run import ConductivityRun, both_out_of_fold, calibrated, cross_calibrated
from training.metadata import processor


def publish_conductivity(run: ConductivityRun, store: Path, *, version: str) -> ConductivityCard:
    """Evaluate both foldings, calibrate on their residuals, fit all rows and write the checkpoint.

    Args:
        run: its configuration names the checkpoint.
        store: the model store.
        version: of the checkpoint.
    """
    started = time.monotonic()
    outs = both_out_of_fold(run)
    every = list(outs.values())
    rows = run.measurements.rows
    values = np.stack([one.values for one in run.described])
    measured = run.measurements.values[~run.measurements.is_bound]
    card = ConductivityCard(
        name=run.config.name,
        version=version,
        description=run.config.description,
        network="conductor-regression",
        arguments=arguments(run.config, len(rows)),
        graph={},
        ion=run.config.ion,
        temperature_kelvin=run.config.temperature_kelvin,
        descriptors=DESCRIPTORS,
        ranges=tuple(
            (float(low), float(high)) for low, high in zip(np.nanmin(values, 0), np.nanmax(values, 0), strict=True)
        ),
        elements=tuple(sorted({symbol for one in run.described for symbol in one.elements})),
        most_novelty=run.config.most_novelty,
        barrier_model={"name": run.predictor.name, "digest": run.predictor.digest},
        calibration=calibrated(run, every, np.ones(len(rows), dtype=bool)),
        measured_range_log10=(float(measured.min()), float(measured.max())),
        corpus={
            "name": "OBELiX, training part, rows with a CIF",
            "sha256": run.measurements.sha256,
            "rows": len(rows),
            "fitted_rows": len(rows),
            "bounds": int(run.measurements.is_bound.sum()),
            "unreadable": sum(row.crystal is None for row in rows),
        },
        metrics={
            folding: {**figures(run, out, cross_calibrated(run, out, every)), "by_family": by_family(run, out)}
            for folding, out in outs.items()
        },
        training={
            "config": run.config.to_json(),
            "device": processor(),
            "torch": torch.__version__,
            "seconds": round(time.monotonic() - started),
        },
        licence="MIT",
        citations=CITATIONS,
        date=datetime.now(UTC).date().isoformat(),
        weights_sha256="",
    )
    return write_checkpoint(store / run.config.name, run.fitted(), None, card)
