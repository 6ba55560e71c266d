"""The end of a run of kernel machines and perceptrons: the checkpoint and its card, written to the model store."""

import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from app.cores import usable_cores
from app.models.cards.card import Calibration, Card, Domain
from app.models.checkpoints import write_checkpoint
from app.models.graphs.ion_bonds import ion_bonds
from app.models.networks.hop_kernel import HopKernel
from app.models.networks.message_tables import MessageTables
from app.models.predictors.kernel_predictor import KernelPredictor
from training.corpus import CORPUS_CITATIONS
from training.kernels.figures import figures
from training.kernels.run import KernelRun, OutOfFold, calibrate
from training.metadata import corpus_entry, processor
from training.potentials import POTENTIAL, POTENTIAL_CITATION, POTENTIAL_LICENCE

_SERVED = "fold_random"
_FOLDINGS = ("fold_random", "fold_chemistry")
_TIMED = 8
_OUTSIDE_LEVEL = 0.99  # of the fitted bands' own distances to their nearest neighbour


def publish_kernels(run: KernelRun, store: Path, *, version: str) -> Card:
    """Evaluate both foldings, calibrate on the random one's residuals, fit all sound rows and write the checkpoint.

    Args:
        run: its configuration names the checkpoint.
        store: the model store.
        version: of the checkpoint.
    """
    started = time.monotonic()
    outs = {folding: run.out_of_fold(folding) for folding in _FOLDINGS}
    metrics = {folding: figures(run, out) for folding, out in outs.items()}
    ensemble = run.fitted(_SERVED)
    coefficients, quantiles = calibrate(outs[_SERVED], run.corpus.sound)
    arguments = {**ensemble.arguments(), "relaxes": run.config.relaxes}
    network = HopKernel(**arguments)  # type: ignore[arg-type]  # as the card keeps them
    network.potential.load_state_dict(run.potential.state_dict())
    network.machines.load_state_dict(ensemble.network(coefficients).state_dict())
    card = Card(
        name=run.config.name,
        version=version,
        description=run.config.description,
        network="hop-kernel",
        arguments=arguments,
        graph={},
        target=run.config.target,
        calibration=Calibration(
            residual_quantiles=tuple(float(value) for value in quantiles),
            outside_factor=_outside_factor(run, outs[_SERVED]),
            rows=int(run.corpus.sound.sum()),
            folds=tuple(int(fold) for fold in np.unique(run.corpus.folds(_SERVED))),
        ),
        domain=_domain(run, ensemble.nearest_other()),
        directional=False,
        corpus=corpus_entry(run.corpus),
        metrics=metrics,
        training={
            "config": run.config.to_json(),
            "settings": [
                {"penalty": machine.settings.penalty, "width": machine.settings.width} for machine in ensemble.machines
            ],
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
        citations=(*CORPUS_CITATIONS, POTENTIAL_CITATION),
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


def _outside_factor(run: KernelRun, out: OutOfFold) -> float:
    """The ratio of residuals to difficulty for the farthest tenth of the rows, at least 1."""
    coefficients, _ = calibrate(out, run.corpus.sound)
    scaled = np.abs(out.residuals / out.judged.difficulty(coefficients))[run.corpus.sound]
    order = np.argsort(out.judged.distance[run.corpus.sound], kind="stable")
    near, far = np.split(scaled[order], [round(0.9 * len(order))])
    return max(1.0, float(np.median(far) / np.median(near)))


def _domain(run: KernelRun, nearest_other: np.ndarray) -> Domain:
    """The domain covered by the sound bands; nearest_other are distances to their neighbours, shape [n_sound]."""
    numbers = np.flatnonzero(run.corpus.sound)
    bands = [run.corpus.records[number].band for number in numbers]
    lengths = [band.hop_distance_angstrom for band in bands]
    approaches = [ion_bonds(band).closest_approach_angstrom for band in bands]
    return Domain(
        ions=tuple(sorted({band.ion for band in bands})),
        elements=tuple(sorted({symbol for band in bands for symbol in band.host_species})),
        hop_distance_angstrom=(round(min(lengths) - 0.01, 2), round(max(lengths) + 0.01, 2)),
        closest_approach_angstrom=(round(min(approaches) - 0.01, 2), round(max(approaches) + 0.01, 2)),
        vector_distance=float(np.quantile(nearest_other, _OUTSIDE_LEVEL)),
    )
