"""Runs a model on batches: in a worker process on a CPU, in this process on a GPU.

A forward pass is a thousand short operations that ask for the interpreter. In a thread of the service they wait behind
all that is read and answered: the busier the service, the slower its model.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.cores import usable_cores
from app.crystals.band import Band
from app.crystals.crystal import Crystal
from app.errors import NotReadyError
from app.models.prediction import Prediction
from app.models.predictors.predictor import Predictor
from app.models.predictors.property_predictor import PropertyAnswer, PropertyPredictor
from app.models.registry import Registry
from app.serving.inference.work_item import BatchPredictor
from app.serving.worker_process import (
    BACKGROUND_NICE,
    USUAL_NICE,
    Done,
    Handler,
    TaskFailedError,
    WorkerCrashedError,
    WorkersStoppedError,
    WorkerStartError,
    WorkerTimeoutError,
)
from app.serving.workers import ATTEMPTS, WorkerPool


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What a model gave for a batch.

    Attributes:
        predictions: one a band, in order.
        costs: of the bands, line-graph edges.
        seconds: CPU time that the batch took; on a GPU, time.
    """

    predictions: list[Prediction]
    costs: list[int]
    seconds: float = 0.0


class Runner(Protocol):
    """Runs models on batches, for one thread."""

    @property
    def trouble(self) -> str | None:
        """Why it cannot run now; None while it can."""

    def predict(self, predictor: BatchPredictor, inputs: Sequence[Any]) -> Predicted:
        """Predict bands, prepared ones or those that are yet to be prepared.

        Raises:
            OutOfMemoryError: the device has no room for so many at once.
            InputError: one of the bands cannot be prepared.
        """


