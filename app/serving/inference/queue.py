"""The queue of bands that wait to be prepared and predicted; what may join it, admission decides.

Shared by the event loop, which adds and drops, and by the threads that have bands prepared and run the model. Costs are
line-graph edges; a band's cost is estimated from its atoms until its graph is built.
"""

import asyncio
import itertools
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.crystals.band import MODEL_IMAGE_COUNT, Band
from app.errors import NotReadyError
from app.models.prediction import Prediction
from app.serving.inference.work_item import BatchPredictor, Stage, Turn, WorkItem

#: Twelve neighbours an atom, each paired with the eleven others: where the estimate starts.
FIRST_COST_PER_ATOM = 132.0
#: Weight of the newest figure in the running ones: about the last ten count.
NEWEST_WEIGHT = 0.1
#: Prepared batches that may wait for the model: one is next, one gives room; more would only hold memory.
BATCHES_AHEAD = 2
#: Bands that are prepared together take two thirds of the time of each alone; more of them hardly less.
PREPARED_TOGETHER = 8
#: A batch that costs at least this share of the largest does not wait for more: a band in a batch of eight takes half
#: of what it takes alone, in one of thirty hardly less, and while the model waits for the rest a core stands idle.
WORTHWHILE_SHARE = 0.25
#: A batch takes no longer than this where its model's speed is known, seconds: others wait for its end.
LONGEST_BATCH_S = 2.0


@dataclass(kw_only=True)
class _Figures:
    """What was learned of one model: its costs, its speed, and how large a batch the device holds."""

    cost_per_atom: float | None = None
    cost_per_s: float | None = None
    largest_batch_cost: int | None = None


def _size(band: Band) -> int:
    return len(band.host_species) + MODEL_IMAGE_COUNT


