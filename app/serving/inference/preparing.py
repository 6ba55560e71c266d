"""Prepares bands for the model, in worker processes.

Preparing is a thousand short operations of Python. In a thread they hold the interpreter that the model asks for after
each of its own, and two cores do the work of one.
"""

from typing import Protocol

from app.crystals.band import Band
from app.errors import InputError, NotReadyError
from app.models.predictors.preparation import Preparation
from app.serving.inference.work_item import BatchPredictor
from app.serving.workers import (
    Done,
    Handler,
    WorkerCrashedError,
    WorkerPool,
    WorkersStoppedError,
    WorkerStartError,
    WorkerTimeoutError,
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
        except WorkerTimeoutError as error:
            raise InputError(
                f"Preparing this band for the model took more than {self._timeout_s:g} s (IONPATH_PARSE_TIMEOUT_S).",
                kind="preparing-took-too-long",
                expected="a smaller crystal",
            ) from error
        except WorkerCrashedError as error:
            raise InputError(
                "Preparing this band for the model crashed; other requests are not affected.",
                kind="preparing-crashed",
                expected="a crystal without errors",
            ) from error
        except WorkerStartError as error:
            raise NotReadyError(
                "A process that prepares bands cannot be started.", kind="preparing-restarts"
            ) from error
        except WorkersStoppedError as error:
            raise NotReadyError("The service is stopping.", kind="stopping") from error


def open_preparer() -> Handler:
    """What a preparing worker does."""
    return Handler(run=_prepare)


def _prepare(task: tuple[Preparation, Band]) -> object:
    preparation, band = task
    return preparation(band)
