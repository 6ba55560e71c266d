"""What every card says of the corpus and the machine."""

import platform
from pathlib import Path
from typing import Any

from training.corpus import Corpus


def corpus_entry(corpus: Corpus) -> dict[str, Any]:
    """The corpus by its name and digest, and how much of it is fitted."""
    return {
        "name": "literature-derived DFT-NEB migration barriers, training part",
        "sha256": corpus.sha256,
        "rows": len(corpus.records),
        "fitted_rows": int(corpus.sound.sum()),
    }


def processor() -> str:
    """The processor's name where the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
