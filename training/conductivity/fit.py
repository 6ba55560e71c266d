"""The fit of a conductivity model: its linear part, then a Gaussian process on what that leaves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from app.crystals.elements import LAST_COVERED
from app.models.features.conductor import DESCRIPTORS, ConductorDescriptors
from app.models.networks.conductor_regression import ConductorRegression, kernel
from training.conductivity.config import ConductivityConfig

_ITERATIONS = 12
#: The least spread by which a number is divided.
_LEAST_SCALE = 1e-9


def fit_regression(
    described: Sequence[ConductorDescriptors],
    values: np.ndarray,
    is_bound: np.ndarray,
    families: np.ndarray,
    config: ConductivityConfig,
) -> ConductorRegression:
    """Fit a model on some rows.

    Every family has the same weight in the linear part, however many of its members were measured. A bound counts as
    a value only where the prediction is above it.

    Args:
        described: the crystals.
        values: log10 of their conductivities in S/cm, shape [n]; of a bound, the bound.
        is_bound: which are upper bounds, shape [n].
        families: shape [n].
        config: of the run.
    """
    network = ConductorRegression(**arguments(config, len(described)))
    numbers, fractions, log_volume = tensors(described)
    known = np.where(np.isfinite(numbers.numpy()), numbers.numpy(), np.nan)
    network.medians[:] = torch.from_numpy(np.nanmedian(known, axis=0))
    filled = torch.where(torch.isfinite(numbers), numbers, network.medians)
    network.means[:] = filled.mean(dim=0)
    network.scales[:] = filled.std(dim=0, correction=0).clamp(min=_LEAST_SCALE)
    network.median_log_volume.fill_(float(np.nanmedian(log_volume.numpy())))
    standardized = network.standardized(numbers).numpy()
    intercept, coefficients = _linear(standardized, values, is_bound, families, config)
    network.intercept.fill_(intercept)
    network.coefficients[:] = torch.from_numpy(coefficients)

    residuals = values - intercept - standardized @ coefficients
    residuals = np.where(is_bound, np.minimum(residuals, 0.0), residuals)
    points = network.metric(numbers, fractions, log_volume)
    covariance = kernel(points, points) + config.noise * torch.eye(len(points), dtype=torch.float64)
    lower = torch.linalg.cholesky(covariance)
    network.points[:] = points
    network.weights[:] = torch.cholesky_solve(torch.from_numpy(residuals)[:, None], lower)[:, 0]
    network.whitening[:] = torch.linalg.inv(lower)
    return network


def arguments(config: ConductivityConfig, points: int) -> dict[str, Any]:
    """Keyword arguments of the network."""
    return {
        "descriptors": len(DESCRIPTORS),
        "points": points,
        "features": LAST_COVERED + 1 + len(DESCRIPTORS),
        "clip": config.clip,
        "volume_weight": config.volume_weight,
        "descriptor_weight": config.descriptor_weight,
        "length": config.length,
    }


def tensors(described: Sequence[ConductorDescriptors]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The input of the network: numbers, roots of element shares, logs of volumes."""
    return (
        torch.from_numpy(np.stack([one.values for one in described])),
        torch.from_numpy(np.stack([one.root_fractions for one in described])),
        torch.tensor([one.log_anion_volume for one in described], dtype=torch.float64),
    )


def _linear(
    standardized: np.ndarray,
    values: np.ndarray,
    is_bound: np.ndarray,
    families: np.ndarray,
    config: ConductivityConfig,
) -> tuple[float, np.ndarray]:
    """Intercept and coefficients by reweighted least squares; a coefficient of the wrong sign becomes zero."""
    targets = np.maximum(values, config.floor_log10)
    _, member, counts = np.unique(families, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[member]
    weights /= weights.mean()
    signs = np.array([config.signs[name] for name in DESCRIPTORS], dtype=np.float64)
    kept = np.ones(len(signs), dtype=bool)
    while True:
        solution = _robust(standardized[:, kept], targets, is_bound, weights, config)
        wrong = solution[1:] * signs[kept] < 0
        if not wrong.any():
            coefficients = np.zeros(len(signs))
            coefficients[kept] = solution[1:]
            return float(solution[0]), coefficients
        kept[np.flatnonzero(kept)[wrong]] = False


def _robust(
    columns: np.ndarray, targets: np.ndarray, is_bound: np.ndarray, weights: np.ndarray, config: ConductivityConfig
) -> np.ndarray:
    """Absolute errors, squared where they are small; intercept first."""
    design = np.column_stack([np.ones(len(columns)), columns])
    penalty = np.eye(design.shape[1]) * config.ridge
    penalty[0, 0] = 1e-6
    wanted, row_weights = targets, weights
    solution = np.zeros(design.shape[1])
    for _ in range(_ITERATIONS):
        weighted = design * row_weights[:, None]
        solution = np.linalg.solve(design.T @ weighted + penalty, weighted.T @ wanted)
        predicted = design @ solution
        wanted = np.where(is_bound, np.minimum(targets, predicted), targets)
        row_weights = weights / np.maximum(np.abs(wanted - predicted), config.quadratic_below)
    return solution
