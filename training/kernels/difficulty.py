"""The expected size of the errors of machines, fitted to those of rows that the machines had not seen."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist

from training.kernels.config import LocalConfig
from training.kernels.features import Groups
from training.kernels.judged import Judged
from training.kernels.machines import FittedMachine, Metric, Settings

_SMALLEST_RESIDUAL = 0.03  # so that a row predicted well by chance does not dominate the fit


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """The expected size of residuals: see KernelMachines and WorldMachines.

    Attributes:
        coefficients: of Judged.terms, shape [n_terms].
        local: the kernel regression of what the terms leave; None without one.
        unseen: its outputs, for fitted rows those of a regression that had not seen their fold, shape [n_rows].
    """

    coefficients: np.ndarray
    local: FittedMachine | None
    unseen: np.ndarray

    def sizes(self, judged: Judged) -> np.ndarray:
        """Of every row of the corpus, in transformed units, shape [n_rows]."""
        return np.asarray(
            np.exp(judged.terms() @ self.coefficients + (0.0 if self.local is None else self.local.outputs))
        )

    def unseen_sizes(self, judged: Judged) -> np.ndarray:
        """The same, for fitted rows by a regression that had not seen their fold.

        A regression follows the rows that it is fitted to: divided by the sizes that it has for them, their residuals
        would be smaller than those of other rows, and intervals made of them too narrow.
        """
        return np.asarray(np.exp(judged.terms() @ self.coefficients + self.unseen))

    def shifted(self, term: int, by: float) -> "Difficulty":
        """The same with the coefficient of one term increased."""
        coefficients = self.coefficients.copy()
        coefficients[term] += by
        return replace(self, coefficients=coefficients)


def fit_difficulty(
    judged: Judged,
    residuals: np.ndarray,
    rows: np.ndarray,
    *,
    groups: Groups,
    folds: np.ndarray,
    config: LocalConfig | None,
) -> Difficulty:
    """Fit the logarithm of the residuals' magnitude over some rows: linear terms, then a kernel ridge regression.

    Args:
        judged: by machines that had not seen the row.
        residuals: of the same, shape [n_rows].
        rows: mask of those to fit, shape [n_rows].
        groups: features of every row of the corpus.
        folds: of every row, shape [n_rows].
        config: of the kernel regression; None fits none.
    """
    terms, sizes = judged.terms(), np.log(np.abs(residuals) + _SMALLEST_RESIDUAL)
    coefficients, *_ = np.linalg.lstsq(terms[rows], sizes[rows], rcond=None)
    if config is None:
        return Difficulty(coefficients=coefficients, local=None, unseen=np.zeros(len(rows)))
    left = (sizes - terms @ coefficients)[rows]  # its mean is zero, as the shares among the terms add up to one
    metric = Metric.of(groups, config.view, rows, config.clip)
    places = metric.place(groups)
    kernel = np.exp(-config.width * cdist(places, places[rows], "sqeuclidean"))
    inverse = np.linalg.inv(kernel[rows] + config.penalty * np.eye(len(left)))
    weight = inverse @ left
    outputs = kernel @ weight
    unseen = outputs.copy()
    for fold in np.unique(folds[rows]):
        mine = folds[rows] == fold
        # The error of a ridge regression on rows that it has not seen, from the fit that has seen them.
        unseen[rows & (folds == fold)] = left[mine] - np.linalg.solve(inverse[np.ix_(mine, mine)], weight[mine])
    local = FittedMachine(
        settings=Settings(penalty=config.penalty, width=config.width),
        metric=metric,
        support=places[rows],
        weight=weight,
        intercept=0.0,
        outputs=outputs,
        kernel=kernel,
    )
    return Difficulty(coefficients=coefficients, local=local, unseen=unseen)
