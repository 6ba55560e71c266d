"""A checkpoint that answers as fast as a trained one, for tests that do not care what it says."""

from pathlib import Path
from typing import Any

import torch

from app.models.cards import Calibration, Card, Domain, TargetTransform
from app.models.checkpoints import write_checkpoint
from app.models.networks.model_3 import Model3
from app.models.prediction import QUANTILE_LEVELS

#: The compact checkpoint's own size.
TRUNK: dict[str, int | bool] = {
    "features": 64,
    "alignn_layers": 1,
    "graph_layers": 3,
    "embedding": 16,
    "marks_ion": True,
}
GRAPH = {"inner_angstrom": 3.0, "outer_angstrom": 5.0}


def write_untrained(store: Path, name: str = "default") -> None:
    """Write an untrained checkpoint of the compact network, always the same, into a model store."""
    arguments: dict[str, Any] = {"trunk": TRUNK}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Model3(**arguments)
    card = Card(
        name=name,
        version="0",
        description="untrained",
        network="model-3",
        arguments=arguments,
        graph=GRAPH,
        target=TargetTransform(offset_ev=0.05, mean=-0.5, scale=0.7),
        calibration=Calibration(
            residual_quantiles=tuple(4.0 * level - 2.0 for level in QUANTILE_LEVELS),
            outside_factor=1.5,
            rows=0,
            folds=(),
        ),
        domain=Domain(
            ions=("Li", "Na", "Mg"),
            elements=("Li", "O"),
            hop_distance_angstrom=(0.5, 8.0),
            closest_approach_angstrom=(0.5, 8.0),
            vector_distance=1e9,
        ),
        directional=False,
        corpus={},
        metrics={},
        training={},
        licence="MIT",
        citations=(),
        date="2026-01-01",
        weights_sha256="",
    )
    write_checkpoint(store / name, network, torch.randn(4, network.trunk.features), card)
