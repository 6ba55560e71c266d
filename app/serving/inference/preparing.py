"""Prepares bands for the model, in worker processes.

Preparing is a thousand short operations of Python. In a thread they hold the interpreter that the model asks for after
each of its own, and two cores do the work of one.
"""

from collections.abc import Sequence
from typing import Protocol

from app.crystals.band import Band
from app.models.predictors.preparation import Preparation, prepared_together
from app.serving.inference.work_item import BatchPredictor
from app.serving.worker_process import (
    Done,
    Handler,
    TaskFailedError,
    WorkerCrashedError,
    WorkerError,
    WorkerTimeoutError,
)
from app.serving.workers import TaskKind, WorkerPool, problem_of

_PREPARING = TaskKind(
    kind="preparing",
    task="Preparing this band for the model",
    crashed="Preparing this band for the model crashed",
    workers="The processes that prepare bands",
    expected="a crystal without errors",
)


class Prepare(Protocol):
    """As BandPreparer.prepare."""

    def __call__(self, predictor: BatchPredictor, bands: Sequence[Band], /) -> Sequence[Done]:
        """Prepare bands."""


class BandPreparer:
    """Prepares bands for models that allow it apart from the network (`Predictor.preparation`).

    Args:
        count: worker processes.
        timeout_s: what takes longer is given up, seconds.
    """

    def __init__(self, count: int, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._pool = WorkerPool("prepare", count, open_preparer)

    def start(self) -> None:
        """Start the workers; raises as WorkerPool.start."""
        self._pool.start()

    def stop(self) -> None:
        """End the workers."""
        self._pool.stop()

    def prepare(self, predictor: BatchPredictor, bands: Sequence[Band]) -> list[Done]:
        """Prepare bands together; where that ends a worker or fails, one after the other, so that each fails alone.

        Returns:
            of each band its PreparedBand or why there is none: an InputError (it cannot be prepared, takes too long,
            or crashed the workers), a NotReadyError (the service is stopping, or no worker can be started), or a
            TaskFailedError (preparing it failed otherwise).
        """
        try:
            done = self._pool.run((predictor.preparation, bands), self._timeout_s)
        except (WorkerCrashedError, WorkerTimeoutError, TaskFailedError) as error:
            if len(bands) == 1:
                return [self._failed(error)]
            return [one for band in bands for one in self.prepare(predictor, [band])]
        except WorkerError as error:
            return [self._failed(error)] * len(bands)
        return [Done(value=one, seconds=done.seconds / len(bands)) for one in done.value]

    def _failed(self, error: WorkerError | TaskFailedError) -> Done:
        shown = error if isinstance(error, TaskFailedError) else problem_of(error, _PREPARING, self._timeout_s)
        if shown is not error:
            shown.__cause__ = error
        return Done(value=shown, seconds=0.0)


def open_preparer() -> Handler:
    """What a preparing worker does."""
    return Handler(run=_prepare)


def _prepare(task: tuple[Preparation, Sequence[Band]]) -> object:
    return prepared_together(*task)
