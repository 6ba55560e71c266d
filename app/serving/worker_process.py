"""One worker process: what the service sends to it and receives, and what it does itself.

It ends with the service, also in the middle of a task.
"""

import contextlib
import gc
import math
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

import psutil

from app.errors import IonpathError

#: How long a worker waits for a task before it uses the time for something else, seconds.
IDLE_S = 1.0
#: Steps of priority below the service's own process, which hands out the work; work that others must not notice
#: has a lower one.
USUAL_NICE = 5
BACKGROUND_NICE = 10
#: A task may take this many times its limit of processor time in all, so that a busy machine refuses nothing at once.
BUSY_FACTOR = 3.0
_LEAST_POLL_S = 0.05
_PIPE_HOLDS_BYTES = 32_768
_MIB = 1024 * 1024


class WorkerError(Exception):
    """A task was not done, by no error of its own."""


class WorkerCrashedError(WorkerError):
    """The worker ended in the middle of the task."""


class WorkerTimeoutError(WorkerError):
    """The task took too long; its worker was ended."""


class WorkerStartError(WorkerError):
    """No worker can be started now."""


class WorkersStoppedError(WorkerError):
    """The pool is stopped."""


class TaskFailedError(Exception):
    """The task raised an error that is not one of ours; its notes hold the worker's traceback."""


