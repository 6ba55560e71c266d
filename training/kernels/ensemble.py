"""All machines of a run, fitted on some rows, with the scale of their errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from app.models.networks.kernel_machines import KernelMachines
from training.kernels.config import KernelConfig
from training.kernels.difficulty import Difficulty
from training.kernels.features import Groups
from training.kernels.judged import Judged
from training.kernels.machines import FittedMachine, fit_machine
from training.kernels.networks import FittedNetworks, fit_networks

_NOISE = 0.1  # of the labels, in units of the process's own variance


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Machines and perceptrons fitted on the same rows, and the inverse of the last machine's kernel among these."""

    machines: tuple[FittedMachine, ...]
    networks: tuple[FittedNetworks, ...]
    inverse: np.ndarray

    def judged(self) -> Judged:
        """Predictions for every row of the corpus, fitted rows included."""
        outputs = np.stack([one.outputs for one in self.machines] + [one.outputs for one in self.networks])
        last = self.machines[-1]
        explained = ((last.kernel @ self.inverse) * last.kernel).sum(axis=1)
        return Judged(
            outputs=outputs.mean(axis=0),
            variance=np.maximum(1.0 - explained, 0.0),
            spread=outputs.max(axis=0) - outputs.min(axis=0),
            distance=np.sqrt(np.maximum(-np.log(last.kernel.max(axis=1)), 0.0)),
            leans_on=np.ones((outputs.shape[1], 1)),
        )

    def network(self, difficulty: Difficulty) -> KernelMachines:
        """The machines as a torch module."""
        rows = len(self.inverse)
        fitted_machines = [machine.network(rows) for machine in self.machines]
        joined = KernelMachines(**self.arguments())
        for empty, full in zip(joined.machines, fitted_machines, strict=True):
            empty.load_state_dict(full.state_dict())
        for empty, fitted in zip(joined.networks, self.networks, strict=True):
            empty.load_state_dict(fitted.network.state_dict())
        joined.inverse.copy_(torch.from_numpy(self.inverse))
        joined.difficulty.copy_(torch.from_numpy(difficulty.coefficients))
        return joined

    def settings(self) -> list[dict[str, float]]:
        """The chosen settings of each machine."""
        return [{"penalty": one.settings.penalty, "width": one.settings.width} for one in self.machines]

    def arguments(self) -> dict[str, list[dict[str, Any]]]:
        """Keyword arguments of KernelMachines, for the card."""
        machines = [
            {
                "groups": list(machine.metric.groups),
                "features": len(machine.metric.centre),
                "rows": len(self.inverse),
                "clip": machine.metric.clip,
            }
            for machine in self.machines
        ]
        return {"machines": machines, "networks": [fitted.arguments for fitted in self.networks]}


def fit_ensemble(
    groups: Groups, targets: np.ndarray, rows: np.ndarray, folds: np.ndarray, config: KernelConfig
) -> Ensemble:
    """Fit all of a run on some rows; the machines' settings are chosen on parts of these, whole folds together."""
    parts = folds % config.inner_folds
    machines = tuple(
        fit_machine(groups, shares, targets=targets, rows=rows, parts=parts, config=config)
        for shares in config.machines
    )
    networks = tuple(fit_networks(groups, one, clip=config.clip, targets=targets, rows=rows) for one in config.networks)
    among = machines[-1].kernel[rows]
    return Ensemble(machines=machines, networks=networks, inverse=np.linalg.inv(among + _NOISE * np.eye(len(among))))
