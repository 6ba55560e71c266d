"""A batcher with real threads and a small model that does as it is told."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import waiting
from app.serving.batcher import Batcher, Predict, Prepare

from app.crystals.band import Band
from app.errors import InputError
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.models.predictor import OutOfMemoryError
from app.serving.metrics import Metrics

DEADLINE_S = 10.0
#: A gate that a test forgets opens only after the test has failed.
GATE_S = 30.0

until = waiting.until


def band(number: int, atoms: int = 5) -> Band:
    """A band whose hop is `number` angstrom long, by which it is told from others."""
    return Band(
        lattice_angstrom=np.eye(3),
        host_species=("O",) * atoms,
        host_frac_coords=np.zeros((atoms, 3)),
        ion="Li",
        image_frac_coords=np.array([[0.0, 0.0, 0.0], [float(number), 0.0, 0.0]]),
    )


def number_of(one: Band) -> int:
    return round(one.hop_distance_angstrom)


class SmallModel:
    """Predicts a band's number; each fault is switched on by a band's number."""

    def __init__(self, name: str = "small", *, cost_per_atom: int = 1) -> None:
        self.name = name
        self.cost_per_atom = cost_per_atom
        self.may_run = threading.Event()
        self.may_run.set()
        self.may_prepare = threading.Event()
        self.may_prepare.set()
        self.gated: set[int] = set()
        self.graphed: list[int] = []
        self.batches: list[list[int]] = []
        self.bad: dict[str, set[int]] = {"graph": set(), "cost": set(), "predict": set(), "exit": set()}
        self.memory = 10**9
        self.too_few = False

    def hold_preparation_of(self, number: int) -> None:
        self.gated = {number}
        self.may_prepare.clear()

    def graph(self, one: Band) -> Band:
        number = number_of(one)
        if number in self.gated:
            assert self.may_prepare.wait(GATE_S)
        self.graphed.append(number)
        if number in self.bad["graph"]:
            raise InputError("this band has no neighbours", kind="no-neighbours")
        return one

    def cost(self, graph: Band) -> int:
        if number_of(graph) in self.bad["cost"]:
            raise ZeroDivisionError
        return len(graph.host_species) * self.cost_per_atom

    def predict(self, graphs: Sequence[Band]) -> list[Prediction]:
        numbers = [number_of(one) for one in graphs]
        self.batches.append(numbers)
        assert self.may_run.wait(GATE_S)
        if sum(self.cost(one) for one in graphs) > self.memory:
            raise OutOfMemoryError
        if self.bad["predict"].intersection(numbers):
            raise ValueError(numbers)
        if self.bad["exit"].intersection(numbers):
            raise SystemExit(3)
        made = [
            Prediction(
                barrier_ev=float(number),
                quantiles_ev=(float(number),) * len(QUANTILE_LEVELS),
                in_domain=True,
                domain_reasons=(),
            )
            for number in numbers
        ]
        return made[:-1] if self.too_few else made


@asynccontextmanager
async def running(
    *,
    queue_cost: int = 1_000_000,
    queue_wait_s: float = 1e9,
    least_bands: int = 0,
    batch_cost: int = 1_000,
    batch_wait_ms: float = 1.0,
    stall_s: float = 60.0,
    stop_s: float = DEADLINE_S,
    prepare: Prepare | None = None,
    predict: Predict | None = None,
) -> AsyncIterator[Batcher]:
    batcher = Batcher(
        queue_cost=queue_cost,
        queue_wait_s=queue_wait_s,
        least_bands=least_bands,
        batch_cost=batch_cost,
        batch_wait_ms=batch_wait_ms,
        prepare_threads=1,
        stall_s=stall_s,
        metrics=Metrics(),
        prepare=prepare,
        predict=predict,
    )
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop(stop_s)


async def occupy(batcher: Batcher, model: SmallModel) -> "asyncio.Task[Prediction]":
    """Hold the model busy with band 99 until may_run is set."""
    model.may_run.clear()
    task = asyncio.create_task(batcher.submit(band(99), model))
    await until(lambda: bool(model.batches) and model.batches[-1] == [99])
    return task


async def submit_in_order(
    batcher: Batcher, model: SmallModel, bands: Sequence[Band]
) -> "list[asyncio.Task[Prediction]]":
    """Submit bands behind a busy model and wait until all are prepared."""
    tasks = []
    for one in bands:
        tasks.append(asyncio.create_task(batcher.submit(one, model)))
        await asyncio.sleep(0)
    await until(lambda: set(model.graphed) >= {number_of(one) for one in bands})
    return tasks
