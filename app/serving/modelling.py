"""The process that runs the model on a CPU: a forward pass is a thousand short operations that ask for the interpreter.

In a thread of the service they ask behind all that is read, answered and refused: the busier, the slower its model.
"""

import signal
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from app.errors import IonpathError
from app.models.cards import CheckpointError
from app.models.prediction import Prediction
from app.models.predictor import OutOfMemoryError
from app.models.registry import Registry
from app.serving.processes import Helper, HelperGoneError, HelperTooLongError, or_raised, tell
from app.serving.work import BatchPredictor

#: Loading torch and every checkpoint takes some five seconds; a machine that does much else takes longer.
START_TIMEOUT_S = 120.0

_log = structlog.get_logger(__name__)


class ModelFailedError(Exception):
    """A forward pass failed or ended its process; says what the process said."""


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What the process loads: as `Registry.open` takes it."""

    store: Path
    default: str
    threads: int


class ModelProcess:
    """One process with every checkpoint on the CPU; used by the batcher's one model thread.

    Args:
        loading: what it loads.
        timeout_s: a forward pass that takes longer ends it, seconds.
    """

    def __init__(self, loading: Loading, timeout_s: float) -> None:
        self._loading = loading
        self._timeout_s = timeout_s
        self._helper: Helper | None = None
        self._changing = threading.Lock()  # no process is started once the service stops
        self._stopping = False

    def start(self) -> None:
        """Start it and wait until it is warm.

        Raises:
            CheckpointError: a checkpoint is missing or damaged.
            ModelFailedError: it did not start otherwise.
        """
        with self._changing:
            if self._stopping:
                raise ModelFailedError("the service is stopping")
            helper = self._helper = Helper("model", _serve, self._loading)
        try:
            or_raised(helper.told(START_TIMEOUT_S))
        except (HelperGoneError, HelperTooLongError) as error:
            raise ModelFailedError(f"the model's process did not start: {error}") from error

    def stop(self) -> None:
        """End it, whatever it does."""
        with self._changing:
            self._stopping = True
            if self._helper is not None:
                self._helper.end()
                self._helper = None

    def predict(self, predictor: BatchPredictor, graphs: Sequence[Any]) -> list[Prediction]:
        """Predict as `predictor.predict` does.

        A process that died is replaced. A lone band is then asked for once more, since mostly it died of nothing that
        the band did; of several the caller tries each half.

        Raises:
            OutOfMemoryError: there is no memory for so many at once.
            ModelFailedError: the pass failed or ended the process.
        """
        for attempt in range(2):
            if self._helper is None:
                self.start()
            assert self._helper is not None
            try:
                answer: list[Prediction] = or_raised(self._helper.ask((predictor.name, list(graphs)), self._timeout_s))
            except (HelperGoneError, HelperTooLongError) as error:
                self._end(str(error))
                if attempt or len(graphs) > 1 or isinstance(error, HelperTooLongError):
                    raise ModelFailedError(f"the model's process ended at {len(graphs)} bands: {error}") from error
            else:
                return answer
        raise AssertionError("the second attempt returns or raises")

    def _end(self, why: str) -> None:
        with self._changing:
            if self._helper is not None:
                _log.warning("model-process-gone", exit_code=self._helper.end(), why=why)
                self._helper = None


def _serve(connection: Connection, loading: Loading) -> None:
    """Load and warm every checkpoint, say so, and predict what is asked for until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the service drains first
    try:
        registry = Registry.open(loading.store, "cpu", default=loading.default, threads=loading.threads)
        for name in registry.names():
            registry.predictor(name).warm_up()
    except CheckpointError as error:
        tell(connection, error)
        return
    except Exception as error:  # noqa: BLE001 # told to the service, which does not start then
        tell(connection, ModelFailedError(f"{type(error).__name__}: {error}"))
        return
    tell(connection, None)
    while True:
        try:
            name, graphs = connection.recv()
        except EOFError:
            return
        tell(connection, _predicted(registry, name, graphs))


def _predicted(registry: Registry, name: str, graphs: Sequence[Any]) -> object:
    try:
        return registry.predictor(name).predict(graphs)
    except (IonpathError, OutOfMemoryError) as error:
        return error
    except Exception as error:  # noqa: BLE001 # whatever one batch does, the process goes on; the service logs it
        failed = ModelFailedError(f"{type(error).__name__}: {error}")
        failed.add_note(traceback.format_exc())
        return failed
