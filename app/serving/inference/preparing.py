"""Prepares bands for the model, in worker processes.

Preparing is a thousand short operations of Python. In a thread they hold the interpreter that the model asks for after
each of its own, and two cores do the work of one.
"""

from typing import Protocol

from app.crystals.band import Band
from app.models.predictors.preparation import Preparation
from app.serving.inference.work_item import BatchPredictor
from app.serving.worker_process import Done, Handler, WorkerError
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

    def __call__(self, predictor: BatchPredictor, band: Band, /) -> Done:
        """Prepare a band."""


class BandPreparer:
    """Prepares bands for models that allow it apart from the network (`Predictor.preparation`).

    Args:
        count: worker processes.
        timeout_s: a band that takes longer is given up, seconds.
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

    def prepare(self, predictor: BatchPredictor, band: Band) -> Done:
        """Prepare a band.

        Raises:
            InputError: the band cannot be prepared, takes too long, or crashed the workers.
            NotReadyError: the service is stopping, or no worker can be started.
            TaskFailedError: preparing it failed otherwise.
        """
        try:
            return self._pool.run((predictor.preparation, band), self._timeout_s)
        except WorkerError as error:
            raise problem_of(error, _PREPARING, self._timeout_s) from error


def open_preparer() -> Handler:
    """What a preparing worker does."""
    return Handler(run=_prepare)


def _prepare(task: tuple[Preparation, Band]) -> object:
    preparation, band = task
    return preparation(band)
