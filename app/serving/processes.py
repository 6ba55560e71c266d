"""How this service starts its helpers: forked from one server that has loaded what they need, and no tensors."""

import multiprocessing
import pickle
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any


def forked() -> ForkServerContext:
    """The context that they are started in; a helper that was killed is replaced in milliseconds."""
    # Not fork: threads of torch run here.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["app.serving.parsing", "app.serving.preparing", "app.models.preparation"])
    return context


class HelperGoneError(Exception):
    """The process died."""


class HelperTooLongError(Exception):
    """The process was too long about its answer."""


class Helper:
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
            HelperGoneError: the process died.
            HelperTooLongError: the answer took too long; the process must be ended.
        """
        try:
            self._connection.send(message)
        except OSError as error:
            raise HelperGoneError(repr(error)) from error
        return self.told(timeout_s)

    def told(self, timeout_s: float) -> Any:
        """Wait for what it says by itself; raises as `ask`."""
        try:
            if not self._connection.poll(timeout_s):
                raise HelperTooLongError(f"it took more than {timeout_s:g} s")
            return pickle.loads(self._connection.recv_bytes())  # noqa: S301 # from a process of our own
        except (EOFError, OSError) as error:
            raise HelperGoneError(repr(error)) from error

    def end(self) -> int | None:
        """Kill it and give its exit code."""
        self._process.kill()
        self._process.join()
        self._connection.close()
        return self._process.exitcode


def tell(connection: Connection, answer: object) -> None:
    """Send an answer from within a helper."""
    connection.send_bytes(pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL))


def or_raised(answer: Any) -> Any:
    """What a helper gave, unless that is an error."""
    if isinstance(answer, Exception):
        raise answer
    return answer
