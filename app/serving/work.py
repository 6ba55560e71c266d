"""What waits for the model: bands on their way through preparation to a batch, bounded by their cost.

Shared by the event loop, which admits and drops, and by the threads that prepare and run. Costs are line-graph
edges; a band's cost is estimated from its atoms until its graph is built.
"""

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.crystals.band import MODEL_IMAGE_COUNT, Band
from app.errors import BusyError, NotReadyError
from app.models.prediction import Prediction
from app.serving.promises import Promises, Ticket
from app.serving.work_items import BatchPredictor, Place, Stage, WorkItem

#: Twelve neighbours an atom, each paired with the eleven others: where the estimate starts.
FIRST_COST_PER_ATOM = 132.0
#: Weight of the newest figure in the running ones: about the last ten count.
NEWEST_WEIGHT = 0.1
#: Prepared batches that may wait for the model: one is next, one gives room; more would only hold memory.
BATCHES_AHEAD = 2
#: A place is for a typical band; one so many times as large has a place too.
PLACE_HOLDS = 4
LEAST_RETRY_AFTER_S = 0.1
FIRST_RETRY_AFTER_S = 1.0


@dataclass(kw_only=True)
class _Figures:
    """What was learned of one model's costs."""

    cost_per_atom: float = FIRST_COST_PER_ATOM
    largest_batch_cost: int | None = None


def _size(band: Band) -> int:
    return len(band.host_species) + MODEL_IMAGE_COUNT