@dataclass(frozen=True, kw_only=True)
class Handler:
    """What a worker does.

    Attributes:
        run: does one task.
        ready: reported once, when the worker is ready for tasks; a replacement must report the same.
        idle: called while no task comes; says whether there is more to do. None for nothing.
    """

    run: Callable[[Any], Any]
    ready: object = None
    idle: Callable[[], bool] | None = None


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a task gave.

    Attributes:
        value: the handler's.
        seconds: CPU time that it took.
        began_s: when a worker got it, on the monotonic clock; None where it was no worker.
    """

    value: Any
    seconds: float
    began_s: float | None = None


def fork_server() -> ForkServerContext:
    """The context in which workers start: a server that has loaded what reading and preparing need, and no tensors.

    Workers that read or prepare are replaced in milliseconds; the model's load torch themselves.
    """
    # Not fork: threads of torch run in this process.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["app.serving.reading.pool", "app.serving.inference.preparing"])
    return context


_starting = threading.Lock()


@contextlib.contextmanager
def _program_hidden() -> Iterator[None]:
    """Keep multiprocessing from running the started program again in a new worker.

    Workers need nothing of `ionpath` itself, nor of Ray's program; importing what these do takes half a second or more.
    """
    program = sys.modules["__main__"].__dict__
    with _starting:
        # Removed rather than set to None: torch may look up the files of all modules meanwhile, and fails on None.
        path, spec = program.pop("__file__", None), program.get("__spec__")
        program["__spec__"] = None
        try:
            yield
        finally:
            program["__spec__"] = spec
            if path is not None:
                program["__file__"] = path


class Worker:
    """One process; used by one thread at a time, but for `kill`.

    Args:
        name: of the process.
        open_handler: a function of a module that gives the worker's Handler.
        arguments: of that function, pickled.
        memory_mib: most address space of the process; None sets no limit.
        nice: steps of priority below this process.
    """

    def __init__(
        self,
        name: str,
        open_handler: Callable[..., Handler],
        *arguments: object,
        memory_mib: int | None = None,
        nice: int = USUAL_NICE,
    ) -> None:
        context = fork_server()
        self._closing = threading.Lock()
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_work, args=(other, open_handler, arguments, memory_mib, nice), name=name, daemon=True
        )
        with _program_hidden():
            self._process.start()
        other.close()

    def send(self, message: object, timeout_s: float) -> None:
        """Send a message; a process that does not take it in time is ended.

        Raises:
            TaskFailedError: it cannot be pickled; the process knows nothing of it.
            WorkerCrashedError: the process ended.
        """
        try:
            content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            raise TaskFailedError(f"the task cannot be sent: {type(error).__name__}: {error}") from error
        # A pipe holds some messages of a process that stands still; of a larger one the rest would wait for ever.
        watch = threading.Timer(timeout_s, self.kill) if len(content) > _PIPE_HOLDS_BYTES else None
        try:
            if watch is not None:
                watch.start()
            self._connection.send_bytes(content)
        except OSError as error:
            raise WorkerCrashedError(repr(error)) from error
        finally:
            if watch is not None:
                watch.cancel()

    def receive(self, timeout_s: float, *, busy_factor: float = 1.0) -> Any:
        """Wait for a message.

        Args:
            timeout_s: most processor time of the process until it comes, seconds.
            busy_factor: that time times this is the limit on the wall clock.

        Raises:
            WorkerCrashedError: the process ended.
            WorkerTimeoutError: none came in time.
        """
        begun_s, used_s = time.monotonic(), self._processor_s()
        left_s = timeout_s
        try:
            while not self._connection.poll(max(left_s, _LEAST_POLL_S)):
                left_s = min(
                    timeout_s - (self._processor_s() - used_s),
                    busy_factor * timeout_s - (time.monotonic() - begun_s),
                )
                if left_s <= 0.0:
                    raise WorkerTimeoutError(f"it took more than {timeout_s:g} s")
            return pickle.loads(self._connection.recv_bytes())  # noqa: S301 # from a process of our own
        except (EOFError, OSError) as error:
            raise WorkerCrashedError(repr(error)) from error

    def _processor_s(self) -> float:
        """Processor time of the process since it began; infinite once it has ended."""
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.NoSuchProcess:
            return math.inf
        return float(times.user + times.system)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def kill(self) -> None:
        """End the process at once; a thread that waits for its message gets WorkerCrashedError."""
        self._process.kill()

    def end(self) -> int | None:
        """Kill it, clean up, and return its exit code; a thread that stops and one whose task ends may both call it."""
        self._process.kill()
        self._process.join()
        with self._closing:
            if not self._connection.closed:
                self._connection.close()
        return self._process.exitcode


def freeze_gc() -> None:
    """Have the garbage collector skip all that is loaded by now; it stays until the process ends.

    Scanning libraries and networks took 0.4 s, every ten seconds under load, and the process does nothing else
    meanwhile.
    """
    gc.collect()  # what loading left behind would stay as well
    gc.freeze()


def _work(
    connection: Connection,
    open_handler: Callable[..., Handler],
    arguments: tuple[object, ...],
    memory_mib: int | None,
    nice: int,
) -> None:
    """Do tasks until the other end of the pipe closes."""
    _ignore_signals()
    threading.Thread(target=_end_with_the_service, daemon=True).start()
    os.nice(nice)
    if memory_mib is not None:
        with contextlib.suppress(ValueError, OSError):  # not every system limits address space
            resource.setrlimit(resource.RLIMIT_AS, (memory_mib * _MIB, memory_mib * _MIB))
    try:
        handler = open_handler(*arguments)
    except Exception as error:  # noqa: BLE001 # sent to the service, which does not start then
        _send(connection, _portable(error))
        return
    freeze_gc()
    _send(connection, handler.ready)
    idle = handler.idle
    while True:
        while idle is not None and not connection.poll(IDLE_S):
            if not idle():
                idle = None
                freeze_gc()
        try:
            task = connection.recv()
        except EOFError:
            return
        except Exception as error:  # noqa: BLE001 # the message was read all the same
            _send(connection, _portable(error))
            continue
        _send(connection, _done(handler, task))


def _done(handler: Handler, task: object) -> Done | Exception:
    started_s = time.process_time()
    try:
        value = handler.run(task)
    except Exception as error:  # noqa: BLE001 # whatever one task does, the worker goes on; its caller reports it
        return _portable(error)
    return Done(value=value, seconds=time.process_time() - started_s)


def _send(connection: Connection, message: object) -> None:
    try:
        content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 # the caller must hear something, or it waits until its timeout
        content = pickle.dumps(TaskFailedError(f"the result cannot be sent: {type(error).__name__}: {error}"))
    connection.send_bytes(content)


def _portable(error: Exception) -> Exception:
    """The error itself where it is one of ours, else a TaskFailedError that says what it was."""
    if isinstance(error, IonpathError) or type(error).__module__.partition(".")[0] == "app":
        return error
    failed = TaskFailedError(f"{type(error).__name__}: {error}")
    failed.add_note("".join(traceback.format_exception(error)))
    return failed


def _end_with_the_service() -> None:
    """End this process when the service's was killed: one that hangs in a task does not see that its pipe closed."""
    service = multiprocessing.parent_process()
    if service is not None:
        service.join()
        os._exit(1)


def _ignore_signals() -> None:
    """Let Ctrl-C and SIGTERM, which go to a whole process group, end no worker: the service drains, then ends it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
