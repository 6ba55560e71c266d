"""The fit of the perceptrons that are averaged with kernel machines."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from app.models.networks.descriptor_networks import DescriptorNetworks
from training.kernels.config import NetworkConfig
from training.kernels.features import Groups
from training.kernels.machines import Metric

_WARM_UP_SHARE = 0.1  # of all steps
_FEWEST_STEPS = 20  # the one-cycle schedule needs as many


@dataclass(frozen=True, kw_only=True)
class FittedNetworks:
    """Perceptrons fitted on some rows, and their outputs on all.

    Attributes:
        arguments: of DescriptorNetworks, for the card.
        network: the module that is served.
        outputs: of every row of the corpus, shape [n_rows].
    """

    arguments: dict[str, Any]
    network: DescriptorNetworks
    outputs: np.ndarray


def fit_networks(
    groups: Groups, config: NetworkConfig, *, clip: float, targets: np.ndarray, rows: np.ndarray
) -> FittedNetworks:
    """Fit all members at once, in one thread; no setting is chosen by their predictions.

    The number of threads that share a sum changes its last digits, which grow over a hundred epochs.

    Args:
        groups: features of every row of the corpus.
        config: the perceptrons.
        clip: see DescriptorNetworks.
        targets: transformed labels, shape [n_rows].
        rows: mask of the rows to fit, shape [n_rows].

    Raises:
        ValueError: the epochs and rows make too few steps.
    """
    metric = Metric.of(groups, dict.fromkeys(config.groups, 1.0), rows, clip)
    arguments: dict[str, Any] = {
        "groups": list(config.groups),
        "features": len(metric.centre),
        "hidden": config.hidden,
        "members": config.members,
        "clip": clip,
        "input_dropout": config.input_dropout,
        "dropout": config.dropout,
    }
    network = DescriptorNetworks(**arguments)
    network.centre.copy_(torch.from_numpy(metric.centre))
    network.scale.copy_(torch.from_numpy(np.where(metric.share > 0.0, 1.0 / metric.spread, 0.0)))
    tensors = {name: torch.from_numpy(groups[name]) for name in config.groups}
    fitted = torch.from_numpy(np.flatnonzero(rows))
    with _one_thread(), torch.random.fork_rng(devices=[]):  # dropout draws from the global generator
        torch.default_generator.manual_seed(config.seed)
        network.reset(torch.default_generator)
        _descend(network, config, network.place(tensors)[fitted], torch.from_numpy(targets).float()[fitted])
    network.eval().requires_grad_(requires_grad=False)
    return FittedNetworks(arguments=arguments, network=network, outputs=network(tensors).numpy())


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _descend(network: DescriptorNetworks, config: NetworkConfig, places: torch.Tensor, targets: torch.Tensor) -> None:
    """Run AdamW in one cycle: the rate rises briefly, then falls to zero, and the first beta does the reverse."""
    steps = config.epochs * math.ceil(len(places) / config.batch_rows)
    if steps < _FEWEST_STEPS:
        raise ValueError(
            f"{steps} steps are too few for perceptrons: at least {_FEWEST_STEPS} are needed; use more epochs or rows"
        )
    optimizer = torch.optim.AdamW(
        [
            {"params": list(network.weights), "weight_decay": config.weight_decay},
            {"params": list(network.biases), "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=steps, pct_start=_WARM_UP_SHARE
    )
    network.train()
    for _ in range(config.epochs):
        order = torch.randperm(len(places))
        for start in range(0, len(order), config.batch_rows):
            batch = order[start : start + config.batch_rows]
            said = network.member_outputs(places[batch])
            error = functional.smooth_l1_loss(
                said, targets[batch].expand_as(said), beta=config.quadratic_below, reduction="none"
            )
            optimizer.zero_grad(set_to_none=True)
            # Summed over the members, so that the gradient of each is its own, however many there are.
            error.mean(dim=1).sum().backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
            optimizer.step()
            schedule.step()
