"""Entries of every card on the corpus and the machine."""

import platform
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.corpus import CORPUS_CITATIONS, LITERATURE, LITRAJ, LITRAJ_CITATIONS, Corpus

_NAMES = {
    LITERATURE: "literature-derived DFT-NEB migration barriers, training part",
    LITRAJ: "LiTraj nebDFT2k, training part (MIT; crystals of the Materials Project, CC BY 4.0)",
}


def corpus_entry(corpus: Corpus) -> dict[str, Any]:
    """The name and digest of the corpus, and the number of fitted rows; of several, each file's as well."""
    entry: dict[str, Any] = {
        "name": "; ".join(_NAMES.get(source, source) for source in corpus.files),
        "sha256": corpus.sha256,
        "rows": len(corpus.records),
        "fitted_rows": int(corpus.sound.sum()),
    }
    if len(corpus.files) > 1:
        entry["files"] = {
            source: {
                "name": _NAMES.get(source, source),
                "sha256": digest,
                "rows": int((corpus.sources == source).sum()),
                "fitted_rows": int((corpus.sound & (corpus.sources == source)).sum()),
            }
            for source, digest in corpus.files.items()
        }
    return entry


def corpus_citations(corpus: Corpus) -> tuple[str, ...]:
    """Citations of the corpora that rows come from."""
    known = {LITERATURE: CORPUS_CITATIONS, LITRAJ: LITRAJ_CITATIONS}
    return tuple(one for source in corpus.files for one in known.get(source, ()))


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