class ModelHere:
    """Runs models in this process."""

    trouble: str | None = None

    def predict(self, predictor: BatchPredictor, inputs: Sequence[Any]) -> Predicted:
        """See Runner.predict."""
        started_s = time.monotonic()
        graphs = _graphs(predictor, inputs)
        predictions = predictor.predict(graphs)
        costs = [predictor.cost(graph) for graph in graphs]
        return Predicted(predictions=predictions, costs=costs, seconds=time.monotonic() - started_s)


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What a model's worker loads: as `Registry.open` takes it.

    Attributes:
        prepared_beside: workers that prepare bands; batches that they prepared leave them as many cores.
    """

    store: Path
    default: str
    threads: int
    prepared_beside: int = 0


class ModelWorker:
    """One worker process with every checkpoint on the CPU, those of bulk properties too.

    Args:
        loading: what it loads.
        timeout_s: a forward pass that takes longer ends it, seconds.
        warm: the checkpoint that is warm before it is ready; where it is None the worker starts with the first band, in
            the background of all others.
    """

    def __init__(self, loading: Loading, timeout_s: float, *, warm: str | None) -> None:
        self._timeout_s = timeout_s
        self._pool = WorkerPool(
            "model" if warm else "slow-model",
            1,
            open_model,
            loading,
            warm,
            on_demand=warm is None,
            busy_factor=1.0,  # its requests have a limit of the wall clock
            nice=USUAL_NICE if warm else BACKGROUND_NICE,
        )

    @property
    def digests(self) -> dict[str, str]:
        """Of the checkpoints that it answers with."""
        assert isinstance(self._pool.ready, dict)
        return self._pool.ready

    @property
    def trouble(self) -> str | None:
        """See Runner.trouble."""
        return self._pool.trouble

    def start(self) -> None:
        """Start it and wait until it is warm.

        Raises:
            CheckpointError: a checkpoint is missing or damaged.
            WorkerStartError: it did not start otherwise.
        """
        self._pool.start()

    def stop(self) -> None:
        """End it, whatever it does."""
        self._pool.stop()

    def properties(self, predictor: PropertyPredictor, crystal: Crystal) -> tuple[PropertyAnswer, float]:
        """The bulk properties of a crystal and the CPU seconds that they took; raises as `predict`."""
        done = self._run(_PropertiesTask(name=predictor.name, crystal=crystal), attempts=ATTEMPTS, of="one crystal")
        answer: PropertyAnswer = done.value
        return answer, done.seconds

    def predict(self, predictor: BatchPredictor, inputs: Sequence[Any]) -> Predicted:
        """See Runner.predict.

        A band alone that crashes the worker is tried again. Several are not: the batcher tries their halves, and so
        finds the one at fault, and each new worker takes seconds to load.

        Raises:
            TaskFailedError: the pass failed, took too long or crashed the worker.
            NotReadyError: the worker cannot be started, or the service is stopping.
        """
        done = self._run(
            (predictor.name, list(inputs)), attempts=ATTEMPTS if len(inputs) == 1 else 1, of=f"{len(inputs)} bands"
        )
        predicted: Predicted = done.value
        return Predicted(predictions=predicted.predictions, costs=predicted.costs, seconds=done.seconds)

    def _run(self, task: object, *, attempts: int, of: str) -> Done:
        try:
            return self._pool.run(task, self._timeout_s, attempts=attempts)
        except (WorkerCrashedError, WorkerTimeoutError) as error:
            raise TaskFailedError(f"the model's process ended at {of}: {error}") from error
        except WorkerStartError as error:
            raise NotReadyError("The model's process cannot be started.", kind="model-stopped") from error
        except WorkersStoppedError as error:
            raise NotReadyError("The service is stopping.", kind="stopping") from error


@dataclass(frozen=True, kw_only=True)
class _PropertiesTask:
    """A crystal, and the checkpoint of bulk properties."""

    name: str
    crystal: Crystal


def properties_here(predictor: PropertyPredictor, crystal: Crystal) -> tuple[PropertyAnswer, float]:
    """The bulk properties of a crystal, computed in this process, and the seconds that they took."""
    started_s = time.monotonic()
    (answer,) = predictor.predict([predictor.graph(crystal)])
    return answer, time.monotonic() - started_s


@dataclass(kw_only=True, eq=False)
class _Models:
    """What a model's worker holds."""

    registry: Registry
    ways: int
    cold: list[Predictor | PropertyPredictor]

    def run(self, task: tuple[str, Sequence[Any]] | _PropertiesTask) -> Predicted | PropertyAnswer:
        if isinstance(task, _PropertiesTask):
            return properties_here(self.registry.property_predictor(task.name), task.crystal)[0]
        name, inputs = task
        predictor = self.registry.predictor(name)
        graphs = _graphs(predictor, inputs)
        predictions = predictor.predict(graphs, ways=None if predictor.preparation is None else self.ways)
        return Predicted(predictions=predictions, costs=[predictor.cost(graph) for graph in graphs])

    def warm_next(self) -> bool:
        """Warm a checkpoint that was not asked for yet; says whether there are more."""
        if self.cold:
            with contextlib.suppress(Exception):  # the service's log has it once somebody asks for this one
                self.cold.pop().warm_up()
        return bool(self.cold)


def _graphs(predictor: BatchPredictor, inputs: Sequence[Any]) -> list[Any]:
    return [predictor.graph(one) if isinstance(one, Band) else one for one in inputs]


def open_model(loading: Loading, warm: str | None) -> Handler:
    """Load every checkpoint; reports their digests.

    Raises:
        CheckpointError: a checkpoint is missing or damaged.
    """
    registry = Registry.open(loading.store, "cpu", default=loading.default, threads=loading.threads)
    predictors = [registry.predictor(name) for name in registry.names()]
    of_properties = [registry.property_predictor(name) for name in registry.property_names()]
    if warm is not None:
        registry.predictor(warm).warm_up()
    left = max(1, usable_cores() - loading.prepared_beside)
    models = _Models(
        registry=registry,
        ways=min(loading.threads or left, left),
        cold=[] if warm is None else [*(one for one in predictors if one.name != warm), *of_properties],
    )
    every: list[Predictor | PropertyPredictor] = [*predictors, *of_properties]
    digests = {one.name: one.digest for one in every}
    return Handler(run=models.run, ready=digests, idle=models.warm_next if models.cold else None)
