"""The fit of kernel machines on several corpora of barriers: regressions of each, of all, and of which is which."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist
from sklearn.svm import SVR

from app.models.networks.world_machines import ION, WorldMachines
from training.kernels.config import WorldConfig, WorldsConfig
from training.kernels.difficulty import Difficulty
from training.kernels.features import Groups
from training.kernels.judged import Judged
from training.kernels.machines import Metric

_NOISE = 0.1  # of the labels and of the worlds, in units of the process's own variance


@dataclass(frozen=True, kw_only=True)
class FittedWorlds:
    """Regressions fitted on some rows, as the module that is served.

    Attributes:
        served: its difficulty is not fitted yet.
        groups: features of every row of the corpus.
        keywords: of WorldMachines.
    """

    config: WorldsConfig
    served: WorldMachines
    keywords: dict[str, Any]
    groups: Groups

    def judged(self) -> Judged:
        """Predictions for every row of the corpus, fitted rows included."""
        with torch.inference_mode():
            said = self.served.said({name: torch.from_numpy(values) for name, values in self.groups.items()})
        return Judged(
            outputs=said.output.numpy(),
            variance=said.variance.numpy(),
            spread=said.spread.numpy(),
            distance=said.distance.numpy(),
            leans_on=said.shares.numpy(),
        )

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of WorldMachines, for the card."""
        return self.keywords

    def settings(self) -> list[dict[str, float]]:
        """The penalty and width of each world's regressions, and of those of all rows."""
        penalties = [*(world.penalty for world in self.config.worlds), self.config.joint_penalty]
        return [{"penalty": penalty, "width": self.config.width} for penalty in penalties]

    def network(self, difficulty: Difficulty) -> WorldMachines:
        """The machines as a torch module."""
        self.served.difficulty.copy_(torch.from_numpy(difficulty.coefficients))
        assert (self.served.local is None) == (difficulty.local is None)
        if self.served.local is not None and difficulty.local is not None:
            self.served.local.load_state_dict(difficulty.local.network(len(difficulty.local.support)).state_dict())
        return self.served


def worlds_of(sources: np.ndarray, config: WorldsConfig) -> np.ndarray:
    """The number of each row's world among those of the corpus, shape [n_rows].

    A source that no world names counts as the first world: a lab's own barriers as the literature's. Worlds without
    rows have no number.
    """
    named = {source: number for number, world in enumerate(config.worlds) for source in world.sources}
    return np.array([named.get(source, 0) for source in sources])


