"""Pools of worker processes: each worker does one task at a time, is ended at a limit of time or memory, and replaced.

Reading, preparing and the model run in such processes: a parser may never return, a library may crash, and a thousand
short operations of Python must not hold the interpreter of the process that answers.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import structlog

from app.errors import InputError, IonpathError, NotReadyError
from app.serving.worker_process import (
    BUSY_FACTOR,
    USUAL_NICE,
    Done,
    Handler,
    TaskFailedError,
    Worker,
    WorkerCrashedError,
    WorkerError,
    WorkersStoppedError,
    WorkerStartError,
    WorkerTimeoutError,
)

#: Loading torch and every checkpoint takes some five seconds; a busy machine takes longer.
START_TIMEOUT_S = 120.0
#: After a start that failed, how long until the next one, seconds.
BACK_OFF_S = 5.0
#: A task whose worker crashed is given to a second one: mostly the worker was killed for no fault of the task.
ATTEMPTS = 2
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """How messages name a kind of task, for `problem_of`.

    Attributes:
        kind: begins the kinds of problems, such as "reading-crashed".
        task, crashed, workers: begin the sentences on time limits, crashes and workers that do not start.
        expected: what would be right instead.
    """

    kind: str
    task: str
    crashed: str
    workers: str
    expected: str


def problem_of(error: WorkerError, kind: TaskKind, timeout_s: float) -> IonpathError:
    """What a caller hears of a task that was not done."""
    if isinstance(error, WorkerTimeoutError):
        return InputError(
            f"{kind.task} took more than {timeout_s:g} s of processor time, or {BUSY_FACTOR * timeout_s:g} s in all "
            "(IONPATH_PARSE_TIMEOUT_S), and was given up.",
            kind=f"{kind.kind}-took-too-long",
            expected=f"a smaller crystal, or {kind.expected}",
        )
    if isinstance(error, WorkerCrashedError):
        return InputError(
            f"{kind.crashed}; other requests are not affected.", kind=f"{kind.kind}-crashed", expected=kind.expected
        )
    if isinstance(error, WorkerStartError):
        return NotReadyError(f"{kind.workers} are being restarted.", kind=f"{kind.kind}-restarts")
    return NotReadyError("The service is stopping.", kind="stopping")


class _Control:
    """Lets the event loop cancel a task that a thread waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self.cancelled = False

    def begin(self, worker: Worker) -> bool:
        """Note which worker does it; False where it was cancelled before."""
        with self._lock:
            self._worker = worker
            return not self.cancelled

    def finish(self) -> None:
        """Note that the worker is free: a later `cancel` must not end it."""
        with self._lock:
            self._worker = None

    def cancel(self) -> None:
        """End the worker that does it, if any."""
        with self._lock:
            self.cancelled = True
            if self._worker is not None:
                self._worker.kill()