@dataclass(kw_only=True, eq=False)
class WorkQueue:
    """A queue from which threads take bands to prepare and batches to run.

    Bands, hops of crystals and jobs take turns, and so do models; within each the oldest comes first.

    Args:
        batch_cost: most cost of a batch of two or more.
        batch_wait_s: how long a batch waits for more, only while more is being prepared.
        prepares: whether threads prepare what is in it; else all goes to the model as it is.
    """

    batch_cost: int
    batch_wait_s: float
    prepares: bool = True
    draining: bool = field(default=False, init=False)
    closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._can_prepare = threading.Condition(self._lock)
        self._can_run = threading.Condition(self._lock)
        self._waiting: dict[Turn, deque[WorkItem]] = {turn: deque() for turn in Turn}
        self._ready: deque[WorkItem] = deque()
        self._preparing: Counter[str] = Counter()
        self._running = 0
        self._figures: dict[str, _Figures] = {}
        self._last_model: str | None = None
        self._last_prepared = Turn.JOB
        self._last_first = Turn.JOB

    def __len__(self) -> int:
        """How many bands wait, are being prepared, or are ready; those that run do not count."""
        return sum(map(len, self._waiting.values())) + self._preparing.total() + len(self._ready)

    def add(
        self,
        predictor: BatchPredictor,
        bands: Sequence[Band],
        futures: Sequence[asyncio.Future[Prediction]],
        *,
        turn: Turn,
        request_id: str | None = None,
    ) -> list[WorkItem]:
        """Add bands that were admitted.

        Raises:
            NotReadyError: the queue is closed.
        """
        now = time.monotonic()
        with self._lock:
            if self.closed or self.draining:
                raise NotReadyError("The service is stopping.", kind="stopping")
            per_atom = self._figures_of(predictor).cost_per_atom or FIRST_COST_PER_ATOM
            items = [
                WorkItem(
                    predictor=predictor,
                    band=band,
                    future=future,
                    cost=max(1, int(per_atom * _size(band))),
                    admitted_at=now,
                    turn=turn,
                    request_id=request_id,
                )
                for band, future in zip(bands, futures, strict=True)
            ]
            # Where the model has nothing to do, handing a lone band over twice would take longer than it saves.
            alone = len(items) == 1 and not self._running and not len(self)
            if alone or not self.prepares or predictor.preparation is None:
                for item in items:
                    item.stage = Stage.READY
                self._ready.extend(items)
                self._can_run.notify()
            else:
                self._waiting[turn].extend(items)
                self._can_prepare.notify(len(items))
        return items

    def drop(self, item: WorkItem) -> None:
        """Forget an item whose client left; one that runs already is left to finish."""
        with self._lock:
            if item.stage is Stage.WAITING:
                self._waiting[item.turn].remove(item)
            elif item.stage is Stage.READY:
                self._ready.remove(item)
                self._can_prepare.notify()
            elif item.stage is not Stage.PREPARING:
                return
            item.stage = Stage.DROPPED
            item.graph = None

    def next_to_prepare(self, threads: int = 1) -> list[WorkItem]:
        """Wait for bands to prepare together, of one model and turn; none once the queue is closed.

        Args:
            threads: how many share what waits.
        """
        with self._lock:
            while not self.closed and not (items := self._preparable(threads)):
                self._can_prepare.wait()
            if self.closed:
                return []
            self._last_prepared = items[0].turn
            for item in items:
                self._waiting[item.turn].remove(item)
                item.stage = Stage.PREPARING
                self._preparing[item.predictor.name] += 1
            return items

    def prepared(self, item: WorkItem, graph: Any, cost: int) -> None:
        """Take a prepared item back, with its true cost; a dropped one is forgotten."""
        with self._lock:
            self._preparing[item.predictor.name] -= 1
            self._learn_cost(item, cost)
            if item.stage is Stage.PREPARING:
                item.cost, item.graph, item.stage = cost, graph, Stage.READY
                self._ready.append(item)
            self._can_run.notify()

    def unprepared(self, item: WorkItem) -> None:
        """Take an item out that could not be prepared."""
        with self._lock:
            self._preparing[item.predictor.name] -= 1
            if item.stage is Stage.PREPARING:
                item.stage = Stage.TAKEN
            self._can_run.notify()

    def next_batch(self) -> list[WorkItem] | None:
        """Wait for work and take a batch of one model; None once the queue is closed."""
        with self._lock:
            while not self.closed:
                if self._ready:
                    self._linger()
                if self._ready:
                    return self._take()
                if not self.closed:
                    self._can_run.wait()
            return None

    def finished(
        self, batch: Sequence[WorkItem], *, passed: Sequence[WorkItem], seconds: float, largest_passed: int | None
    ) -> None:
        """Learn from a batch that ran: costs, the model's speed, and how large a batch the device holds.

        Args:
            batch: its items.
            passed: those that were predicted, with their true costs; a failure says nothing of the model's speed.
            seconds: how long these took.
            largest_passed: where memory ran out, the cost of the largest part that passed; else None.
        """
        with self._lock:
            self._running -= len(batch)
            figures = self._figures_of(batch[0].predictor)
            if passed:
                for item in passed:
                    self._learn_cost(item, item.cost)
                cost_per_s = sum(item.cost for item in passed) / max(seconds, 1e-6)
                figures.cost_per_s = _running(figures.cost_per_s, cost_per_s)
            if largest_passed is not None:
                figures.largest_batch_cost = max(1, largest_passed)
            elif figures.largest_batch_cost is not None:
                # Memory may come free again: feel the way back up, 5 % a batch.
                grown = figures.largest_batch_cost + figures.largest_batch_cost // 20 + 1
                figures.largest_batch_cost = grown if grown < self.batch_cost else None

    def drain(self) -> None:
        """Take nothing more; what is in goes on."""
        with self._lock:
            self.draining = True

    def close(self) -> None:
        """Take nothing more and end every thread."""
        with self._lock:
            self.closed = True
            self._can_prepare.notify_all()
            self._can_run.notify_all()

    def _figures_of(self, predictor: BatchPredictor) -> _Figures:
        return self._figures.setdefault(predictor.name, _Figures())

    def _learn_cost(self, item: WorkItem, cost: int) -> None:
        figures = self._figures_of(item.predictor)
        figures.cost_per_atom = _running(figures.cost_per_atom, cost / _size(item.band))

    def _preparable(self, threads: int) -> list[WorkItem]:
        """The next items to prepare: turn by turn, of models that have less than their batches ahead."""
        ahead: Counter[tuple[str, Turn]] = Counter()
        for item in self._ready:
            ahead[item.predictor.name, item.turn] += item.cost
        enough = BATCHES_AHEAD * self.batch_cost
        for turn in _after(self._last_prepared):
            for first in self._waiting[turn]:
                room = enough - ahead[first.predictor.name, turn]
                if room > 0:
                    return self._alike(first, threads, room)
        return []

    def _alike(self, first: WorkItem, threads: int, room: int) -> list[WorkItem]:
        """An item and others of its model and turn: one thread's share of them, until their cost fills the room."""
        same = (item for item in self._waiting[first.turn] if item.predictor is first.predictor)
        waiting = list(itertools.islice(same, PREPARED_TOGETHER * threads))
        chosen: list[WorkItem] = []
        for item in waiting[: math.ceil(len(waiting) / threads)]:
            if room <= 0:
                break
            chosen.append(item)
            room -= item.cost
        return chosen

    def _linger(self) -> None:
        """Wait for what is being prepared, shortly, while the batch is small."""
        until = time.monotonic() + self.batch_wait_s
        while not self.closed and self._more_may_join():
            left = until - time.monotonic()
            if left <= 0:
                return
            self._can_run.wait(left)

    def _more_may_join(self) -> bool:
        """Whether the next batch is small, and a band of its model waits or is being prepared."""
        if not self._ready:
            return False
        name = self._next_model().name
        cost = sum(item.cost for item in self._ready if item.predictor.name == name)
        if cost >= WORTHWHILE_SHARE * self.batch_cost:
            return False
        return self._preparing[name] > 0 or any(
            item.predictor.name == name for waiting in self._waiting.values() for item in waiting
        )

    def _next_model(self) -> BatchPredictor:
        """The model whose turn it is: many bands of one hold up no other for longer than one batch."""
        return next(
            (item.predictor for item in self._ready if item.predictor.name != self._last_model),
            self._ready[0].predictor,
        )

    def _take(self) -> list[WorkItem]:
        predictor = self._next_model()
        self._last_model = predictor.name
        room = self._room(self._figures_of(predictor))
        of_turn: dict[Turn, list[WorkItem]] = {turn: [] for turn in Turn}
        for item in self._ready:
            if item.predictor is predictor:
                of_turn[item.turn].append(item)
        candidates = [item for turn in _after(self._last_first) for item in of_turn[turn]]
        batch: list[WorkItem] = []
        cost = 0
        for item in candidates:
            if batch and cost + item.cost > room:  # always one: an item larger than the whole budget goes alone
                break
            batch.append(item)
            cost += item.cost
        self._last_first = batch[0].turn
        taken = set(map(id, batch))
        self._ready = deque(item for item in self._ready if id(item) not in taken)
        for item in batch:
            item.stage = Stage.TAKEN
        self._running += len(batch)
        self._can_prepare.notify_all()
        return batch

    def _room(self, figures: _Figures) -> int:
        """Most cost of a batch of a model; of one whose speed is not known yet each band goes alone."""
        if figures.cost_per_s is None:
            return 0
        largest = self.batch_cost if figures.largest_batch_cost is None else figures.largest_batch_cost
        return min(self.batch_cost, largest, int(figures.cost_per_s * LONGEST_BATCH_S))


def _running(mean: float | None, newest: float) -> float:
    return newest if mean is None else mean + NEWEST_WEIGHT * (newest - mean)


def _after(turn: Turn) -> Iterator[Turn]:
    """All turns, the given one last."""
    turns = list(Turn)
    start = turns.index(turn) + 1
    yield from turns[start:]
    yield from turns[:start]
