"""The error of a model on bands it has not seen: its predictive distribution and its domain."""

import numpy as np
import torch

from app.models.cards.card import Calibration, Domain
from app.models.prediction import QUANTILE_LEVELS
from app.models.predictors.graph_domain import VectorDistance, closest_approach_angstrom
from training.evaluation import OutOfFold
from training.runs import Run

_OUTSIDE_LEVEL = 0.99  # of the fitted bands' own distances to their nearest neighbour


def calibrate(joined: OutOfFold, folds: tuple[int, ...]) -> Calibration:
    """Quantiles of the sound rows' out-of-fold residuals.

    The k-th smallest of n residuals is the quantile at level k / (n + 1), as in conformal prediction, so that an
    interval has on average its nominal coverage on a band that is exchangeable with the fitted ones. Outside the
    domain the distribution is stretched by how much larger the residuals of the farthest tenth of the rows were, and
    at least by a half.
    """
    residuals = joined.residuals[joined.sound]
    by_distance = np.abs(residuals)[np.argsort(joined.distances[joined.sound], kind="stable")]
    near, far = np.split(by_distance, [round(0.9 * len(by_distance))])
    factor = max(1.5, float(np.median(far) / np.median(near)))
    return Calibration(
        residual_quantiles=tuple(float(value) for value in np.quantile(residuals, QUANTILE_LEVELS, method="weibull")),
        outside_factor=factor,
        rows=len(residuals),
        folds=folds,
    )


def coverage(calibration: Calibration, joined: OutOfFold, low: float, high: float) -> float:
    """The share of sound rows whose residual lies between two levels of the distribution."""
    residuals = joined.residuals[joined.sound]
    bounds = np.interp([low, high], QUANTILE_LEVELS, calibration.residual_quantiles)
    return float(np.mean((residuals >= bounds[0]) & (residuals <= bounds[1])))


def fitted_domain(run: Run, vectors: torch.Tensor) -> Domain:
    """The domain covered by the sound bands; vectors are their pooled vectors, shape [n, features]."""
    numbers = np.flatnonzero(run.corpus.sound)
    bands = [run.corpus.records[number].band for number in numbers]
    lengths = [band.hop_distance_angstrom for band in bands]
    approaches = [min(map(closest_approach_angstrom, run.graphs[number])) for number in numbers]
    return Domain(
        ions=tuple(sorted({band.ion for band in bands})),
        elements=tuple(sorted({symbol for band in bands for symbol in band.host_species})),
        hop_distance_angstrom=(round(min(lengths) - 0.01, 2), round(max(lengths) + 0.01, 2)),
        closest_approach_angstrom=(round(min(approaches) - 0.01, 2), round(max(approaches) + 0.01, 2)),
        vector_distance=VectorDistance(vectors).fitted_quantile(_OUTSIDE_LEVEL),
    )
