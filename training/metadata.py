"""Entries of every card on the corpus and the machine."""

import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.corpus import Corpus


def corpus_entry(corpus: Corpus) -> dict[str, Any]:
    """The name and digest of the corpus, and the number of fitted rows."""
    return {
        "name": "literature-derived DFT-NEB migration barriers, training part",
        "sha256": corpus.sha256,
        "rows": len(corpus.records),
        "fitted_rows": int(corpus.sound.sum()),
    }


def processor() -> str:
    """The processor's name, where the system reports it."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def fitted_on(config: dict[str, Any], device: torch.device, seconds: float, network: nn.Module) -> dict[str, Any]:
    """Configuration, machine, wall time and network size of a fit."""
    return {
        "config": config,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seconds": round(seconds),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
