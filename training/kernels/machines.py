"""The fit of one kernel machine, its settings chosen by cross-validation inside the fitted rows."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.svm import SVR

from app.models.networks.kernel_machines import KernelMachine
from training.kernels.config import KernelConfig
from training.kernels.features import Groups

_LEAST_SPREAD = 1e-8  # a feature that varies less is constant and carries no information


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a machine: the penalty of an error, and the width of its kernel."""

    penalty: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Scaled features of rows, before a width is chosen.

    Attributes:
        columns: by group, the indices of its features that vary, shape [n_kept].
        centre, spread, share: as in KernelMachine, without the width, shape [n_features].
    """

    groups: tuple[str, ...]
    centre: np.ndarray
    spread: np.ndarray
    share: np.ndarray
    clip: float

    @classmethod
    def of(cls, groups: Groups, shares: dict[str, float], rows: np.ndarray, clip: float) -> "Metric":
        """Make a metric from the medians and spreads of some rows; a group's varying features divide its share."""
        joined = np.concatenate([groups[name] for name in shares], axis=1)[rows]
        spread = joined.std(axis=0)
        varies = spread > _LEAST_SPREAD
        weights, start = [], 0
        for name, share in shares.items():
            columns = varies[start : start + groups[name].shape[1]]
            weights.append(np.where(columns, np.sqrt(share / max(1, columns.sum())), 0.0))
            start += len(columns)
        return cls(
            groups=tuple(shares),
            centre=np.median(joined, axis=0),
            spread=np.where(varies, spread, 1.0),
            share=np.concatenate(weights),
            clip=clip,
        )

    def place(self, groups: Groups) -> np.ndarray:
        """Scaled features of all rows, shape [n_rows, n_features]."""
        joined = np.concatenate([groups[name] for name in self.groups], axis=1)
        return np.asarray(np.clip((joined - self.centre) / self.spread, -self.clip, self.clip) * self.share)


@dataclass(frozen=True, kw_only=True)
class FittedMachine:
    """A machine fitted on some rows, and its outputs on all.

    Attributes:
        outputs: of every row of the corpus, shape [n_rows].
        kernel: between every row and the fitted ones, shape [n_rows, n_fitted].
    """

    settings: Settings
    metric: Metric
    support: np.ndarray
    weight: np.ndarray
    intercept: float
    outputs: np.ndarray
    kernel: np.ndarray

    def network(self, rows: int) -> KernelMachine:
        """The machine as a torch module, its width included in the scale."""
        machine = KernelMachine(
            groups=self.metric.groups, features=len(self.metric.centre), rows=rows, clip=self.metric.clip
        )
        scale = np.sqrt(self.settings.width)
        for name, values in (
            ("centre", self.metric.centre),
            ("spread", self.metric.spread),
            ("share", self.metric.share * scale),
            ("support", self.support * scale),
            ("weight", self.weight),
            ("intercept", np.asarray(self.intercept)),
        ):
            getattr(machine, name).copy_(torch.from_numpy(np.asarray(values)))
        return machine


def fit_machine(
    groups: Groups,
    shares: dict[str, float],
    *,
    targets: np.ndarray,
    rows: np.ndarray,
    parts: np.ndarray,
    config: KernelConfig,
) -> FittedMachine:
    """Choose settings by the mean absolute error over the parts, then fit on all the rows.

    Args:
        groups: features of every row of the corpus.
        shares: of each feature group that the machine reads.
        targets: transformed labels, shape [n_rows].
        rows: mask of the rows to fit, shape [n_rows].
        parts: for every row, the part in which it is held out, shape [n_rows].
        config: the grid of settings.
    """
    metric = Metric.of(groups, shares, rows, config.clip)
    places = metric.place(groups)
    fitted = np.flatnonzero(rows)
    squared = cdist(places, places[fitted], "sqeuclidean")
    settings = _chosen(squared[fitted], targets[fitted], parts[fitted], config)
    kernel = np.exp(-settings.width * squared)
    regression = _regression(kernel[fitted], targets[fitted], settings, config)
    weight = np.zeros(len(fitted))
    weight[regression.support_] = regression.dual_coef_[0]
    intercept = float(regression.intercept_[0])
    return FittedMachine(
        settings=settings,
        metric=metric,
        support=places[fitted],
        weight=weight,
        intercept=intercept,
        outputs=kernel @ weight + intercept,
        kernel=kernel,
    )


def _chosen(squared: np.ndarray, targets: np.ndarray, parts: np.ndarray, config: KernelConfig) -> Settings:
    tried = [Settings(penalty=p, width=w) for p, w in product(config.penalties, config.widths)]
    if len(tried) == 1:
        return tried[0]
    errors = []
    for settings in tried:
        kernel = np.exp(-settings.width * squared)
        error = 0.0
        for part in np.unique(parts):
            judged = parts == part
            regression = _regression(kernel[np.ix_(~judged, ~judged)], targets[~judged], settings, config)
            error += float(np.abs(regression.predict(kernel[np.ix_(judged, ~judged)]) - targets[judged]).sum())
        errors.append(error)
    return tried[int(np.argmin(errors))]


def _regression(kernel: np.ndarray, targets: np.ndarray, settings: Settings, config: KernelConfig) -> SVR:
    return SVR(kernel="precomputed", C=settings.penalty, epsilon=config.tolerance).fit(kernel, targets)
