"""Checkpoints that answer as fast as trained ones, for tests that do not care what they say."""

from pathlib import Path
from typing import Any

import torch

from app.models.cards.card import Calibration, Card, Domain, TargetTransform
from app.models.cards.property_card import PropertyCard, PropertyScale
from app.models.checkpoints import write_checkpoint
from app.models.networks.model_3 import Model3
from app.models.networks.multi_property import MultiProperty
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


def write_untrained(
    store: Path, name: str = "default", *, seed: int = 3, seconds_per_band: float | None = None
) -> None:
    """Write an untrained checkpoint of the compact network, the same for one seed, into a model store."""
    arguments: dict[str, Any] = {"trunk": TRUNK}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
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
        training={} if seconds_per_band is None else {"seconds_per_band": seconds_per_band},
        licence="MIT",
        citations=(),
        date="2026-01-01",
        weights_sha256="",
    )
    write_checkpoint(store / name, network, torch.randn(4, network.trunk.features), card)


def write_untrained_properties(store: Path, name: str = "mpt") -> None:
    """Write an untrained checkpoint of bulk properties, always the same, into a model store."""
    scales = (
        PropertyScale(name="formation_energy_ev_per_atom", unit="eV/atom", low=-4.5, high=4.5, logarithmic=False),
        PropertyScale(name="dielectric_constant", unit="", low=0.7, high=4.5, logarithmic=True),
    )
    arguments: dict[str, Any] = {
        "properties": [scale.name for scale in scales],
        "trunk": {"features": 16, "alignn_layers": 1, "graph_layers": 1, "embedding": 8},
        "head": [8],
    }
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = MultiProperty(**arguments)
    with torch.no_grad():
        for weights in network.parameters():
            if weights.dim() > 1:
                weights.mul_(2.0)  # as they are first drawn, distances hardly change an answer
    figures = {"mae": {"value": 0.08, "low": 0.07, "high": 0.09}, "median_predictor_mae": 0.9, "rows": 120}
    card = PropertyCard(
        name=name,
        version="0",
        description="untrained",
        network="multi-property",
        arguments=arguments,
        graph={},
        properties=scales,
        elements=("Co", "Fe", "Li", "O", "P"),
        corpus={},
        metrics={"test": {scales[0].name: {**figures, "unit": "eV/atom"}}},
        training={},
        licence="MIT",
        citations=(),
        date="2026-01-01",
        weights_sha256="",
    )
    write_checkpoint(store / name, network, None, card)