def fit_worlds(
    groups: Groups, targets: np.ndarray, rows: np.ndarray, worlds: np.ndarray, config: WorldsConfig
) -> FittedWorlds:
    """Fit every regression on some rows; all settings are the configuration's.

    Args:
        groups: features of every row of the corpus.
        targets: transformed labels, shape [n_rows].
        rows: mask of the rows to fit, shape [n_rows].
        worlds: see worlds_of.
        config: views, widths and penalties.
    """
    fitted = np.flatnonzero(rows)
    fitted = fitted[np.argsort(worlds[fitted], kind="stable")]
    present, of_row, counts = np.unique(worlds[fitted], return_inverse=True, return_counts=True)
    none = np.zeros(len(fitted), dtype=bool)
    regressions = [(of_row == number, config.worlds[world].penalty) for number, world in enumerate(present)]
    regressions.append((~none, config.joint_penalty))
    metrics = [Metric.of(groups, shares, fitted[of_row == 0], config.clip) for shares in config.views]
    ions = groups[ION][fitted, 0].astype(int)
    arguments: dict[str, Any] = {
        "worlds": [
            {
                "name": config.worlds[world].name,
                "rows": int(count),
                "ions": sorted(set(ions[of_row == number].tolist())),
            }
            for number, (world, count) in enumerate(zip(present, counts, strict=True))
        ],
        "views": [
            {"groups": list(m.groups), "features": len(m.centre), "rows": len(fitted), "clip": m.clip} for m in metrics
        ],
    }
    if config.local is not None:
        features = sum(groups[name].shape[1] for name in config.local.view)
        arguments["local"] = {
            "groups": list(config.local.view),
            "features": features,
            "rows": len(fitted),
            "clip": config.local.clip,
        }
    network = WorldMachines(**arguments)
    mix = _mix([config.worlds[number] for number in present], config)
    network.mix.copy_(torch.from_numpy(mix))
    kernels = []
    for view, metric, counts_for in zip(network.views, metrics, mix, strict=True):
        support = metric.place(groups)[fitted]
        kernels.append(np.exp(-config.width * cdist(support, support, "sqeuclidean")))
        fits = [
            _regression(kernels[-1], targets[fitted], chosen if share else none, penalty, config.tolerance)
            for share, (chosen, penalty) in zip(counts_for, regressions, strict=True)
        ]
        scale = np.sqrt(config.width)
        tensors = {
            "centre": metric.centre,
            "spread": metric.spread,
            "share": metric.share * scale,
            "support": support * scale,
            "weight": np.stack([weight for weight, _ in fits], axis=1),
            "intercept": np.array([intercept for _, intercept in fits]),
        }
        for name, values in tensors.items():
            view.get_buffer(name).copy_(torch.from_numpy(values))
    _fit_shares(network, np.mean(kernels, axis=0), ions, of_row)
    return FittedWorlds(config=config, served=network, keywords=arguments, groups=groups)


def _mix(worlds: list[WorldConfig], config: WorldsConfig) -> np.ndarray:
    """How much each regression counts, shape [n_views, n_worlds + 1]; of one world alone none is joint."""
    joint = config.joint_share if len(worlds) > 1 else 0.0
    of_worlds = [(1.0 - joint) * np.array(world.views) / sum(world.views) for world in worlds]
    return np.stack([*of_worlds, np.full(len(config.views), joint / len(config.views))], axis=1)


def _regression(
    kernel: np.ndarray, targets: np.ndarray, chosen: np.ndarray, penalty: float, tolerance: float
) -> tuple[np.ndarray, float]:
    """Weights of all rows, zero but for the chosen ones, and the intercept; both zero where none is chosen."""
    among = np.flatnonzero(chosen)
    if not len(among):
        return np.zeros(len(targets)), 0.0
    fit = SVR(kernel="precomputed", C=penalty, epsilon=tolerance).fit(kernel[np.ix_(among, among)], targets[among])
    weight = np.zeros(len(targets))
    weight[among[fit.support_]] = fit.dual_coef_[0]
    return weight, float(fit.intercept_[0])


def _fit_shares(network: WorldMachines, kernel: np.ndarray, ions: np.ndarray, of_row: np.ndarray) -> None:
    """Fit the regression of the rows' worlds and the variances of each world.

    The worlds are learnt from the rows whose ion more than one world has: the others are known apart by it.
    """
    count = len(network.rows)
    belongs = np.eye(count)[of_row]
    shared = np.array([len(set(of_row[ions == ion])) > 1 for ion in ions])
    chosen = np.flatnonzero(shared if shared.any() else np.ones(len(ions), dtype=bool))
    prior = belongs[chosen].mean(axis=0)
    among = kernel[np.ix_(chosen, chosen)] + _NOISE * np.eye(len(chosen))
    lean = np.zeros((len(ions), count))
    lean[chosen] = np.linalg.solve(among, belongs[chosen] - prior)
    network.prior.copy_(torch.from_numpy(prior))
    network.lean.copy_(torch.from_numpy(lean))
    for number in range(count):
        mine = np.flatnonzero(of_row == number)
        inverse = np.linalg.inv(kernel[np.ix_(mine, mine)] + _NOISE * np.eye(len(mine)))
        network.get_buffer(f"inverse_{number}").copy_(torch.from_numpy(inverse))
