"""Processes that prepare bands for the model, each for one thread of the batcher.

Preparing is a thousand short operations of Python. In a thread they hold the interpreter that the model's lanes ask for
after each of theirs, and two cores do the work of one.
"""

import queue
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import structlog

from app.crystals.band import Band, FloatArray
from app.errors import InputError, IonpathError, NotReadyError
from app.models.preparation import HopPreparation, Preparation
from app.serving.processes import (
    Worker,
    WorkerGoneError,
    WorkerTooLongError,
    leave_signals_to_the_service,
    let_the_service_go_first,
    or_raised,
    pass_over_what_is_loaded,
    tell,
)
from app.serving.work_items import BatchPredictor

#: A process that died is replaced and asked once more: mostly it was killed for nothing that the band did.
ATTEMPTS = 2
#: Descriptors take milliseconds, and while they are late the model waits, whoever else does.
LATE_TIMEOUT_S = 2.0

_log = structlog.get_logger(__name__)


class PreparingFailedError(Exception):
    """A band could not be prepared for no fault of its own; says what the process said."""


class LateDescriptors:
    """What a band still lacks: fetched by the thread that had it prepared, waited for by the model's.

    Args:
        fetched: gets it from where it is made.
    """

    def __init__(self, fetched: Callable[[], FloatArray]) -> None:
        self._fetched = fetched
        self._future: Future[FloatArray] = Future()

    def fetch(self) -> Exception | None:
        """Get them, or why there are none, which is raised where they are waited for."""
        try:
            self._future.set_result(self._fetched())
        except Exception as error:  # noqa: BLE001 # raised there
            self._future.set_exception(error)
            return error
        except BaseException as error:  # nobody may wait for ever
            self._future.set_exception(error)
            raise
        return None

    def __call__(self) -> FloatArray:
        """Wait for them; raises as `PreparingProcesses.prepare`."""
        return self._future.result()


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

    def prepare(self, predictor: BatchPredictor, band: Band, *, alone: bool = False) -> Any:
        """Prepare a band as `predictor.graph` does.

        Args:
            predictor: the model.
            band: what is prepared.
            alone: no other band waits, so that the model may begin before the descriptors are there: the band may
                then have LateDescriptors, which this thread must fetch next.

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
        in_two = alone and isinstance(preparation, HopPreparation)
        process, answer = self._asked(process, (preparation, band, in_two), self._timeout_s, attempts=ATTEMPTS)
        if in_two and not isinstance(answer, Exception):
            return replace(answer, late=LateDescriptors(partial(self._described, process, preparation, band)))
        self._free.put(process)
        return or_raised(answer)

    def _described(self, process: Worker, preparation: Preparation, band: Band) -> FloatArray:
        """The second part of what a process prepares; one that dies or is slow is replaced and asked once more."""
        timeout_s = min(LATE_TIMEOUT_S, self._timeout_s)
        try:
            path = process.told(timeout_s)
        except (WorkerGoneError, WorkerTooLongError) as error:
            process, whole = self._asked(
                self._replaced(process, error), (preparation, band, False), timeout_s, attempts=ATTEMPTS - 1
            )
            path = whole if isinstance(whole, Exception) else whole.inputs.path
        self._free.put(process)
        described: FloatArray = or_raised(path)
        return described

    def _asked(self, process: Worker, message: object, timeout_s: float, *, attempts: int) -> tuple[Worker, Any]:
        """What a process answers, and the process: another one where it died. Raises once it is free again."""
        for _ in range(attempts):
            try:
                return process, process.ask(message, timeout_s)
            except WorkerGoneError as error:
                process = self._replaced(process, error)  # never here: a band that ended one could end the service
            except WorkerTooLongError as error:
                self._free.put(self._replaced(process, error))
                raise InputError(
                    f"Preparing this band for the model took more than {timeout_s:g} s"
                    f"{' (IONPATH_PARSE_TIMEOUT_S)' if timeout_s == self._timeout_s else ''}.",
                    kind="preparing-took-too-long",
                    expected="a smaller crystal",
                ) from error
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
    let_the_service_go_first()
    pass_over_what_is_loaded()
    while True:
        try:
            preparation, band, in_two = connection.recv()
        except EOFError:
            return
        if not in_two:
            tell(connection, _given(partial(preparation, band)))
            continue
        begun = _given(partial(preparation.begin, band))
        if isinstance(begun, Exception):
            tell(connection, begun)
            continue
        prepared, describe = begun
        tell(connection, prepared)
        tell(connection, _given(describe))


def _given(work: Callable[[], Any]) -> Any:
    """What work gives, or the error that it raises."""
    try:
        return work()
    except IonpathError as error:
        return error
    except Exception as error:  # noqa: BLE001 # whatever one band does, the process goes on; the thread that asked tells
        failed = PreparingFailedError(f"{type(error).__name__}: {error}")
        failed.add_note(traceback.format_exc())
        return failed
