"""The fitting loop: a network, graphs and labels in, fitted weights out, resumable at every epoch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from app.models.graphs import BandGraph, collate
from training.config import FitConfig
from training.state import Progress, load_state, save_state

_CLEARED_BANDS = 64  # bands in one pass without gradients


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What is told after each epoch; loss is the mean absolute error of the transformed barrier."""

    epoch: int
    epochs: int
    loss: float
    seconds_left: float


def fit(
    network: nn.Module,
    graphs: Sequence[BandGraph],
    targets: np.ndarray,
    *,
    config: FitConfig,
    folder: Path,
    device: torch.device,
    report: Callable[[EpochReport], None],
) -> float:
    """Fits a network in place, from where the folder's state stopped; returns the seconds of all its epochs.

    A resumed run ends with the same weights as an unbroken one, to the last bit on a CPU: the order of the bands
    and the random numbers of dropout depend on the seed and the epoch alone.

    Args:
        network: returns (transformed barrier [n_graphs], anything) for a batch.
        graphs: of the bands to fit.
        targets: transformed barriers, shape [n].
        config: epochs, rates, seed.
        folder: where the state and the TensorBoard log are written.
        device: where to fit.
        report: is called after each epoch.
    """
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra that the image does without

    network.to(device).train()
    batches = _batch_count(len(graphs), config.batch_bands)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.peak_learning_rate, weight_decay=config.weight_decay)
    schedule = OneCycleLR(optimiser, config.peak_learning_rate, total_steps=max(2, config.epochs * batches))
    progress = load_state(folder, network, optimiser, schedule)
    fitting = _Fitting(
        network=network,
        graphs=graphs,
        labels=torch.from_numpy(targets.astype(np.float32)),
        config=config,
        optimiser=optimiser,
        schedule=schedule,
        device=device,
    )
    with SummaryWriter(str(folder / "tensorboard")) as board:
        while progress.epoch < config.epochs:
            started = time.monotonic()
            loss = fitting.epoch(progress.epoch)
            seconds = time.monotonic() - started
            board.add_scalar("loss/train", loss, progress.epoch)
            board.add_scalar("learning_rate", schedule.get_last_lr()[0], progress.epoch)
            progress = Progress(epoch=progress.epoch + 1, seconds=progress.seconds + seconds)
            save_state(folder, progress, network, optimiser, schedule)
            report(
                EpochReport(
                    epoch=progress.epoch,
                    epochs=config.epochs,
                    loss=loss,
                    seconds_left=seconds * (config.epochs - progress.epoch),
                )
            )
    network.eval()
    return progress.seconds


@dataclass(frozen=True, kw_only=True)
class _Fitting:
    """What an epoch works on."""

    network: nn.Module
    graphs: Sequence[BandGraph]
    labels: torch.Tensor
    config: FitConfig
    optimiser: torch.optim.Optimizer
    schedule: OneCycleLR
    device: torch.device

    def epoch(self, number: int) -> float:
        """Goes through all bands once and returns the mean loss."""
        torch.manual_seed(self.config.seed * 100_003 + number)
        order = np.random.default_rng([self.config.seed, number]).permutation(len(self.graphs))
        batches = np.array_split(order, _batch_count(len(self.graphs), self.config.batch_bands))
        return sum(self._step(rows) for rows in batches) / len(batches)

    def _step(self, rows: np.ndarray) -> float:
        batch = collate([self.graphs[row] for row in rows]).to(self.device)
        outputs, _ = self.network(batch)
        loss = (outputs - self.labels[rows].to(self.device)).abs().mean()
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_norm)
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())


def _batch_count(bands: int, batch_bands: int) -> int:
    return max(1, round(bands / batch_bands))


@torch.no_grad()
def outputs_of(
    network: nn.Module, graphs: Sequence[BandGraph], device: torch.device
) -> tuple[np.ndarray, torch.Tensor]:
    """The network's outputs, shape [n], and pooled vectors, shape [n, features], for bands in their order."""
    network.to(device).eval()
    results = [
        network(collate(graphs[start : start + _CLEARED_BANDS]).to(device))
        for start in range(0, len(graphs), _CLEARED_BANDS)
    ]
    outputs = torch.cat([output for output, _ in results]).double().cpu().numpy()
    return outputs, torch.cat([vectors for _, vectors in results]).cpu()
