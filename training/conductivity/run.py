"""A run of a conductivity model: out of fold in both foldings, then on all rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pymatgen.core import Composition
from scipy.optimize import minimize
from sklearn.ensemble import ExtraTreesRegressor

from app.crystals.elements import LAST_COVERED
from app.models.cards.conductivity_card import ConductivityCalibration
from app.models.features.conductor import ConductorDescriptors
from app.models.features.tables import atomic_number
from app.models.networks.conductor_regression import ConductorRegression
from app.models.prediction import QUANTILE_LEVELS
from app.models.predictors.predictor import Predictor
from training.conductivity.config import ConductivityConfig
from training.conductivity.descriptors import described
from training.conductivity.fit import fit_regression, tensors
from training.conductivity.measured import FOLDINGS, Measurements

_TREES = 300
_LEAST_SCALE = 0.1


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """Predictions of every row by models that had not seen its fold.

    Attributes:
        folding: which folds.
        predicted: log10 of the conductivity in S/cm, shape [n].
        novelty: of each crystal to its model, 0 to 1, shape [n].
        trees: the same predictions by trees on composition, cell and space group, shape [n].
        median: the same by the median of the fitted rows, shape [n].
    """

    folding: str
    predicted: np.ndarray
    novelty: np.ndarray
    trees: np.ndarray
    median: np.ndarray


class ConductivityRun:
    """A configuration, measured rows and their descriptors.

    Args:
        config: what to fit.
        measurements: the rows.
        predictor: of barriers.
        folder: where percolation barriers are kept.
        report: called with messages on progress.
    """

    def __init__(
        self,
        config: ConductivityConfig,
        measurements: Measurements,
        predictor: Predictor,
        folder: Path,
        *,
        report: Callable[[str], None],
    ) -> None:
        self.config = config
        self.measurements = measurements
        self.predictor = predictor
        self.described = described(measurements, config.ion, predictor, folder, report)

    def fitted(self, rows: np.ndarray | None = None) -> ConductorRegression:
        """The model fitted on some rows (their numbers), or on all."""
        chosen = np.arange(len(self.described)) if rows is None else rows
        rest = self.measurements
        return fit_regression(
            [self.described[row] for row in chosen],
            rest.values[chosen],
            rest.is_bound[chosen],
            rest.families[chosen],
            self.config,
        )

    def out_of_fold(self, folding: str) -> OutOfFold:
        """Predict every fold by a model fitted on the others."""
        folds, values = self.measurements.folds(folding), self.measurements.values
        found = np.empty((4, len(folds)))
        columns = self._composition_and_cell()
        for fold in np.unique(folds):
            inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
            found[:2, inside] = predicted(self.fitted(outside), [self.described[row] for row in inside])
            trees = ExtraTreesRegressor(_TREES, random_state=0).fit(columns[outside], values[outside])
            found[2, inside] = trees.predict(columns[inside])
            found[3, inside] = np.median(values[outside])
        return OutOfFold(folding=folding, predicted=found[0], novelty=found[1], trees=found[2], median=found[3])

    def _composition_and_cell(self) -> np.ndarray:
        """What the trees see: shares of the elements as published, the cell, its volume and the space group."""
        rows = []
        for row in self.measurements.rows:
            shares = np.zeros(LAST_COVERED)
            for symbol, amount in Composition(row.composition).fractional_composition.get_el_amt_dict().items():
                shares[atomic_number(symbol) - 1] = amount
            rows.append(np.concatenate([shares, row.cell, [np.prod(row.cell[:3])]]))
        return np.asarray(np.nan_to_num(np.stack(rows), nan=-1.0))


def predicted(network: ConductorRegression, crystals: Sequence[ConductorDescriptors]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions, log10 of S/cm, and novelties of some crystals, each of shape [n]."""
    with torch.inference_mode():
        terms, relatives, novelty = network(*tensors(crystals))
        return np.asarray(network.intercept + terms.sum(dim=1) + relatives), np.asarray(novelty)


def calibrated(run: ConductivityRun, outs: Sequence[OutOfFold], rows: np.ndarray) -> ConductivityCalibration:
    """The calibration on some rows' residuals of both foldings; bounds, which have none, are left out.

    The scale grows with the novelty: it is that of a Laplace distribution, fitted by its likelihood. Of the quantiles
    of the scaled residuals each folding's rows count alike.

    Args:
        run: whose predictions these are.
        outs: out of fold, in each folding.
        rows: which rows, shape [n].
    """
    kept = rows & ~run.measurements.is_bound
    residuals = np.concatenate([(run.measurements.values - out.predicted)[kept] for out in outs])
    novelty = np.concatenate([out.novelty[kept] for out in outs])

    def loss(scales: np.ndarray) -> float:
        known, more = np.exp(scales)
        scale = known + more * novelty
        return float(np.mean(np.log(scale) + np.abs(residuals) / scale))

    known, more = np.exp(minimize(loss, np.log([0.7, 0.7]), method="Nelder-Mead").x)
    known = max(float(known), _LEAST_SCALE)
    scaled = residuals / (known + more * novelty)
    quantiles = np.quantile(scaled, QUANTILE_LEVELS, method="weibull")
    return ConductivityCalibration(
        residual_quantiles=tuple(float(value) for value in quantiles),
        scale_known=known,
        scale_new=known + float(more),
        rows=len(residuals),
    )


def quantiles_of(calibration: ConductivityCalibration, out: OutOfFold) -> np.ndarray:
    """The distribution of every row at QUANTILE_LEVELS, shape [n_levels, n]."""
    scale = np.array([calibration.scale(float(one)) for one in out.novelty])
    return np.asarray(out.predicted + np.array(calibration.residual_quantiles)[:, None] * scale)


def cross_calibrated(run: ConductivityRun, out: OutOfFold, outs: Sequence[OutOfFold]) -> np.ndarray:
    """The same, each fold calibrated on the others' rows."""
    folds = run.measurements.folds(out.folding)
    found = np.empty((len(QUANTILE_LEVELS), len(folds)))
    for fold in np.unique(folds):
        found[:, folds == fold] = quantiles_of(calibrated(run, outs, folds != fold), out)[:, folds == fold]
    return found


def both_out_of_fold(run: ConductivityRun) -> dict[str, OutOfFold]:
    """Out of fold in both foldings."""
    return {folding: run.out_of_fold(folding) for folding in FOLDINGS}
