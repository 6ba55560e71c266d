"""The batcher: bands from many requests through few threads, in batches of bounded cost.

Threads have graphs prepared, one thread runs the model, and the event loop only admits and answers, so that the three
overlap and a request costs the loop one future. The threads take their work themselves: between two batches the
model never waits for the loop.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import structlog

from app.crystals.band import Band
from app.errors import IonpathError, NotReadyError, TooLargeError
from app.models.prediction import Prediction
from app.models.predictor import OutOfMemoryError
from app.serving.metrics import Metrics
from app.serving.preparing import LateDescriptors, PreparingFailedError
from app.serving.promises import Ticket
from app.serving.work import WorkQueue
from app.serving.work_items import BatchPredictor, Place, WorkItem

Outcome = Prediction | IonpathError
Predict = Callable[[BatchPredictor, Sequence[Any]], list[Prediction]]

_log = structlog.get_logger(__name__)


class Prepare(Protocol):
    """As PreparingProcesses.prepare; what is given may have LateDescriptors by the name of `late`."""

    def __call__(self, predictor: BatchPredictor, band: Band, /, *, alone: bool) -> Any:
        """Prepare a band."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of a batch that went through, or failed, as one forward pass."""

    items: Sequence[WorkItem]
    outcomes: Sequence[Outcome]
    cost: int
    memory_ran_out: bool = False


