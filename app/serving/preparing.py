"""Processes that prepare bands for the model, each for one thread of the batcher.

Preparing is a thousand short operations of Python. In a thread they hold the interpreter that the model's lanes ask for
after each of theirs, and two cores do the work of one.
"""

import queue
import threading
import traceback
from multiprocessing.connection import Connection
from typing import Any

import structlog

from app.crystals.band import Band
from app.errors import InputError, IonpathError, NotReadyError
from app.models.preparation import Preparation
from app.serving.processes import (
    Worker,
    WorkerGoneError,
    WorkerTooLongError,
    leave_signals_to_the_service,
    or_raised,
    tell,
)
from app.serving.work import BatchPredictor

#: A process that died is replaced and asked once more: mostly it was killed for nothing that the band did.
ATTEMPTS = 2

_log = structlog.get_logger(__name__)


class PreparingFailedError(Exception):
    """A band could not be prepared for no fault of its own; says what the process said."""


class PreparingProcesses:
    """Some processes, taken by any thread; where none is free or fit, a band is prepared where it is asked for.

    Args:
        count: how many; with 0 all bands are prepared by who asks.
        timeout_s: a process that takes longer for one band is killed, seconds.
    """

    def __init__(self, count: int, timeout_s: float) -> None:
        self._count = count
        self._timeout_s = timeout_s
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._all: set[Worker] = set()
        self._stopping = False
        self._changing = threading.Lock()  # no process is started once they are all ended

    def start(self) -> None:
        """Start the processes."""
        for _ in range(self._count):
            self._free.put(self._started())

    def stop(self) -> None:
        """End the processes, whatever they do."""
        with self._changing:
            self._stopping = True
            while self._all:
                self._all.pop().end()

    def prepare(self, predictor: BatchPredictor, band: Band) -> Any:
        """Prepare a band as `predictor.graph` does.

        Raises:
            InputError: the band cannot be prepared, takes too long, or processes died of it.
            NotReadyError: the service is stopping.
            PreparingFailedError: preparing it failed otherwise.
        """
        preparation: Preparation | None = getattr(predictor, "preparation", None)
        if preparation is None:
            return predictor.graph(band)
        try:
            process = self._free.get_nowait()
        except queue.Empty:
            return predictor.graph(band)
        for _ in range(ATTEMPTS):
            try:
                answer = process.ask((preparation, band), self._timeout_s)
            except WorkerGoneError as error:
                process = self._replaced(process, error)  # never here: a band that ended one could end the service
            except WorkerTooLongError as error:
                self._free.put(self._replaced(process, error))
                raise InputError(
                    f"Preparing this band for the model took more than {self._timeout_s:g} s "
                    "(IONPATH_PARSE_TIMEOUT_S).",
                    kind="preparing-took-too-long",
                    expected="a smaller crystal",
                ) from error
            else:
                self._free.put(process)
                return or_raised(answer)
        self._free.put(process)
        raise InputError(
            "The processes that prepared this band for the model died of it; other requests go on.",
            kind="preparing-crashed",
            expected="a crystal without errors",
        )

    def _replaced(self, process: Worker, error: Exception) -> Worker:
        """End a process and start another; where that fails, later bands are prepared by who asks.

        Raises:
            NotReadyError: none can be started, or the service is stopping.
        """
        _log.warning("preparing-process-gone", exit_code=process.end(), why=str(error))
        self._all.discard(process)
        try:
            return self._started()
        except OSError as failed:
            _log.error("preparing-process-missing", why=str(failed), left=len(self._all))
            raise NotReadyError(
                "A process that prepares bands cannot be started.", kind="preparing-restarts"
            ) from failed

    def _started(self) -> Worker:
        with self._changing:
            if self._stopping:
                raise NotReadyError("The service is stopping.", kind="stopping")
            process = Worker("prepare", _serve)
            self._all.add(process)
            return process


def _serve(connection: Connection) -> None:
    """Prepare what is asked for until nobody asks any more."""
    leave_signals_to_the_service()
    while True:
        try:
            preparation, band = connection.recv()
        except EOFError:
            return
        tell(connection, _prepared(preparation, band))


def _prepared(preparation: Preparation, band: Band) -> object:
    try:
        return preparation(band)
    except IonpathError as error:
        return error
    except Exception as error:  # noqa: BLE001 # whatever one band does, the process goes on; the thread that asked tells
        failed = PreparingFailedError(f"{type(error).__name__}: {error}")
        failed.add_note(traceback.format_exc())
        return failed
