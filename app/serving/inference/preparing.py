"""Prepares bands for the model, in worker processes.

Preparing is a thousand short operations of Python. In a thread they hold the interpreter that the model asks for after
each of its own, and two cores do the work of one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from app.crystals.band import Band
from app.errors import IonpathError
from app.models.predictors.preparation import Preparation, prepared_together
from app.serving.inference.work_item import BatchPredictor
from app.serving.worker_process import Done, Handler, TaskFailedError, WorkerError
from app.serving.workers import TaskKind, WorkerPool, problem_of

#: Several bands that are prepared together take a tenth of a second of processor time, and no more than this.
TOGETHER_S = 2.0
_PREPARING = TaskKind(
    kind="preparing",
    task="Preparing this band for the model",
    crashed="Preparing this band for the model crashed",
    workers="The processes that prepare bands",
    expected="a crystal without errors",
)


class Preparer(Protocol):
    """What the batcher asks of a BandPreparer."""

    def prepare(self, predictor: BatchPredictor, band: Band) -> Done:
        """Prepare a band."""

    def prepare_together(self, predictor: BatchPredictor, bands: Sequence[Band]) -> Sequence[Done] | None:
        """Prepare bands; None where each is to be tried alone."""


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

    def prepare(self, predictor: BatchPredictor, band: Band) -> Done:
        """Prepare a band.

        Raises:
            InputError: the band cannot be prepared, takes too long, or crashed the workers.
            NotReadyError: the service is stopping, or no worker can be started.
            TaskFailedError: preparing it failed otherwise.
        """
        try:
            done = self._pool.run((predictor.preparation, [band]), self._timeout_s)
        except WorkerError as error:
            raise problem_of(error, _PREPARING, self._timeout_s) from error
        (made,) = done.value
        if isinstance(made, IonpathError):
            raise made
        return replace(done, value=made)

    def prepare_together(self, predictor: BatchPredictor, bands: Sequence[Band]) -> list[Done] | None:
        """Prepare bands at once, of each its PreparedBand or an IonpathError.

        None where that fails, takes longer than it should or ends its worker: one of them may hang, and the others are
        not to wait for its time limit.
        """
        try:
            done = self._pool.run((predictor.preparation, bands), min(self._timeout_s, TOGETHER_S), attempts=1)
        except (WorkerError, TaskFailedError):
            return None
        return [Done(value=made, seconds=done.seconds / len(bands)) for made in done.value]


def open_preparer() -> Handler:
    """What a preparing worker does."""
    return Handler(run=_prepare)


def _prepare(task: tuple[Preparation, Sequence[Band]]) -> object:
    return prepared_together(*task)
