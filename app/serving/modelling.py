"""The process that runs the model on a CPU: a forward pass is a thousand short operations that ask for the interpreter.

In a thread of the service they ask behind all that is read, answered and refused: the busier, the slower its model.
"""

import contextlib
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from app.cores import usable_cores
from app.errors import IonpathError, NotReadyError
from app.models.cards import CheckpointError
from app.models.prediction import Prediction
from app.models.predictor import OutOfMemoryError
from app.models.preparation import PreparedBand
from app.models.registry import Registry
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

#: Loading torch and every checkpoint takes some five seconds; a machine that does much else takes longer.
START_TIMEOUT_S = 120.0

#: After a start that failed, how long until the next one, seconds.
BACK_OFF_S = 5.0
#: Nobody asks for anything where nothing came for as long: between two batches there is always a moment. Seconds.
IDLE_S = 1.0

_log = structlog.get_logger(__name__)


class ModelFailedError(Exception):
    """A forward pass failed or ended its process; says what the process said."""


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What the process loads: as `Registry.open` takes it.

    Attributes:
        prepared_beside: processes that prepare bands; where they do, these leave them as many cores.
    """

    store: Path
    default: str
    threads: int
    prepared_beside: int = 0


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """What the process says once its default is warm: the digest of each checkpoint."""

    digests: dict[str, str]


class ModelProcess:
    """One process with every checkpoint on the CPU; used by the batcher's one model thread.

    Args:
        loading: what it loads.
        timeout_s: a forward pass that takes longer ends it, seconds.

    Attributes:
        digests: of the checkpoints that it answers with.
        trouble: in words, why it cannot answer now; None while it can.
    """

    def __init__(self, loading: Loading, timeout_s: float) -> None:
        self._loading = loading
        self._timeout_s = timeout_s
        self._worker: Worker | None = None
        self._changing = threading.Lock()  # no process is started once the service stops
        self._stopping = False
        self._not_before_s = 0.0
        self.digests: dict[str, str] = {}
        self.trouble: str | None = None

    def start(self) -> None:
        """Start it and wait until its default is warm.

        Raises:
            CheckpointError: a checkpoint is missing or damaged, or is another than before.
            ModelFailedError: it did not start otherwise.
        """
        with self._changing:
            if self._stopping:
                raise ModelFailedError("the service is stopping")
            worker = self._worker = Worker("model", _serve, self._loading)
        try:
            ready: _Ready = or_raised(worker.told(START_TIMEOUT_S))
            if self.digests and ready.digests != self.digests:
                raise CheckpointError("the model store has other checkpoints than when the service started: restart it")  # noqa: TRY301 # told and backed off from as any other failure of a start
        except Exception as error:
            # What it would still say is an answer to nothing that is asked later.
            self._end(f"it did not start: {error}")
            self.trouble = f"the model's process does not start: {error}"
            self._not_before_s = time.monotonic() + BACK_OFF_S
            if isinstance(error, WorkerGoneError | WorkerTooLongError):
                raise ModelFailedError(self.trouble) from error
            raise
        self.digests = ready.digests
        self.trouble = None

    def stop(self) -> None:
        """End it, whatever it does."""
        with self._changing:
            self._stopping = True
            if self._worker is not None:
                self._worker.end()
                self._worker = None

    def predict(self, predictor: BatchPredictor, graphs: Sequence[Any]) -> list[Prediction]:
        """Predict as `predictor.predict` does.

        A process that died is replaced. A lone band is then asked for once more, since mostly it died of nothing that
        the band did; of several the caller tries each half.

        Raises:
            OutOfMemoryError: there is no memory for so many at once.
            ModelFailedError: the pass failed or ended the process.
            NotReadyError: the process cannot be started.
        """
        try:
            return self._asked(predictor, graphs)
        except WorkerGoneError as error:
            if len(graphs) > 1:
                raise _ended(graphs, error) from error
        try:
            return self._asked(predictor, graphs)
        except WorkerGoneError as error:
            raise _ended(graphs, error) from error

    def _asked(self, predictor: BatchPredictor, graphs: Sequence[Any]) -> list[Prediction]:
        late = getattr(graphs[0], "late", None) if len(graphs) == 1 else None
        whole = list(graphs) if late else [_whole(graph) for graph in graphs]
        worker = self._running()
        try:
            if late is None:
                answer = worker.ask((predictor.name, whole, False), self._timeout_s)
            else:
                answer = _ask_before_it_is_described(worker, predictor.name, whole[0], late, self._timeout_s)
        except WorkerGoneError as error:
            self._end(str(error))
            raise
        except WorkerTooLongError as error:
            self._end(str(error))
            raise _ended(graphs, error) from error
        except Exception as error:
            self._end(f"it may be at another question now: {error!r}")
            raise
        predictions: list[Prediction] = or_raised(answer)
        return predictions

    def _running(self) -> Worker:
        """The process, started anew where it died; not more often than each few seconds where that fails."""
        if self._worker is None:
            try:
                if time.monotonic() < self._not_before_s:
                    raise ModelFailedError(self.trouble)  # noqa: TRY301 # told as the failure that it repeats
                self.start()
            except (CheckpointError, ModelFailedError, OSError) as error:
                raise NotReadyError("The model's process cannot be started.", kind="model-stopped") from error
        assert self._worker is not None
        return self._worker

    def _end(self, why: str) -> None:
        with self._changing:
            if self._worker is not None:
                _log.warning("model-process-gone", exit_code=self._worker.end(), why=why)
                self._worker = None


def _ask_before_it_is_described(
    worker: Worker, name: str, graph: PreparedBand, late: Callable[[], Any], timeout_s: float
) -> Any:
    """What the process answers for a lone band whose descriptors are sent after it; the error, where there are none."""
    worker.say((name, [replace(graph, late=None)], True))
    try:
        described = late()
    except Exception as error:  # noqa: BLE001 # given back, when the process has given up the band as well
        worker.ask(ModelFailedError("no descriptors came"), timeout_s)
        return error
    return worker.ask(described, timeout_s)


def _whole(graph: Any) -> Any:
    return graph.whole() if isinstance(graph, PreparedBand) else graph


def _ended(graphs: Sequence[Any], error: Exception) -> ModelFailedError:
    return ModelFailedError(f"the model's process ended at {len(graphs)} bands: {error}")


def _serve(connection: Connection, loading: Loading) -> None:
    """Load every checkpoint, warm the default, say so, and predict what is asked for until nobody asks any more."""
    leave_signals_to_the_service()
    let_the_service_go_first()
    try:
        registry = Registry.open(loading.store, "cpu", default=loading.default, threads=loading.threads)
        registry.predictor().warm_up()
    except CheckpointError as error:
        tell(connection, error)
        return
    except Exception as error:  # noqa: BLE001 # told to the service, which does not start then
        tell(connection, ModelFailedError(f"{type(error).__name__}: {error}"))
        return
    left = max(1, usable_cores() - loading.prepared_beside)
    ways = min(loading.threads or left, left)
    pass_over_what_is_loaded()
    tell(connection, _Ready(digests={name: registry.predictor(name).digest for name in registry.names()}))
    cold = [name for name in registry.names() if name != registry.default_name]
    while True:
        while cold and not connection.poll(IDLE_S):
            _warm(registry, cold.pop())
            if not cold:
                pass_over_what_is_loaded()
        try:
            name, graphs, is_late = connection.recv()
        except EOFError:
            return
        if not is_late:
            tell(connection, _predicted(registry, name, graphs, ways))
            continue
        sent = _SentLater(connection)
        answer = _predicted(registry, name, [replace(graph, late=sent.described) for graph in graphs], ways)
        if sent.taken() is None:  # what a pass that failed did not read must not be the next question
            return
        tell(connection, answer)


def _warm(registry: Registry, name: str) -> None:
    """Run a checkpoint that nobody asked for yet, so that the first who does need not wait for its libraries."""
    with contextlib.suppress(Exception):  # the service's log has it once somebody asks for this one
        registry.predictor(name).warm_up()


class _SentLater:
    """The descriptors that are sent after their band, or an error in their place."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._message: object = None

    def taken(self) -> object:
        """The message, read once; None where nobody sends any more."""
        if self._message is None:
            try:
                self._message = self._connection.recv()
            except EOFError:
                return None
            except Exception as error:  # noqa: BLE001 # the message is read all the same
                self._message = error
        return self._message

    def described(self) -> Any:
        """The descriptors; raises the error."""
        return or_raised(self.taken())


def _predicted(registry: Registry, name: str, graphs: Sequence[Any], ways: int) -> object:
    predictor = registry.predictor(name)
    try:
        # What is prepared beside it takes cores of its own.
        return predictor.predict(graphs, ways=None if predictor.preparation is None else ways)
    except (IonpathError, OutOfMemoryError) as error:
        return error
    except Exception as error:  # noqa: BLE001 # whatever one batch does, the process goes on; the service logs it
        failed = ModelFailedError(f"{type(error).__name__}: {error}")
        failed.add_note(traceback.format_exc())
        return failed