class WorkerPool:
    """A number of workers that do the same kind of task, for threads (`run`) and for the event loop (`call`).

    Args:
        name: of the processes, in the log and in messages.
        count: how many.
        open_handler: a function of a module that gives a worker's Handler, called in the worker.
        arguments: of that function, pickled.
        memory_mib: most address space of one worker; None sets no limit.
        on_demand: start workers when the first task comes instead of in `start`.
        busy_factor: times its limit, which counts processor time, that a task may take on the wall clock.
        nice: steps of priority below this process.

    Attributes:
        ready: what the first worker reported (Handler.ready).
    """

    def __init__(
        self,
        name: str,
        count: int,
        open_handler: Callable[..., Handler],
        *arguments: object,
        memory_mib: int | None = None,
        on_demand: bool = False,
        busy_factor: float = BUSY_FACTOR,
        nice: int = USUAL_NICE,
    ) -> None:
        self._name = name
        self._busy_factor = busy_factor
        self._nice = nice
        self._open_handler = open_handler
        self._arguments = arguments
        self._memory_mib = memory_mib
        self._on_demand = on_demand
        self._count = count
        # One slot per worker; None is a slot whose worker must be started before use.
        self._slots: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        self._workers: set[Worker] = set()
        self._changing = threading.Lock()  # no worker is started once the pool stops
        self._stopped = False
        self._not_before_s = 0.0
        self._threads = ThreadPoolExecutor(max_workers=count, thread_name_prefix=name)
        self.ready: object = None
        self._failure: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why no worker can be started; None while that works. It is tried again in the background."""
        return self._failure

    def start(self) -> None:
        """Start the workers and wait until all are ready; where they start on demand, do nothing yet.

        Raises:
            WorkerStartError: one of them does not start.
            Exception: what a worker's `open_handler` raised, where that is one of ours.
        """
        started = [None if self._on_demand else self._spawn() for _ in range(self._count)]
        for worker in started:
            if worker is not None:
                self._await_ready(worker)
            self._slots.put(worker)

    def stop(self) -> None:
        """End the workers, whatever they do; tasks that wait or run fail with WorkersStoppedError."""
        with self._changing:
            self._stopped = True
            workers, self._workers = self._workers, set()
        for worker in workers:
            worker.end()
        self._slots.put(None)  # wakes a thread that waits for a slot, which wakes the next
        self._threads.shutdown(wait=False)  # what waits for a thread gets one, and fails as the others do

    def run(self, task: object, timeout_s: float, *, attempts: int = ATTEMPTS) -> Done:
        """Have a worker do a task; waits for a free one.

        Args:
            task: pickled.
            timeout_s: a task that takes longer ends its worker, seconds of processor time; waiting for one does not
                count.
            attempts: workers that may crash before the task is given up.

        Raises:
            WorkerCrashedError: the workers that tried it ended.
            WorkerTimeoutError: it took too long.
            WorkerStartError: no worker can be started.
            WorkersStoppedError: the pool is stopped.
            Exception: what the handler raised: one of ours, or TaskFailedError.
        """
        return self._run(task, timeout_s, _Control(), attempts)

    async def call(self, task: object, timeout_s: float) -> Done:
        """Do the same without blocking the event loop; cancelling it ends the worker that does the task."""
        control = _Control()
        future = self._threads.submit(self._run, task, timeout_s, control, ATTEMPTS)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            control.cancel()
            raise

    def _run(self, task: object, timeout_s: float, control: _Control, attempts: int) -> Done:
        for attempt in range(1, attempts + 1):
            worker = self._take()
            keep: Worker | None = None
            try:
                if not control.begin(worker):
                    keep = worker
                    raise WorkerError("the task was cancelled")  # no caller waits for it any more
                began_s = time.monotonic()
                worker.send(task, timeout_s)
                answer = worker.receive(timeout_s, busy_factor=self._busy_factor)
                keep = worker
            except TaskFailedError:
                keep = worker  # nothing was sent to it
                raise
            except WorkerCrashedError:
                if control.cancelled or attempt == attempts or self._stopped:
                    raise WorkersStoppedError(self._name) if self._stopped else WorkerCrashedError(self._name) from None
                continue
            finally:
                control.finish()
                self._give_back(worker, keep, was_cancelled=control.cancelled)
            if isinstance(answer, Exception):
                raise answer
            assert isinstance(answer, Done)
            return replace(answer, began_s=began_s)
        raise AssertionError  # the last attempt returns or raises

    def _take(self) -> Worker:
        """Wait for a slot, and start its worker where it has none.

        A slot whose worker does not start is tried again later, and the task waits for another slot; it fails only
        where no worker runs at all.
        """
        while True:
            worker = self._slots.get()
            if self._stopped:
                self._slots.put(None)
                raise WorkersStoppedError(f"the {self._name} workers are stopped")
            if worker is not None and worker.is_alive:
                return worker
            if worker is not None:
                self._discard(worker, "it ended while it had no task")
            try:
                return self._replacement()
            except WorkerStartError:
                if not self._workers:
                    self._slots.put(None)
                    self._later(self._revive)
                    raise
                self._later(self._start_slot)
            except BaseException:
                self._slots.put(None)
                raise

    def _later(self, try_again: Callable[[], None]) -> None:
        timer = threading.Timer(BACK_OFF_S, try_again)
        timer.daemon = True
        timer.start()

    def _start_slot(self) -> None:
        """Start the worker of a slot that was taken out since it did not start."""
        try:
            worker: Worker | None = self._replacement()
        except WorkersStoppedError:
            worker = None
        except WorkerStartError:
            if self._workers:
                self._later(self._start_slot)
                return
            worker = None  # the next task reports it
        self._slots.put(worker)

    def _revive(self) -> None:
        """Start a worker where none runs, so that the pool is well again before the next task."""
        with contextlib.suppress(queue.Empty):
            worker = self._slots.get_nowait()
            if worker is not None or self._stopped:
                self._slots.put(worker)
                return
            try:
                worker = self._replacement()
            except WorkersStoppedError:
                pass
            except WorkerStartError:
                self._later(self._revive)
            self._slots.put(worker)

    def _replacement(self) -> Worker:
        if time.monotonic() < self._not_before_s:
            raise WorkerStartError(self._failure)
        worker = self._spawn()
        try:
            self._await_ready(worker)
        except WorkerError:
            raise
        except Exception as error:  # what `open_handler` raised is no error of the task
            raise WorkerStartError(self._failure) from error
        return worker

    def _give_back(self, worker: Worker, keep: Worker | None, *, was_cancelled: bool) -> None:
        """Free the slot; a worker that is not kept is ended, since it may be at the task still."""
        if keep is None:
            why = "its task was cancelled" if was_cancelled else "it crashed or was ended in the middle of a task"
            self._discard(worker, why, expected=was_cancelled)
        self._slots.put(keep)

    def _discard(self, worker: Worker, why: str, *, expected: bool = False) -> None:
        with self._changing:
            self._workers.discard(worker)
            stopped = self._stopped
        exit_code = worker.end()
        if not stopped:
            write = _log.debug if expected else _log.warning
            write("worker-gone", worker=self._name, exit_code=exit_code, why=why)

    def _spawn(self) -> Worker:
        with self._changing:
            if self._stopped:
                raise WorkersStoppedError(f"the {self._name} workers are stopped")
            try:
                worker = Worker(
                    self._name, self._open_handler, *self._arguments, memory_mib=self._memory_mib, nice=self._nice
                )
            except OSError as error:
                raise self._failed(error) from error
            self._workers.add(worker)
            return worker

    def _await_ready(self, worker: Worker) -> None:
        try:
            answer = self._checked(worker.receive(START_TIMEOUT_S))
        except Exception as error:
            self._discard(worker, f"it did not start: {error}")
            if self._stopped:
                raise WorkersStoppedError(f"the {self._name} workers are stopped") from error
            failed = self._failed(error)
            if isinstance(error, WorkerError):
                raise failed from error
            raise
        self.ready = answer
        self._failure = None

    def _checked(self, answer: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        if self.ready is not None and answer != self.ready:
            raise WorkerStartError("it reports another state than the first one did: restart the service")
        return answer

    def _failed(self, error: Exception) -> WorkerStartError:
        self._failure = f"the {self._name} worker does not start: {error}"
        self._not_before_s = time.monotonic() + BACK_OFF_S
        return WorkerStartError(self._failure)
