"""How this service starts its worker processes, and how it asks them."""

import gc
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

#: Steps of priority below the service's.
_LATER = 5


def forked() -> ForkServerContext:
    """The context that they are started in: a server that has loaded what reading and preparing need, and no tensors.

    Those that do that are replaced in milliseconds; the model's loads torch by itself.
    """
    # Not fork: threads of torch run here.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["app.serving.parsing", "app.serving.preparing", "app.models.preparation"])
    return context


class WorkerGoneError(Exception):
    """The process died."""


class WorkerTooLongError(Exception):
    """The process was too long about its answer."""


class Worker:
    """A process that answers one question after the other; used by one thread at a time.

    Args:
        name: of the process.
        serve: what it does, a function of a module: given its end of the pipe and the other arguments, it answers each
            message with one of bytes, a pickle, until it reads EOFError.
        arguments: the others, pickled.
    """

    def __init__(self, name: str, serve: Callable[..., None], *arguments: object) -> None:
        context = forked()
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, *arguments), name=name, daemon=True)
        self._process.start()
        other.close()

    def ask(self, message: object, timeout_s: float) -> Any:
        """Send a message and wait for its answer.

        Raises:
            WorkerGoneError: the process died.
            WorkerTooLongError: the answer took too long; the process must be ended.
        """
        self.say(message)
        return self.told(timeout_s)

    def say(self, message: object) -> None:
        """Send a message.

        Raises:
            WorkerGoneError: the process died.
        """
        try:
            self._connection.send(message)
        except OSError as error:
            raise WorkerGoneError(repr(error)) from error

    def told(self, timeout_s: float) -> Any:
        """Wait for what it says by itself; raises as `ask`."""
        try:
            if not self._connection.poll(timeout_s):
                raise WorkerTooLongError(f"it took more than {timeout_s:g} s")
            return pickle.loads(self._connection.recv_bytes())  # noqa: S301 # from a process of our own
        except (EOFError, OSError) as error:
            raise WorkerGoneError(repr(error)) from error

    def end(self) -> int | None:
        """Kill it and give its exit code."""
        self._process.kill()
        self._process.join()
        self._connection.close()
        return self._process.exitcode


def tell(connection: Connection, answer: object) -> None:
    """Send an answer from within a worker."""
    connection.send_bytes(pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL))


def or_raised(answer: Any) -> Any:
    """What a worker gave, unless that is an error."""
    if isinstance(answer, Exception):
        raise answer
    return answer


def let_the_service_go_first() -> None:
    """Leave most of a core to the service's own process where it wants one: it gives all others their work."""
    os.nice(_LATER)


def pass_over_what_is_loaded() -> None:
    """Have the garbage collector leave alone all that is there by now; it stays until the process ends.

    To look through libraries and networks took 0.4 s, every ten seconds under load, and the process does nothing else
    meanwhile.
    """
    gc.collect()  # what loading left behind would stay as well
    gc.freeze()


def leave_signals_to_the_service() -> None:
    """Let Ctrl-C and SIGTERM, which go to a whole group, end no worker: the service drains first, then ends it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
