"""The batcher: bands from many requests through few threads, in batches of bounded cost.

Threads have bands prepared, one thread a track runs the model, and the event loop only adds and answers, so that the
three overlap and a request costs the loop one future. The threads take their work themselves: between two batches the
model never waits for the loop.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from app.crystals.band import Band
from app.errors import IonpathError, NotReadyError, TooLargeError
from app.models.prediction import Prediction
from app.models.predictors.predictor import OutOfMemoryError
from app.serving.inference.model import Predicted, Runner
from app.serving.inference.preparing import Preparer
from app.serving.inference.queue import WorkQueue
from app.serving.inference.work_item import BatchPredictor, Turn, WorkItem
from app.serving.lanes import Lane
from app.serving.metrics import Metrics
from app.serving.worker_process import Done

Outcome = Prediction | IonpathError
#: Called in the event loop with the item of a band that is done.
OnDone = Callable[[WorkItem], None]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of a batch that went through, or failed, as one forward pass.

    Attributes:
        items: those whose clients wait for them.
        outcomes: one an item; none where it is tried again in halves.
        cost: of its items.
        seconds: how long the pass took.
        failed: whether the model raised.
        memory_ran_out: whether that was for want of memory.
    """

    items: Sequence[WorkItem]
    outcomes: Sequence[Outcome]
    cost: int
    seconds: float = 0.0
    failed: bool = False
    memory_ran_out: bool = False


@dataclass(kw_only=True, eq=False)
class Track:
    """A queue and what runs the model on it: a slow model has one of its own, so that it holds up no quick one.

    Attributes:
        name: of its thread.
        queue: what waits for it.
        runner: runs a model on a batch.
    """

    name: str
    queue: WorkQueue
    runner: Runner


