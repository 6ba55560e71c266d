"""Intervals of a run: residuals of rows that the machines had not seen, the domain, and how both are joined."""

from dataclasses import dataclass

import numpy as np

from app.models.cards.card import Domain
from app.models.prediction import QUANTILE_LEVELS
from app.models.predictors.domain import reasons_outside
from training.kernels.difficulty import Difficulty, fit_difficulty
from training.kernels.features import CLOSEST_APPROACH
from training.kernels.judged import Judged
from training.kernels.run import KernelRun, OutOfFold

#: Rows farther from the fitted ones than this share of those that were judged out of fold are outside the domain.
_INSIDE_SHARE = 0.9
_COVERAGE = 0.9
#: Outside the domain a distribution is at least this much wider, as that of the graph networks is.
_LEAST_OUTSIDE_FACTOR = 1.5


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What turns outputs into distributions.

    Attributes:
        difficulty: the size of the residuals.
        levels: quantiles at QUANTILE_LEVELS of the residuals divided by it.
        farthest: the distance beyond which a row is outside the domain.
        outside_factor: by which the distribution is widened there.
    """

    difficulty: Difficulty
    levels: np.ndarray
    farthest: float
    outside_factor: float

    def offsets(self, judged: Judged, outside: np.ndarray) -> np.ndarray:
        """From the outputs to the quantiles, in transformed units, shape [n_levels, n_rows].

        Args:
            judged: the predictions.
            outside: which rows are outside the domain, shape [n_rows].
        """
        scale = self.difficulty.sizes(judged) * np.where(outside, self.outside_factor, 1.0)
        return np.asarray(self.levels[:, None] * scale)


def calibrate(run: KernelRun, out: OutOfFold, rows: np.ndarray) -> Calibrated:
    """Calibrate on some rows.

    The k-th smallest of n scaled residuals is the quantile at level k / (n + 1), as in conformal prediction. The
    difficulty of each world is such that nine tenths of its residuals lie within the same bounds.
    """
    difficulty = fit_difficulty(
        out.judged,
        out.residuals,
        rows,
        groups=run.groups,
        folds=run.corpus.folds(out.folding),
        config=run.config.local,
    )
    farthest = float(np.quantile(out.judged.distance[rows], _INSIDE_SHARE))
    outside = out.judged.distance > farthest

    def scaled(factor: float) -> np.ndarray:
        return np.asarray(out.residuals / difficulty.unseen_sizes(out.judged) / np.where(outside, factor, 1.0))

    inside = rows & ~outside
    ends = [np.quantile(np.abs(scaled(1.0))[chosen], _COVERAGE) for chosen in (inside, rows & outside)]
    factor = max(_LEAST_OUTSIDE_FACTOR, float(ends[1] / ends[0]))
    if out.judged.leans_on.shape[1] > 1:
        bound = np.quantile(np.abs(scaled(factor))[rows], _COVERAGE)
        for number in range(out.judged.leans_on.shape[1]):
            mine = rows & (run.world_numbers == number)
            own = np.quantile(np.abs(scaled(factor))[mine], _COVERAGE)
            difficulty = difficulty.shifted(number, float(np.log(own / bound)))
    return Calibrated(
        difficulty=difficulty,
        levels=np.quantile(scaled(factor)[rows], QUANTILE_LEVELS, method="weibull"),
        farthest=farthest,
        outside_factor=factor,
    )


def cross_calibrated_ev(run: KernelRun, out: OutOfFold) -> np.ndarray:
    """Quantiles of every row's barrier, each fold calibrated on the others, shape [n_levels, n_rows], eV.

    Args:
        run: the configuration and the corpus.
        out: the predictions; with OutOfFold.nested each fold's labels have no part in the residuals that it is
            calibrated on.
    """
    folds = run.corpus.folds(out.folding)
    quantiles = np.empty((len(QUANTILE_LEVELS), len(folds)))
    for fold in np.unique(folds):
        calibrated = calibrate(run, out.nested.get(fold, out), (folds != fold) & run.corpus.sound)
        outside = out.judged.distance > calibrated.farthest
        outputs = out.judged.outputs + calibrated.offsets(out.judged, outside)
        quantiles[:, folds == fold] = run.barriers_ev(outputs)[:, folds == fold]
    return quantiles


def fitted_domain(run: KernelRun, rows: np.ndarray, farthest: float) -> Domain:
    """The domain covered by some rows."""
    bands = [run.corpus.records[number].band for number in np.flatnonzero(rows)]
    lengths = [band.hop_distance_angstrom for band in bands]
    approaches = run.groups[CLOSEST_APPROACH][rows, 0]
    return Domain(
        ions=tuple(sorted({band.ion for band in bands})),
        elements=tuple(sorted({symbol for band in bands for symbol in band.host_species})),
        hop_distance_angstrom=(round(min(lengths) - 0.01, 2), round(max(lengths) + 0.01, 2)),
        closest_approach_angstrom=(round(min(approaches) - 0.01, 2), round(max(approaches) + 0.01, 2)),
        vector_distance=farthest,
    )


def outside_domain(run: KernelRun, judged: Judged, domain: Domain) -> np.ndarray:
    """Which rows are outside a domain for any reason that an answer gives, shape [n_rows]."""
    approaches = run.groups[CLOSEST_APPROACH][:, 0]
    reasons = [
        bool(reasons_outside(record.band, float(approach), domain))
        for record, approach in zip(run.corpus.records, approaches, strict=True)
    ]
    return np.asarray(np.array(reasons) | (judged.distance > domain.vector_distance))
