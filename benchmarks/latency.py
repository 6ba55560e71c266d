"""What one uncached band costs in the process that answers, by stage, and what it costs in batches.

Run it with `python -m benchmarks.latency`. Bands are a seeded choice of the sound ones with 90 to 130 atoms. A batch
is prepared some bands at a time and predicted at once, as a service does.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.table import Table

from app.cores import usable_cores
from app.crystals.band import Band
from app.models.features.path import path_descriptors
from app.models.graphs.ion_bonds import ion_bonds
from app.models.predictors.kernel_predictor import KernelPredictor
from app.models.predictors.predictor import Predictor
from app.models.registry import Registry
from benchmarks.bare_loop import prepared
from benchmarks.throughput import STORE
from training.corpus import read_corpus

ATOMS = (90, 130)
BATCH = 32
#: A relaxation takes seconds: few bands, and no batches unless asked for.
SLOW = "relaxed"

Result = TypeVar("Result")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("IONPATH_DATA_DIR", "../shared/data")))
    parser.add_argument("--bands", type=int, default=96, help="distinct bands of each measurement")
    parser.add_argument("--slow-bands", type=int, default=3, help=f"the same for {SLOW}, alone and in one batch")
    parser.add_argument("--models", nargs="*", help="checkpoints to measure; all where none is named")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    bands = chosen_bands(arguments.data, arguments.bands, arguments.seed)
    registry = Registry.open(STORE, "auto", default="default")
    table = Table(title=f"milliseconds; {len(bands)} bands of {ATOMS[0]} to {ATOMS[1]} atoms, {usable_cores()} cores")
    for heading in ("checkpoint, device", "stage", "bands", "median", "p95", "a band in batches"):
        table.add_column(heading, justify="left" if heading in {"checkpoint, device", "stage"} else "right")
    for name in arguments.models or registry.names():
        chosen = bands[: arguments.slow_bands] if name == SLOW else bands
        add_rows(table, registry.predictor(name), chosen)
    Console(width=110).print(table)


def chosen_bands(data: Path, count: int, seed: int) -> list[Band]:
    """Distinct sound bands of a size, at most as many as there are."""
    low, high = ATOMS
    bands = [one.band for one in read_corpus(data).records if one.sound and low <= one.band.atom_count <= high]
    order = np.random.default_rng(seed).permutation(len(bands))
    return [bands[number] for number in order[:count]]


def add_rows(table: Table, predictor: Predictor, bands: Sequence[Band]) -> None:
    """One checkpoint: a line for all of it, then one for each stage; descriptors and ion graph are of preparation."""
    predictor.warm_up()
    _, first = alone(predictor, bands)  # of the elements of each, some are new to the tables
    prepare, predict = alone(predictor, bands)
    batch_prepare, batch_predict = batched(predictor, bands)
    size = min(BATCH, len(bands))
    stages: list[tuple[str, np.ndarray, float | None]] = [
        ("one band, all of it", prepare + predict, batch_prepare + batch_predict),
        ("  prepare", prepare, batch_prepare),
    ]
    if isinstance(predictor, KernelPredictor):
        stages += [
            ("    descriptors", timed(path_descriptors, bands), None),
            ("    bonds of the ion", timed(ion_bonds, bands), None),
        ]
    stages.append(("  forward, relaxation in it" if predictor.name == SLOW else "  forward", predict, batch_predict))
    if isinstance(predictor, KernelPredictor) and predictor.device == "cpu":
        stages.append(("  the same, where tables are still being made", first, None))
    for number, (stage, seconds, in_batches) in enumerate(stages):
        table.add_row(
            f"{predictor.name}, {predictor.device}" if number == 0 else "",
            stage,
            str(len(bands)),
            f"{1e3 * np.median(seconds):.1f}",
            f"{1e3 * np.percentile(seconds, 95):.1f}",
            "" if in_batches is None else f"{1e3 * in_batches:.1f} (of {size})",
        )
    table.add_section()


def alone(predictor: Predictor, bands: Sequence[Band]) -> tuple[np.ndarray, np.ndarray]:
    """Seconds that every band takes to prepare and to predict, one after the other."""
    seconds = []
    for band in bands:
        graph, prepare = clocked(partial(predictor.graph, band))
        _, predict = clocked(partial(predictor.predict, [graph]))
        seconds.append((prepare, predict))
    prepares, predicts = np.array(seconds).T
    return prepares, predicts


def batched(predictor: Predictor, bands: Sequence[Band]) -> tuple[float, float]:
    """Seconds a band to prepare and to predict, in batches."""
    prepare = predict = 0.0
    for start in range(0, len(bands), BATCH):
        batch = bands[start : start + BATCH]
        graphs, seconds = clocked(partial(prepared, predictor, batch))
        prepare += seconds
        predict += clocked(partial(predictor.predict, graphs))[1]
    return prepare / len(bands), predict / len(bands)


def timed(function: Callable[[Band], object], bands: Sequence[Band]) -> np.ndarray:
    """Seconds that a function takes for every band."""
    return np.array([clocked(partial(function, band))[1] for band in bands])


def clocked(function: Callable[[], Result]) -> tuple[Result, float]:
    """A result, and the seconds that it took."""
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started


if __name__ == "__main__":
    main()
