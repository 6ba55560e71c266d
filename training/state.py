"""A run's state on disk: weights, optimiser and schedule, in safetensors and JSON, never a pickle."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_TENSORS, _SCALARS = "state.safetensors", "state.json"
_BEST = "best.safetensors"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a fit: finished epochs, and their seconds, summed over interruptions."""

    epoch: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best epoch so far: its number, counted from 1, and its validation loss."""

    epoch: int
    loss: float


def save_best(folder: Path, best: Best, network: nn.Module) -> None:
    """Save a network's weights as the best so far."""
    folder.mkdir(parents=True, exist_ok=True)
    # One file with both, so that a run killed here keeps either the previous best or this one.
    pending = folder / f"{_BEST}.pending"
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, pending, metadata={"epoch": str(best.epoch), "loss": repr(best.loss)})
    pending.replace(folder / _BEST)


def load_best(folder: Path, network: nn.Module | None = None) -> Best | None:
    """Read the best epoch and, if a network is given, load its weights; None where no epoch was validated."""
    path = folder / _BEST
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    if network is not None:
        network.load_state_dict(load_file(path))
    return Best(epoch=int(metadata["epoch"]), loss=float(metadata["loss"]))


def save_state(
    folder: Path, progress: Progress, network: nn.Module, optimiser: Optimizer, schedule: LRScheduler
) -> None:
    """Write everything that the next epoch depends on; a run killed while writing keeps its previous state."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    state = optimiser.state_dict()
    tensors |= {
        f"optimiser.{number}.{key}": torch.as_tensor(value).contiguous()
        for number, entries in state["state"].items()
        for key, value in entries.items()
    }
    generation = f"{progress.epoch:05d}"
    save_file(tensors, folder / f"{generation}.{_TENSORS}")
    scalars = {
        "epoch": progress.epoch,
        "seconds": progress.seconds,
        "param_groups": state["param_groups"],
        "schedule": _plain(schedule.state_dict()),
    }
    pending = folder / f"{_SCALARS}.pending"
    pending.write_text(json.dumps(scalars), encoding="utf-8")
    pending.replace(folder / _SCALARS)
    for old in folder.glob(f"*.{_TENSORS}"):
        if not old.name.startswith(generation):
            old.unlink()


def load_state(folder: Path, network: nn.Module, optimiser: Optimizer, schedule: LRScheduler) -> Progress:
    """Restore what save_state wrote and return the progress; without a saved state, change nothing and return zero."""
    path = folder / _SCALARS
    if not path.is_file():
        return Progress(epoch=0, seconds=0.0)
    scalars = json.loads(path.read_text(encoding="utf-8"))
    progress = Progress(epoch=int(scalars["epoch"]), seconds=float(scalars["seconds"]))
    tensors = load_file(folder / f"{progress.epoch:05d}.{_TENSORS}")
    network.load_state_dict(
        {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    )
    entries: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, number, key = name.split(".")
            entries.setdefault(int(number), {})[key] = value
    optimiser.load_state_dict({"state": entries, "param_groups": scalars["param_groups"]})
    schedule.load_state_dict(scalars["schedule"])
    return progress


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Drop the functions in the state of a schedule, which are created with it."""
    return {key: value for key, value in state.items() if not callable(value)}
