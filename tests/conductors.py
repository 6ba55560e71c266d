"""A small model of conductivity, fitted on made-up conductors whose law is known."""

from pathlib import Path

import numpy as np

from app.crystals.elements import LAST_COVERED
from app.models.cards.conductivity_card import ConductivityCalibration, ConductivityCard
from app.models.checkpoints import write_checkpoint
from app.models.features.conductor import DESCRIPTORS, ConductorDescriptors
from app.models.networks.conductor_regression import ConductorRegression
from app.models.prediction import QUANTILE_LEVELS
from training.conductivity.config import ConductivityConfig, conductivity_config_path, read_conductivity_config
from training.conductivity.fit import arguments, fit_regression

#: By which the made-up conductors conduct: decades for each unit of a descriptor.
LAW = np.array([1.0, 1.0, -3.0, -8.0, -2.0])
MEAN = -5.0


def config() -> ConductivityConfig:
    path = conductivity_config_path("conductivity")
    assert path is not None
    return read_conductivity_config(path)


def made_conductors(count: int = 180, seed: int = 0) -> tuple[list[ConductorDescriptors], np.ndarray]:
    """Conductors of random numbers and compositions, and log10 of their conductivities in S/cm."""
    generator = np.random.default_rng(seed)
    low, high = np.array([0.0, 0.0, 2.4, 0.1, 0.2]), np.array([1.0, 1.0, 4.0, 0.8, 1.0])
    values = low + (high - low) * generator.random((count, len(DESCRIPTORS)))
    shares = generator.dirichlet(np.ones(6), count)
    described = []
    for row, share in zip(values, shares, strict=True):
        fractions = np.zeros(LAST_COVERED)
        fractions[[2, 7, 14, 15, 16, 21]] = share
        described.append(
            ConductorDescriptors(
                values=row,
                root_fractions=np.sqrt(fractions),
                log_anion_volume=3.0,
                elements=("Cl", "Li", "O", "P", "S", "Ti"),
            )
        )
    return described, MEAN + (values - (low + high) / 2) @ LAW


def fitted() -> tuple[ConductorRegression, list[ConductorDescriptors], np.ndarray]:
    """The model, what it was fitted on, and the values."""
    described, values = made_conductors()
    families = np.arange(len(values)).astype(str)
    network = fit_regression(described, values, np.zeros(len(values), dtype=bool), families, config())
    return network, described, values


def small_card(points: int, name: str = "conductivity", **others: str) -> ConductivityCard:
    return ConductivityCard(
        name=name,
        version="0",
        description="made-up conductors",
        network="conductor-regression",
        arguments=arguments(config(), points),
        graph={},
        ion="Li",
        temperature_kelvin=298.0,
        descriptors=DESCRIPTORS,
        ranges=((0.0, 1.0), (0.0, 1.0), (2.0, 4.0), (0.0, 0.8), (0.0, 1.0)),
        elements=("Cl", "Fe", "La", "Li", "O", "P", "S", "Ti", "Zr"),
        most_novelty=0.5,
        barrier_model={"name": "default", "digest": others.get("barriers", "0" * 64)},
        calibration=ConductivityCalibration(
            residual_quantiles=tuple(6.0 * level - 3.0 for level in QUANTILE_LEVELS),
            scale_known=0.5,
            scale_new=1.5,
            rows=60,
        ),
        measured_range_log10=(-12.0, 0.5),
        corpus={},
        metrics={},
        training={},
        licence="MIT",
        citations=(),
        date="2026-01-01",
        weights_sha256="",
    )


def write_small(store: Path) -> None:
    """Write the small model into a model store."""
    network, described, _ = fitted()
    write_checkpoint(store / "conductivity", network, None, small_card(len(described)))