@dataclass(kw_only=True, eq=False)
class Batcher:
    """Predicts bands by any number of models, one forward pass a track at a time.

    Args:
        tracks: by the lane whose work they do.
        lane_of: the lane of a model.
        prepare_threads: threads that have bands of the main track prepared.
        preparer: prepares bands for a model, in these threads.
        stall_s: a forward pass or preparation that takes longer is reported by `trouble`, seconds.
        metrics: where batches and stages are counted.
    """

    tracks: dict[Lane, Track]
    lane_of: Callable[[BatchPredictor], Lane]
    prepare_threads: int
    preparer: Preparer
    stall_s: float
    metrics: Metrics
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _open: set[asyncio.Future[Prediction]] = field(default_factory=set, init=False)
    _crash: BaseException | None = field(default=None, init=False)
    # Each thread's entry is when its present piece of work began, None while it waits for one.
    _busy_since: dict[str, float | None] = field(default_factory=dict, init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        main = self.tracks[Lane.MAIN].queue
        for number in range(self.prepare_threads):
            self._add_thread(f"prepare-{number}", partial(self._prepare_next, main))
        for track in self.tracks.values():
            self._add_thread(track.name, partial(self._run_next, track))

    def _add_thread(self, name: str, step: Callable[[], bool]) -> None:
        self._threads.append(threading.Thread(target=self._guarded, args=(step,), name=name, daemon=True))

    def __len__(self) -> int:
        """How many bands wait."""
        return sum(len(track.queue) for track in self.tracks.values())

    def start(self) -> None:
        """Start the threads; answers go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    async def stop(self, timeout_s: float) -> None:
        """Take nothing more, answer what was accepted within `timeout_s` seconds, then end the threads."""
        for track in self.tracks.values():
            track.queue.drain()
        until = time.monotonic() + timeout_s
        if self._open:
            await asyncio.wait(self._open, timeout=timeout_s)
        self._close_queues()
        self._fail_open(NotReadyError("The service stopped before this was predicted.", kind="stopping"))
        left = max(0.1, until - time.monotonic())
        await asyncio.to_thread(self._join, left)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be predicted now; None while all is well."""
        if self._crash is not None:
            return f"the batch loop ended: {type(self._crash).__name__}: {self._crash}"
        if not all(thread.is_alive() for thread in self._threads):
            return "the batch loop does not run"
        now = time.monotonic()
        for name, since in tuple(self._busy_since.items()):
            if since is not None and now - since > self.stall_s:
                return f"thread {name} has been at one piece of work for {now - since:.0f} s"
        return self.tracks[Lane.MAIN].runner.trouble

    async def submit(
        self,
        bands: Sequence[Band],
        predictor: BatchPredictor,
        *,
        turn: Turn = Turn.BAND,
        on_done: OnDone | None = None,
        request_id: str | None = None,
    ) -> list[Outcome]:
        """Predict the bands of one request.

        Args:
            bands: any number of bands.
            predictor: the model.
            turn: what they are: bands of their own, hops of a crystal, or a job's.
            on_done: called in the event loop at each band that is done.
            request_id: named in the log where the model fails on one; threads know of no request.

        Returns:
            One prediction or error a band, in order.

        Raises:
            NotReadyError: the service is stopping or its batch loop ended.
        """
        futures = self._add(bands, predictor, turn, on_done, request_id)
        try:
            outcomes = await asyncio.gather(*futures, return_exceptions=True)
        finally:
            for future in futures:
                future.cancel()
        for outcome in outcomes:
            if not isinstance(outcome, Prediction | IonpathError):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Prediction | IonpathError)]

    def _add(
        self,
        bands: Sequence[Band],
        predictor: BatchPredictor,
        turn: Turn,
        on_done: OnDone | None,
        request_id: str | None,
    ) -> list[asyncio.Future[Prediction]]:
        if self._crash is not None or self._loop is None:
            raise NotReadyError("The model does not run.", kind="model-stopped")
        loop = self._loop
        queue = self.tracks[self.lane_of(predictor)].queue
        futures: list[asyncio.Future[Prediction]] = [loop.create_future() for _ in bands]
        for item in queue.add(predictor, bands, futures, turn=turn, request_id=request_id):
            item.future.add_done_callback(partial(self._closed, queue, item, on_done))
        self._open.update(futures)
        return futures

    def _closed(
        self, queue: WorkQueue, item: WorkItem, on_done: OnDone | None, future: asyncio.Future[Prediction]
    ) -> None:
        self._open.discard(future)
        if future.cancelled():
            queue.drop(item)
        elif on_done is not None:
            on_done(item)

    def _close_queues(self) -> None:
        for track in self.tracks.values():
            track.queue.close()

    def _guarded(self, step: Callable[[], bool]) -> None:
        """Run a thread's steps; should one raise, say so everywhere instead of falling silent."""
        name = threading.current_thread().name
        self._busy_since[name] = None
        try:
            while step():
                self._busy_since[name] = None
        except BaseException as error:  # noqa: BLE001 # even SystemExit from a library must not end the thread unseen
            self._crash = error
            _log.critical("batch-loop-ended", thread=name, exc_info=error)
            self._close_queues()
            self._call(self._fail_open, NotReadyError("The model stopped running.", kind="model-stopped"))

    def _prepare_next(self, queue: WorkQueue) -> bool:
        items = queue.next_to_prepare(self.prepare_threads)
        if not items:
            return False
        started = self._begin()
        for item in items:
            item.began_s = started
        for item, done in zip(items, self._prepared_together(items), strict=True):
            self._take_prepared(queue, item, done)
            self.metrics.observe("prepare", (time.monotonic() - started) / len(items))
        return True

    def _prepared_together(self, items: Sequence[WorkItem]) -> Sequence[Done | None]:
        """Several bands prepared at once; None for each that is to be prepared alone."""
        made: Sequence[Done] | None = None
        if len(items) > 1:
            try:
                made = self.preparer.prepare_together(items[0].predictor, [item.band for item in items])
            except Exception as error:  # noqa: BLE001 # no error may end the thread; each band is then tried alone
                if not isinstance(error, IonpathError):
                    _log.warning("prepare-together-failed", request_ids=_request_ids(items), error=repr(error))
        return [None] * len(items) if made is None else made

    def _take_prepared(self, queue: WorkQueue, item: WorkItem, done: Done | None) -> None:
        """Hand a prepared band to the model's queue, or settle its error; prepare it first if that is not done."""
        if item.future.cancelled():
            queue.unprepared(item)
            return
        try:
            if done is None:
                self._begin()
                done = self.preparer.prepare(item.predictor, item.band)
            if isinstance(done.value, IonpathError):
                raise done.value  # noqa: TRY301 # handled as one of the model's
            cost = max(1, int(item.predictor.cost(done.value)))
        except Exception as error:  # noqa: BLE001 # whatever one band does, the others go on; its client is answered
            if not isinstance(error, IonpathError):
                _log.error("prepare-failed", request_ids=_request_ids([item]), exc_info=error)
            queue.unprepared(item)
            self._call(self._settle, [item], [_shown(error)])
        else:
            item.seconds += done.seconds
            queue.prepared(item, done.value, cost)

    def _run_next(self, track: Track) -> bool:
        batch = track.queue.next_batch()
        if batch is None:
            return False
        started = self._begin()
        for item in batch:
            self.metrics.observe("queue", started - item.admitted_at)
            item.began_s = item.began_s or started
        largest_passed: int | None = None
        passed: list[WorkItem] = []
        seconds = 0.0
        parts = [batch]
        memory_ran_out = False
        while parts:
            part = self._forward(track.runner, parts.pop())
            memory_ran_out |= part.memory_ran_out
            if part.outcomes:
                self._call(self._settle, part.items, part.outcomes)
                if not part.failed:
                    largest_passed = max(largest_passed or 0, part.cost)
                    passed += part.items
                    seconds += part.seconds
            elif part.items:
                half = len(part.items) // 2
                parts += [list(part.items[half:]), list(part.items[:half])]
        for item in batch:
            item.graph = None
        cost = sum(item.cost for item in batch)
        track.queue.finished(
            batch,
            passed=passed,
            seconds=seconds,
            largest_passed=(largest_passed or cost // 2) if memory_ran_out else None,
        )
        return True

    def _forward(self, runner: Runner, items: Sequence[WorkItem]) -> _Part:
        """Predict items together; without outcomes where they should be tried again in halves."""
        items = [item for item in items if not item.future.cancelled()]
        cost = sum(item.cost for item in items)
        if not items:
            return _Part(items=(), outcomes=(), cost=0)
        started = time.monotonic()
        failed = memory_ran_out = False
        try:
            predicted = runner.predict(
                items[0].predictor, [item.band if item.graph is None else item.graph for item in items]
            )
            if len(predicted.predictions) != len(items):
                raise _miscounted(len(items), len(predicted.predictions))  # noqa: TRY301 # handled as any other failure of the model
            _charge(items, predicted)
            outcomes: Sequence[Outcome] = predicted.predictions
        except Exception as error:  # noqa: BLE001 # a failure of the model belongs to the bands that caused it
            failed, memory_ran_out = True, isinstance(error, OutOfMemoryError)
            # A batch is tried again in halves; what fails alone is reported as the service's fault: the log says why.
            is_fault = len(items) == 1 and not memory_ran_out
            if not isinstance(error, IonpathError):
                _log.log(
                    logging.ERROR if is_fault else logging.WARNING,
                    "forward-failed",
                    request_ids=_request_ids(items),
                    bands=len(items),
                    cost=cost,
                    error=repr(error),
                    exc_info=error if is_fault else None,
                )
            outcomes = () if len(items) > 1 else (_too_large(cost) if memory_ran_out else _shown(error),)
        seconds = time.monotonic() - started
        if not failed:
            cost = sum(item.cost for item in items)  # true ones by now
            self.metrics.batch(cost=cost, size=len(items), seconds=seconds)
        return _Part(
            items=items, outcomes=outcomes, cost=cost, seconds=seconds, failed=failed, memory_ran_out=memory_ran_out
        )

    def _begin(self) -> float:
        now = time.monotonic()
        self._busy_since[threading.current_thread().name] = now
        return now

    def _settle(self, items: Sequence[WorkItem], outcomes: Sequence[Outcome]) -> None:
        for item, outcome in zip(items, outcomes, strict=True):
            if item.future.done():
                continue  # its client left while it ran
            if isinstance(outcome, IonpathError):
                item.future.set_exception(outcome)
            else:
                item.future.set_result(outcome)

    def _fail_open(self, error: IonpathError) -> None:
        for future in tuple(self._open):
            if not future.done():
                future.set_exception(error)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """Call in the event loop; does nothing once the loop is closed."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _join(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))


def _charge(items: Sequence[WorkItem], predicted: Predicted) -> None:
    """Note what each band took, and its true cost where the model's worker prepared it."""
    for item, cost in zip(items, predicted.costs, strict=True):
        item.cost = max(1, cost)
    whole = sum(item.cost for item in items)
    for item in items:
        item.seconds += predicted.seconds * item.cost / whole


def _request_ids(items: Sequence[WorkItem]) -> list[str]:
    """Whose bands these are, each request once."""
    return list(dict.fromkeys(item.request_id for item in items if item.request_id is not None))


def _shown(error: Exception) -> IonpathError:
    """The error as its client may see it, the cause kept for the log."""
    if isinstance(error, IonpathError):
        return error
    failed = IonpathError("The model failed on this band; the service's log says why.", kind="model-failed")
    failed.__cause__ = error
    return failed


def _miscounted(asked: int, given: int) -> RuntimeError:
    return RuntimeError(f"the model gave {given} predictions for {asked} bands")


def _too_large(cost: int) -> TooLargeError:
    return TooLargeError(
        f"The model's device cannot hold this band (its cost is {cost:,} line-graph edges), even alone.",
        kind="too-large-for-device",
        expected="a band with fewer atoms, or a service whose device has more memory",
    )
