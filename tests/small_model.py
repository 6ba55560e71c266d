"""A batcher with real threads and a small model whose faults a test switches on."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import waiting

from app.crystals.band import Band
from app.errors import InputError
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.models.predictors.predictor import OutOfMemoryError
from app.serving.inference.batcher import Batcher, Track
from app.serving.inference.model import ModelHere
from app.serving.inference.queue import WorkQueue
from app.serving.inference.work_item import BatchPredictor
from app.serving.lanes import Lane
from app.serving.metrics import Metrics
from app.serving.reading.pool import raise_if_error
from app.serving.worker_process import Done

DEADLINE_S = 10.0
until = waiting.until
#: A gate that a test forgets opens only after the test has failed.
GATE_S = 30.0
#: Batches of a model that is so fast are bounded by their cost alone.
FAST_COST_PER_S = 1e9
#: Models whose name begins so have the lane of slow models.
SLOW = "slow"


def band(number: int, atoms: int = 5) -> Band:
    """A band whose hop is `number` angstrom long, by which it differs from others."""
    return Band(
        lattice_angstrom=np.eye(3),
        host_species=("O",) * atoms,
        host_frac_coords=np.zeros((atoms, 3)),
        ion="Li",
        image_frac_coords=np.array([[0.0, 0.0, 0.0], [float(number), 0.0, 0.0]]),
    )


def number_of(one: Band) -> int:
    return round(one.hop_distance_angstrom)


@dataclass(frozen=True)
class Graph:
    """A prepared band."""

    band: Band


class SmallModel:
    """Predicts a band's number; each fault is switched on by a band's number.

    Attributes:
        prepared: bands that were prepared apart from the model.
        graphed: all that were prepared.
        batches: the bands of each forward pass.
    """

    def __init__(self, name: str = "small", *, cost_per_atom: int = 1, prepares: bool = True) -> None:
        self.name = name
        self.preparation: Any = self._prepared_apart if prepares else None
        self.prepared: list[int] = []
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

    def _prepared_apart(self, one: Band) -> Graph:
        self.prepared.append(number_of(one))
        return self.graph(one)

    def graph(self, one: Band) -> Graph:
        number = number_of(one)
        if number in self.gated:
            assert self.may_prepare.wait(GATE_S)
        self.graphed.append(number)
        if number in self.bad["graph"]:
            raise InputError("this band has no neighbours", kind="no-neighbours")
        return Graph(one)

    def cost(self, graph: Graph) -> int:
        if number_of(graph.band) in self.bad["cost"]:
            raise ZeroDivisionError
        return len(graph.band.host_species) * self.cost_per_atom

    def predict(self, graphs: Sequence[Graph]) -> list[Prediction]:
        numbers = [number_of(one.band) for one in graphs]
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


class PreparedHere:
    """Prepares bands in the thread that asks for them."""

    def prepare(self, predictor: BatchPredictor, band: Band) -> Done:
        started_s = time.thread_time()
        return Done(value=predictor.preparation(band), seconds=time.thread_time() - started_s)

    def prepare_together(self, predictor: BatchPredictor, bands: Sequence[Band]) -> list[Done] | None:
        """Raise what the first failing one raises: the batcher then tries each alone."""
        return [self.prepare(predictor, band) for band in bands]


@asynccontextmanager
async def running(
    *,
    batch_cost: int = 1_000,
    batch_wait_ms: float = 1.0,
    stall_s: float = 60.0,
    stop_s: float = DEADLINE_S,
) -> AsyncIterator[Batcher]:
    tracks = {
        lane: Track(
            name=f"{lane}-model",
            queue=WorkQueue(batch_cost=batch_cost, batch_wait_s=batch_wait_ms / 1e3, prepares=lane is Lane.MAIN),
            runner=ModelHere(),
        )
        for lane in (Lane.MAIN, Lane.SLOW_MODEL)
    }
    batcher = Batcher(
        tracks=tracks,
        lane_of=lambda model: Lane.SLOW_MODEL if model.name.startswith(SLOW) else Lane.MAIN,
        prepare_threads=1,
        preparer=PreparedHere(),
        stall_s=stall_s,
        metrics=Metrics(),
    )
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop(stop_s)


def set_speed(batcher: Batcher, model: SmallModel, cost_per_s: float = FAST_COST_PER_S) -> None:
    """Let a model's speed be known, whatever this machine's is."""
    queue = batcher.tracks[batcher.lane_of(model)].queue
    queue._figures_of(model).cost_per_s = cost_per_s


async def ask(batcher: Batcher, model: SmallModel, one: Band, **named: Any) -> Prediction:
    """Submit one band, and raise where it fails."""
    (outcome,) = await batcher.submit([one], model, **named)
    return raise_if_error(outcome)


async def occupy(batcher: Batcher, model: SmallModel) -> "asyncio.Task[Prediction]":
    """Hold the model busy with band 99 until may_run is set; its speed is known then."""
    model.may_run.clear()
    task = asyncio.create_task(ask(batcher, model, band(99)))
    await until(lambda: bool(model.batches) and model.batches[-1] == [99])
    set_speed(batcher, model)
    return task


async def submit_in_order(
    batcher: Batcher, model: SmallModel, bands: Sequence[Band], **named: Any
) -> "list[asyncio.Task[Prediction]]":
    """Submit bands behind a busy model and wait until all are ready for it."""
    tasks = []
    for one in bands:
        tasks.append(asyncio.create_task(ask(batcher, model, one, **named)))
        await asyncio.sleep(0)
    if model.preparation is not None:
        await until(lambda: set(model.graphed) >= {number_of(one) for one in bands})
    return tasks