class Batcher:
    """Predicts bands by any number of models, one forward pass at a time.

    Args:
        queue_cost: most cost that waits, line-graph edges; past it BusyError.
        queue_wait_s: most work that waits, seconds at the speed that was measured; past it BusyError.
        batch_cost: most cost of one forward pass, line-graph edges; a larger item goes alone.
        batch_wait_ms: how long a batch waits for more, only while more is on its way, milliseconds.
        prepare_threads: threads that have bands prepared.
        prepare: what prepares a band for a model, called in these threads; the model's own `graph` where none is given.
        predict: what runs a model on a batch, called in one thread; the model's own `predict` where none is given.
        least_bands: so many bands may wait, however slow the model, but where places are kept for others.
        predict_trouble: in words, why that cannot be done now; None while it can.
        stall_s: a forward pass or preparation that takes longer is reported by `trouble`, seconds.
        metrics: where queue, batches and stages are counted.
    """

    def __init__(
        self,
        *,
        queue_cost: int,
        queue_wait_s: float,
        batch_cost: int,
        batch_wait_ms: float,
        prepare_threads: int,
        stall_s: float,
        metrics: Metrics,
        prepare: Prepare | None = None,
        predict: Predict | None = None,
        predict_trouble: Callable[[], str | None] = lambda: None,
        least_bands: int = 0,
    ) -> None:
        self._queue = WorkQueue(
            queue_cost=queue_cost,
            queue_wait_s=queue_wait_s,
            batch_cost=batch_cost,
            batch_wait_s=batch_wait_ms / 1000.0,
            least_bands=least_bands,
        )
        self._metrics = metrics
        self._prepare = prepare or _prepared_by_the_model
        self._predict = predict or _predicted_by_the_model
        self._predict_trouble = predict_trouble
        self._stall_s = stall_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: set[asyncio.Future[Prediction]] = set()
        self._crash: BaseException | None = None
        # Each thread's entry is when its present piece of work began, None while it waits for one.
        self._busy_since: dict[str, float | None] = {}
        self._threads = [
            threading.Thread(target=self._guarded, args=(self._prepare_next,), name=f"prepare-{index}", daemon=True)
            for index in range(prepare_threads)
        ]
        self._threads.append(threading.Thread(target=self._guarded, args=(self._run_next,), name="model", daemon=True))
        metrics.queue_cost.set_function(lambda: self._queue.held_cost)
        metrics.queue_limit.set_function(lambda: self._queue.timely_cost)
        metrics.queue_items.set_function(lambda: self._queue.held_items)

    def start(self) -> None:
        """Start the threads; answers go to the running event loop."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    async def stop(self, timeout_s: float) -> None:
        """Let nothing more in, give what was accepted up to `timeout_s` seconds, then end the threads."""
        self._queue.drain()
        until = time.monotonic() + timeout_s
        if self._open:
            await asyncio.wait(self._open, timeout=timeout_s)
        self._queue.close()
        self._fail_open(NotReadyError("The service stopped before this was predicted.", kind="stopping"))
        left = max(0.1, until - time.monotonic())
        await asyncio.to_thread(self._join, left)

    @property
    def trouble(self) -> str | None:
        """In words, why nothing can be predicted now; None while all is well."""
        if self._crash is not None:
            return f"the batch loop ended: {type(self._crash).__name__}: {self._crash}"
        if not all(thread.is_alive() for thread in self._threads):
            return "the batch loop does not run"
        now = time.monotonic()
        for name, since in tuple(self._busy_since.items()):
            if since is not None and now - since > self._stall_s:
                return f"thread {name} has been at one piece of work for {now - since:.0f} s"
        return self._predict_trouble()

    @contextlib.contextmanager
    def place(self, ticket: Ticket | None) -> Iterator[Place]:
        """A place in the queue for one who is yet to be read: under overload, reading takes what the model needs.

        It is lent for as long as work may wait: who waits for a reading process would otherwise keep others from a
        model that has nothing to do.

        Raises:
            BusyError: too much waits already.
        """
        loop = asyncio.get_running_loop()
        place = self._queue.enter(ticket)
        lent = loop.call_later(self._queue.queue_wait_s, self.leave, place)
        try:
            yield place
        finally:
            lent.cancel()
            self.leave(place)

    def leave(self, place: Place) -> None:
        """Give a place back; one that was used is gone already."""
        self._queue.leave(place)

    async def submit(
        self,
        band: Band,
        predictor: BatchPredictor,
        *,
        request_id: str | None = None,
        ticket: Ticket | None = None,
        place: Place | None = None,
    ) -> Prediction:
        """Predict one band.

        Args:
            band: what is asked.
            predictor: the model.
            request_id: named in the log where the model fails on it; threads know of no request.
            ticket: who asks for what: where it is refused, a place is kept for the same when it comes back in time.
            place: that it had before it was read.

        Raises:
            BusyError: too much waits already.
            NotReadyError: the service is stopping or its batch loop ended.
            TooLargeError: the device cannot hold the band even alone.
            InputError: the band cannot be predicted.
        """
        return await self._admit([band], predictor, request_id, ticket, place)[0]

    async def submit_many(
        self,
        bands: Sequence[Band],
        predictor: BatchPredictor,
        on_done: Callable[[], None] | None = None,
        *,
        request_id: str | None = None,
        ticket: Ticket | None = None,
        place: Place | None = None,
    ) -> list[Outcome]:
        """Predict the bands of one crystal, admitted together or not at all.

        Args:
            bands: any number of bands.
            predictor: the model.
            on_done: called in the event loop at each band that is done.
            request_id: as for `submit`.
            ticket: as for `submit`; of all of them together.
            place: as for `submit`.

        Returns:
            One prediction or error a band, in order.

        Raises:
            BusyError: too much waits already.
            NotReadyError: the service is stopping or its batch loop ended.
        """
        futures = self._admit(bands, predictor, request_id, ticket, place)
        if on_done is not None:
            for future in futures:
                future.add_done_callback(lambda _: on_done())
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        for outcome in outcomes:
            if not isinstance(outcome, Prediction | IonpathError):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Prediction | IonpathError)]

    def _admit(
        self,
        bands: Sequence[Band],
        predictor: BatchPredictor,
        request_id: str | None,
        ticket: Ticket | None,
        place: Place | None,
    ) -> list[asyncio.Future[Prediction]]:
        if self._crash is not None or self._loop is None:
            raise NotReadyError("The model does not run.", kind="model-stopped")
        loop = self._loop
        futures: list[asyncio.Future[Prediction]] = [loop.create_future() for _ in bands]
        admitted = self._queue.admit(predictor, bands, futures, request_id=request_id, ticket=ticket, place=place)
        for item in admitted:
            item.future.add_done_callback(partial(self._closed, item))
        self._open.update(futures)
        return futures

    def _closed(self, item: WorkItem, future: asyncio.Future[Prediction]) -> None:
        self._open.discard(future)
        if future.cancelled():
            self._queue.drop(item)

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
            self._queue.close()
            self._call(self._fail_open, NotReadyError("The model stopped running.", kind="model-stopped"))

    def _prepare_next(self) -> bool:
        item = self._queue.next_to_prepare()
        if item is None:
            return False
        started = self._begin()
        late: LateDescriptors | None = None
        try:
            graph = self._prepare(item.predictor, item.band, alone=item.alone)
            late = _late(graph)
            cost = max(1, int(item.predictor.cost(graph)))
        except Exception as error:  # noqa: BLE001 # whatever one band does, the others go on; it is told to its client
            failed: Exception | None = error
            self._queue.unprepared(item)
            self._call(self._settle, [item], [_told(error)])
        else:
            failed = None
            self._queue.prepared(item, graph, cost)
        if late is not None:  # also where it failed: who describes must come free
            failed = late.fetch() or failed
        if failed is None:
            self._metrics.observe("prepare", time.monotonic() - started)
        elif not isinstance(failed, IonpathError):
            _log.error("prepare-failed", request_ids=_request_ids([item]), exc_info=failed)
        return True

    def _run_next(self) -> bool:
        batch = self._queue.next_batch()
        if batch is None:
            return False
        started = self._begin()
        for item in batch:
            self._metrics.observe("queue", started - item.admitted_at)
        cost = sum(item.cost for item in batch)
        largest_passed: int | None = None
        parts = [batch]
        memory_ran_out = False
        while parts:
            part = self._forward(parts.pop())
            memory_ran_out |= part.memory_ran_out
            if part.outcomes:
                self._call(self._settle, part.items, part.outcomes)
                if not part.memory_ran_out:
                    largest_passed = max(largest_passed or 0, part.cost)
            elif part.items:
                half = len(part.items) // 2
                parts += [list(part.items[half:]), list(part.items[:half])]
        for item in batch:
            item.graph = None
        self._queue.finished(batch, cost=cost, largest_passed=(largest_passed or cost // 2) if memory_ran_out else None)
        return True

    def _forward(self, items: Sequence[WorkItem]) -> _Part:
        """Predict items together; without outcomes where they should be tried again in halves."""
        items = [item for item in items if not item.future.cancelled()]
        cost = sum(item.cost for item in items)
        if not items:
            return _Part(items=(), outcomes=(), cost=0)
        started = time.monotonic()
        memory_ran_out = False
        try:
            outcomes: Sequence[Outcome] = self._predict(items[0].predictor, [item.graph for item in items])
            if len(outcomes) != len(items):
                raise _miscounted(len(items), len(outcomes))  # noqa: TRY301 # told like any other failure of the model
        except Exception as error:  # noqa: BLE001 # a failure of the model belongs to the bands that caused it
            memory_ran_out = isinstance(error, OutOfMemoryError)
            # A batch is tried again in halves; what fails alone is told as the service's fault, so the log says why.
            is_fault = len(items) == 1 and not memory_ran_out
            if not isinstance(error, IonpathError | PreparingFailedError):  # the band's, or told by who prepared it
                _log.log(
                    logging.ERROR if is_fault else logging.WARNING,
                    "forward-failed",
                    request_ids=_request_ids(items),
                    bands=len(items),
                    cost=cost,
                    error=repr(error),
                    exc_info=error if is_fault else None,
                )
            outcomes = () if len(items) > 1 else (_too_large(cost) if memory_ran_out else _told(error),)
        else:
            self._metrics.batch(cost=cost, size=len(items), seconds=time.monotonic() - started)
        return _Part(items=items, outcomes=outcomes, cost=cost, memory_ran_out=memory_ran_out)

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
        """Call in the event loop; one that is closed already has nobody left to tell."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _join(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))