@dataclass(kw_only=True, eq=False)
class WorkQueue:
    """A queue bounded by cost, from which threads take bands to prepare and batches to run.

    Args:
        queue_cost: most cost that waits; one item, or one crystal's hops, above it is let in when nothing waits.
        queue_wait_s: most work that waits, seconds at the speed that was measured; two batches may always wait.
        least_bands: so many bands may wait as well, but where places are kept for others.
        batch_cost: most cost of a batch of two or more.
        batch_wait_s: how long a batch waits for more, only while more is being prepared.
    """

    queue_cost: int
    queue_wait_s: float
    batch_cost: int
    batch_wait_s: float
    least_bands: int = 0
    waiting_cost: int = field(default=0, init=False)
    entering_cost: int = field(default=0, init=False)
    running_cost: int = field(default=0, init=False)
    cost_per_s: float | None = field(default=None, init=False)
    draining: bool = field(default=False, init=False)
    closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._can_prepare = threading.Condition(self._lock)
        self._can_run = threading.Condition(self._lock)
        self._waiting: deque[WorkItem] = deque()
        self._ready: deque[WorkItem] = deque()
        self._ready_cost = 0
        self._preparing = 0
        self._preparing_for: Counter[str] = Counter()
        self._figures: dict[str, _Figures] = {}
        self._finished_at = 0.0
        self._last_model: str | None = None
        self._promises = Promises()
        self._entering = 0
        self._typical_cost = FIRST_COST_PER_ATOM * 100

    @property
    def timely_cost(self) -> int:
        """Where so much waits already, a newcomer would wait too long."""
        if self.cost_per_s is None:
            return self.queue_cost
        in_time = max(int(self.queue_wait_s * self.cost_per_s), BATCHES_AHEAD * self.batch_cost)
        return min(in_time, self.queue_cost)

    @property
    def held_items(self) -> int:
        """How many bands wait, are being prepared, or have a place and are being read."""
        return len(self._waiting) + self._preparing + len(self._ready) + self._entering

    @property
    def held_cost(self) -> int:
        """Cost of the same."""
        return self.waiting_cost + self.entering_cost

    def admit(
        self,
        predictor: BatchPredictor,
        bands: Sequence[Band],
        futures: Sequence[asyncio.Future[Prediction]],
        *,
        request_id: str | None = None,
        ticket: Ticket | None = None,
        place: Place | None = None,
    ) -> list[WorkItem]:
        """Let bands in together or not at all.

        A refused ticket that comes back when it was told to finds a place: newcomers leave it up to half of the room.
        One who has a place already, from before it was read, is not refused for the time it would wait.

        Raises:
            BusyError: their cost would take the queue past its bound.
            NotReadyError: the queue is closed.
        """
        now = time.monotonic()
        with self._lock:
            if self.closed or self.draining:
                raise NotReadyError("The service is stopping.", kind="stopping")
            per_atom = self._figures_of(predictor).cost_per_atom
            items = [
                WorkItem(
                    predictor=predictor,
                    band=band,
                    future=future,
                    cost=max(1, int(per_atom * _size(band))),
                    admitted_at=now,
                    request_id=request_id,
                )
                for band, future in zip(bands, futures, strict=True)
            ]
            cost = sum(item.cost for item in items)
            # A newcomer's place holds one band: for a crystal's other hops it has none. Whoever came back when told
            # has waited for all of them, also where it was read for longer than a place is lent.
            has_place = place is not None and (place.promised or (place.cost > 0 and cost <= PLACE_HOLDS * place.cost))
            if place is not None:
                self._give_up(place)
            if self._is_full(ticket, cost, now, has_place=has_place):
                raise self._busy(ticket, cost, now)
            self._promises.keep(ticket)
            self.waiting_cost += cost
            self._waiting.extend(items)
            self._can_prepare.notify(len(items))
        return items

    def enter(self, ticket: Ticket | None) -> Place:
        """Give one whose band is not read yet a place for a typical band, or for what it was promised.

        `leave` gives it back.

        Raises:
            BusyError: there is no room for it.
        """
        now = time.monotonic()
        with self._lock:
            # A crystal, or a large band, was promised room for what it cost when it had been read.
            promised_cost = self._promises.cost_due(ticket, now_s=now)
            cost = max(int(self._typical_cost), promised_cost)
            if self._is_full(ticket, cost, now, is_read=False):
                raise self._busy(ticket, cost, now, is_read=False)
            self._promises.keep(ticket)
            self.entering_cost += cost
            self._entering += 1
            return Place(cost=cost, promised=promised_cost > 0)

    def leave(self, place: Place) -> None:
        """Take back a place; one that was used is gone already."""
        with self._lock:
            self._give_up(place)

    def _give_up(self, place: Place) -> None:
        if place.cost:
            self.entering_cost -= place.cost
            self._entering -= 1
            place.cost = 0

    def drop(self, item: WorkItem) -> None:
        """Forget an item whose client left; one that runs already is left to finish."""
        with self._lock:
            if item.stage in {Stage.TAKEN, Stage.DROPPED}:
                return
            self.waiting_cost -= item.cost
            if item.stage is Stage.WAITING:
                self._waiting.remove(item)
            elif item.stage is Stage.READY:
                self._ready.remove(item)
                self._ready_cost -= item.cost
                self._can_prepare.notify()
            item.stage = Stage.DROPPED
            item.graph = None

    def next_to_prepare(self) -> WorkItem | None:
        """Wait for a band to prepare; None once the queue is closed."""
        with self._lock:
            while not self.closed and (item := self._preparable()) is None:
                self._can_prepare.wait()
            if self.closed or item is None:
                return None
            self._waiting.remove(item)
            item.stage = Stage.PREPARING
            item.alone = not (self._waiting or self._preparing or self._ready or self.running_cost)
            self._preparing += 1
            self._preparing_for[item.predictor.name] += 1
            return item

    def prepared(self, item: WorkItem, graph: Any, cost: int) -> None:
        """Take a prepared item back, with its true cost; a dropped one is forgotten."""
        with self._lock:
            self._preparing -= 1
            self._preparing_for[item.predictor.name] -= 1
            figures = self._figures_of(item.predictor)
            figures.cost_per_atom += NEWEST_WEIGHT * (cost / _size(item.band) - figures.cost_per_atom)
            self._typical_cost += NEWEST_WEIGHT * (cost - self._typical_cost)
            if item.stage is Stage.PREPARING:
                self.waiting_cost += cost - item.cost
                item.cost, item.graph, item.stage = cost, graph, Stage.READY
                self._ready_cost += cost
                self._ready.append(item)
            self._can_run.notify()

    def unprepared(self, item: WorkItem) -> None:
        """Take an item out that could not be prepared."""
        with self._lock:
            self._preparing -= 1
            self._preparing_for[item.predictor.name] -= 1
            if item.stage is Stage.PREPARING:
                self.waiting_cost -= item.cost
                item.stage = Stage.TAKEN
            self._can_run.notify()

    def next_batch(self) -> list[WorkItem] | None:
        """Wait for work and take a batch of one model, oldest first; None once the queue is closed."""
        with self._lock:
            while not self.closed:
                if self._ready:
                    self._linger()
                if self._ready:
                    return self._take()
                if not self.closed:
                    self._can_run.wait()
            return None

    def finished(self, batch: Sequence[WorkItem], *, cost: int, largest_passed: int | None) -> None:
        """Learn from a batch that ran: the throughput, and how large a batch the device holds.

        Args:
            batch: its items.
            cost: its cost, line-graph edges.
            largest_passed: where memory ran out, the cost of the largest part that passed; else None.
        """
        now = time.monotonic()
        with self._lock:
            self.running_cost -= cost
            # From the batch before, or from the arrival after idling: preparation that held the model up counts.
            started = max(self._finished_at, min(item.admitted_at for item in batch))
            rate = cost / max(now - started, 1e-6)
            self._finished_at = now
            self.cost_per_s = (
                rate if self.cost_per_s is None else self.cost_per_s + NEWEST_WEIGHT * (rate - self.cost_per_s)
            )
            figures = self._figures_of(batch[0].predictor)
            if largest_passed is not None:
                figures.largest_batch_cost = max(1, largest_passed)
            elif figures.largest_batch_cost is not None:
                # Memory may come free again: feel the way back up, 5 % a batch.
                grown = figures.largest_batch_cost + figures.largest_batch_cost // 20 + 1
                figures.largest_batch_cost = grown if grown < self.batch_cost else None

    def drain(self) -> None:
        """Let nothing more in; what is in goes on."""
        with self._lock:
            self.draining = True

    def close(self) -> None:
        """Let nothing more in and send every thread home."""
        with self._lock:
            self.closed = True
            self._can_prepare.notify_all()
            self._can_run.notify_all()

    def _figures_of(self, predictor: BatchPredictor) -> _Figures:
        return self._figures.setdefault(predictor.name, _Figures())

    def _is_full(
        self, ticket: Ticket | None, cost: int, now: float, *, has_place: bool = False, is_read: bool = True
    ) -> bool:
        if not self.held_cost:
            return False
        held = self._held_for(is_read=is_read)
        if held and held + cost > self.queue_cost:
            return True
        if has_place:
            return False
        few = self.held_items < self.least_bands
        if few and not self._promises.any_left(now_s=now):
            return False
        # Its own cost does not count against time: for that it waits in any case.
        timely = self.timely_cost
        is_due = self._promises.is_due(ticket, now_s=now)
        kept = 0 if is_due else min(self._promises.due_cost(now_s=now), timely // 2)
        return self.held_cost + kept >= timely

    def _held_for(self, *, is_read: bool) -> int:
        """What counts against the queue's memory: for one that was read, only others that were as well.

        They are certain. Some that are being read turn out to be no bands at all, and their places are guesses.
        """
        return self.waiting_cost if is_read else self.held_cost

    def _busy(self, ticket: Ticket | None, cost: int, now: float, *, is_read: bool = True) -> BusyError:
        """Say when there will be room for this cost, at the speed that was measured."""
        # An item larger than the whole queue needs it empty; a smaller one only its own room.
        beyond = self._held_for(is_read=is_read) + min(cost, self.queue_cost) - self.queue_cost
        if self.cost_per_s is None:
            retry_after_s = FIRST_RETRY_AFTER_S
        else:
            late = self.held_cost - self.timely_cost
            excess = max(0, beyond, late) + self.running_cost
            wait_s = self._promises.promise(ticket, cost, excess=excess, cost_per_s=self.cost_per_s, now_s=now)
            retry_after_s = max(LEAST_RETRY_AFTER_S, wait_s)
        bound = (
            f"IONPATH_QUEUE_COST allows {self.queue_cost:,}"
            if beyond > 0
            else f"IONPATH_QUEUE_WAIT_S allows {self.timely_cost:,} now"
        )
        return BusyError(
            f"{self.held_items} bands wait or are being read already (their cost is {self.held_cost:,} line-graph "
            f"edges; {bound}).",
            retry_after_s=retry_after_s,
        )

    def _preparable(self) -> WorkItem | None:
        """The oldest waiting item whose model has less than its batches ahead: a slow model holds up no other."""
        ahead: dict[str, int] = {}
        for item in self._ready:
            ahead[item.predictor.name] = ahead.get(item.predictor.name, 0) + item.cost
        enough = BATCHES_AHEAD * self.batch_cost
        return next((item for item in self._waiting if ahead.get(item.predictor.name, 0) < enough), None)

    def _linger(self) -> None:
        """Wait for what is being prepared, shortly, while the batch has room."""
        until = time.monotonic() + self.batch_wait_s
        while not self.closed and self._ready_cost < self.batch_cost and self._more_may_join():
            left = until - time.monotonic()
            if left <= 0:
                return
            self._can_run.wait(left)

    def _more_may_join(self) -> bool:
        """Whether a band of the model whose turn it is waits or is being prepared; others are nothing to wait for."""
        if not self._ready:
            return False
        name = self._next_model().name
        return self._preparing_for[name] > 0 or any(item.predictor.name == name for item in self._waiting)

    def _next_model(self) -> BatchPredictor:
        """The model whose turn it is: many bands of a slow one hold up no other for longer than one batch."""
        return next(
            (item.predictor for item in self._ready if item.predictor.name != self._last_model),
            self._ready[0].predictor,
        )

    def _take(self) -> list[WorkItem]:
        predictor = self._next_model()
        self._last_model = predictor.name
        largest = self._figures_of(predictor).largest_batch_cost
        room = self.batch_cost if largest is None else min(largest, self.batch_cost)
        batch: list[WorkItem] = []
        cost = 0
        for item in self._ready:
            if item.predictor is not predictor:
                continue
            if batch and cost + item.cost > room:  # always one: an item larger than the whole budget goes alone
                break
            batch.append(item)
            cost += item.cost
        for item in batch:
            self._ready.remove(item)
            item.stage = Stage.TAKEN
        self._ready_cost -= cost
        self.waiting_cost -= cost
        self.running_cost += cost
        self._can_prepare.notify_all()
        return batch
