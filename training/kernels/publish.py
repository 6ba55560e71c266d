"""The end of a run of kernel machines and perceptrons: the checkpoint and its card, written to the model store."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from app.cores import usable_cores
from app.models.cards.card import Calibration, Card
from app.models.checkpoints import write_checkpoint
from app.models.networks.hop_kernel import HopKernel
from app.models.networks.message_tables import MessageTables
from app.models.predictors.kernel_predictor import KernelPredictor
from training.kernels.calibrated import calibrate, fitted_domain
from training.kernels.figures import figures
from training.kernels.run import KernelRun
from training.kernels.transfer import transfer_figures
from training.metadata import corpus_citations, corpus_entry, processor
from training.potentials import POTENTIAL, POTENTIAL_CITATION, POTENTIAL_LICENCE

_FOLDINGS = ("fold_random", "fold_chemistry")
_TIMED = 8


def publish_kernels(run: KernelRun, store: Path, *, version: str) -> Card:
    """Evaluate both foldings, calibrate on the residuals of one, fit all sound rows and write the checkpoint.

    Args:
        run: its configuration names the checkpoint.
        store: the model store.
        version: of the checkpoint.
    """
    started = time.monotonic()
    outs = {folding: run.nested(run.out_of_fold(folding)) for folding in _FOLDINGS}
    metrics: dict[str, Any] = {folding: figures(run, out) for folding, out in outs.items()}
    metrics |= {"fitted_on_one_world": transfer_figures(run)} if len(run.world_names) > 1 else {}
    fitted = run.fitted(run.config.calibrated_on)
    calibrated = calibrate(run, outs[run.config.calibrated_on], run.corpus.sound)
    arguments = {**fitted.arguments(), "relaxes": run.config.relaxes}
    network = HopKernel(**arguments)
    network.potential.load_state_dict(run.potential.state_dict())
    network.machines.load_state_dict(fitted.network(calibrated.difficulty).state_dict())
    card = Card(
        name=run.config.name,
        version=version,
        description=run.config.description,
        network="hop-kernel",
        arguments=arguments,
        graph={},
        target=run.config.target,
        calibration=Calibration(
            residual_quantiles=tuple(float(value) for value in calibrated.levels),
            outside_factor=calibrated.outside_factor,
            rows=int(run.corpus.sound.sum()),
            folds=tuple(int(fold) for fold in np.unique(run.corpus.folds(run.config.calibrated_on))),
        ),
        domain=fitted_domain(run, run.corpus.sound, calibrated.farthest),
        directional=False,
        corpus=corpus_entry(run.corpus),
        metrics=metrics,
        training={
            "config": run.config.to_json(),
            "settings": fitted.settings(),
            "potential": {"name": POTENTIAL, "licence": POTENTIAL_LICENCE},
            "device": processor(),
            "cores": usable_cores(),
            "torch": torch.__version__,
            "seconds": round(time.monotonic() - started),
            "seconds_of_features": round(run.feature_seconds),
            "seconds_per_band": 0.0,
            "parameters": sum(value.numel() for value in network.state_dict().values()),
        },
        licence="MIT",
        citations=(*corpus_citations(run.corpus), POTENTIAL_CITATION),
        date=datetime.now(UTC).date().isoformat(),
        weights_sha256="",
    )
    tables = MessageTables(network.potential)
    card.training["seconds_per_band"] = _seconds_per_band(
        run, KernelPredictor(card, network, device=torch.device("cpu"), tables=tables)
    )
    return write_checkpoint(store / run.config.name, network, None, card)


def _seconds_per_band(run: KernelRun, predictor: KernelPredictor) -> float:
    """The median over a seeded sample of bands, each prepared and predicted alone, after one warm-up."""
    chosen = np.random.default_rng(0).choice(np.flatnonzero(run.corpus.sound), _TIMED + 1, replace=False)
    seconds = []
    for number in chosen:
        started = time.monotonic()
        predictor.predict([predictor.graph(run.corpus.records[number].band)])
        seconds.append(time.monotonic() - started)
    return round(float(np.median(seconds[1:])), 3)
