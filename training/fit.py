"""The fitting loop: a network and a task in, fitted weights out, resumable at every epoch."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from training.config import FitConfig
from training.state import Best, Progress, load_best, load_state, save_best, save_state


class Task(Protocol):
    """A task to fit: the batches of an epoch, and the loss of a network on a batch."""

    @property
    def steps(self) -> int:
        """Batches in an epoch."""

    def batches(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch, in an order that depends only on the epoch's number and the seed."""

    def loss(self, network: nn.Module, batch: Any, device: torch.device) -> torch.Tensor:
        """The loss of one batch, a scalar."""

    def validation_loss(self, network: nn.Module, device: torch.device) -> float | None:
        """The loss on rows that are not fitted, with the network in evaluation mode; None without such rows."""


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """Progress after an epoch, or within one; losses are mean absolute errors of transformed targets.

    Attributes:
        epoch: number of finished epochs.
        part: finished share of the running epoch; 0 between epochs.
    """

    epoch: int
    epochs: int
    loss: float
    seconds_left: float
    validation_loss: float | None = None
    part: float = 0.0


Report = Callable[[EpochReport], None]
_REPORT_SECONDS = 60.0


def fit(
    network: nn.Module, task: Task, *, config: FitConfig, folder: Path, device: torch.device, report: Report
) -> float:
    """Fit a network in place, resuming from the state in the folder; returns the seconds of all epochs.

    A resumed run ends with the same weights as an uninterrupted one, to the last bit on a CPU: the order of the rows
    and the random numbers of dropout depend on the seed and the epoch alone. Where the task validates, the weights
    of the best epoch are kept, and `patience` epochs without a better one end the run.

    Args:
        network: of the task's kind.
        task: its rows and its loss.
        config: epochs, rates, seed.
        folder: where the state and the TensorBoard log are written.
        device: where to fit; on a GPU in bfloat16 where that is safe, and TF32.
        report: called after each epoch, and about once a minute within one.
    """
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an optional dependency, absent from the image

    network.to(device).train()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    optimiser = torch.optim.AdamW(_groups(network, config), weight_decay=config.weight_decay)
    schedule = OneCycleLR(
        optimiser,
        [group["lr"] for group in optimiser.param_groups],
        total_steps=max(2, config.epochs * task.steps),
    )
    progress = load_state(folder, network, optimiser, schedule)
    best = load_best(folder)
    fitting = _Fitting(
        network=network, task=task, config=config, optimiser=optimiser, schedule=schedule, device=device, report=report
    )
    with SummaryWriter(str(folder / "tensorboard")) as board:
        while progress.epoch < config.epochs and not _is_out_of_patience(best, progress, config):
            started = time.monotonic()
            loss = fitting.epoch(progress)
            validation = fitting.validate()
            seconds = time.monotonic() - started
            board.add_scalar("loss/train", loss, progress.epoch)
            board.add_scalar("learning_rate", schedule.get_last_lr()[-1], progress.epoch)
            progress = Progress(epoch=progress.epoch + 1, seconds=progress.seconds + seconds)
            if validation is not None:
                board.add_scalar("loss/validation", validation, progress.epoch - 1)
                if best is None or validation < best.loss:
                    best = Best(epoch=progress.epoch, loss=validation)
                    save_best(folder, best, network)
            save_state(folder, progress, network, optimiser, schedule)
            report(
                EpochReport(
                    epoch=progress.epoch,
                    epochs=config.epochs,
                    loss=loss,
                    validation_loss=validation,
                    seconds_left=seconds * (config.epochs - progress.epoch),
                )
            )
    load_best(folder, network)
    network.eval()
    return progress.seconds


def _groups(network: nn.Module, config: FitConfig) -> list[dict[str, Any]]:
    """Parameter groups of the trunk and of all other weights, each with its own rate; frozen weights are left out."""
    trunk: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        frozen = any(name.startswith(prefix) for prefix in config.frozen)
        parameter.requires_grad_(not frozen)
        if not frozen:
            (trunk if name.startswith("trunk.") else others).append(parameter)
    groups = [
        {"params": trunk, "lr": config.peak_learning_rate * config.trunk_rate_factor},
        {"params": others, "lr": config.peak_learning_rate},
    ]
    return [group for group in groups if group["params"]]


def _is_out_of_patience(best: Best | None, progress: Progress, config: FitConfig) -> bool:
    return bool(config.patience and best is not None and progress.epoch - best.epoch >= config.patience)


@dataclass(frozen=True, kw_only=True)
class _Fitting:
    """The state of a fit within an epoch."""

    network: nn.Module
    task: Task
    config: FitConfig
    optimiser: torch.optim.Optimizer
    schedule: OneCycleLR
    device: torch.device
    report: Report

    def epoch(self, progress: Progress) -> float:
        """Process all batches once and return the mean loss."""
        torch.manual_seed(self.config.seed * 100_003 + progress.epoch)
        self.network.train()
        for name, part in self.network.named_modules():
            if any(f"{name}.".startswith(prefix) for prefix in self.config.frozen):
                part.eval()  # otherwise batch normalisation would keep updating means and variances
        total, started, reported = 0.0, time.monotonic(), time.monotonic()
        for step, batch in enumerate(self.task.batches(progress.epoch), start=1):
            total += self._step(batch)
            if time.monotonic() - reported > _REPORT_SECONDS:
                reported = time.monotonic()
                part = step / self.task.steps
                left = (reported - started) / part * (self.config.epochs - progress.epoch - part)
                self.report(
                    EpochReport(
                        epoch=progress.epoch,
                        epochs=self.config.epochs,
                        loss=total / step,
                        seconds_left=left,
                        part=part,
                    )
                )
        return total / self.task.steps

    def validate(self) -> float | None:
        """The loss of rows that are not fitted."""
        self.network.eval()
        with torch.no_grad():
            return self.task.validation_loss(self.network, self.device)

    def _step(self, batch: Any) -> float:
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = self.task.loss(self.network, batch, self.device)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_norm)
        self.optimiser.step()
        self.schedule.step()
        return float(loss.detach())