def _late(graph: Any) -> LateDescriptors | None:
    late = getattr(graph, "late", None)
    return late if isinstance(late, LateDescriptors) else None


def _prepared_by_the_model(predictor: BatchPredictor, band: Band, *, alone: bool) -> Any:
    del alone  # here both parts would run in the interpreter that the model asks for
    return predictor.graph(band)


def _predicted_by_the_model(predictor: BatchPredictor, graphs: Sequence[Any]) -> list[Prediction]:
    return predictor.predict(graphs)


def _request_ids(items: Sequence[WorkItem]) -> list[str]:
    """Whose bands these are, each request once."""
    return list(dict.fromkeys(item.request_id for item in items if item.request_id is not None))


def _told(error: Exception) -> IonpathError:
    """The error as its client may see it, the cause kept for the log."""
    if isinstance(error, IonpathError):
        return error
    told = IonpathError("The model failed on this band; the service's log says why.", kind="model-failed")
    told.__cause__ = error
    return told


def _miscounted(asked: int, given: int) -> RuntimeError:
    return RuntimeError(f"the model gave {given} predictions for {asked} bands")


def _too_large(cost: int) -> TooLargeError:
    return TooLargeError(
        f"The model's device cannot hold this band (its cost is {cost:,} line-graph edges), even alone.",
        kind="too-large-for-device",
        expected="a band with fewer atoms, or a service whose device has more memory",
    )
