"""The queue of bands: whose turn it is, how large a batch is, and what is learned of a model."""

import asyncio
from collections.abc import Iterator

import pytest
from small_model import SmallModel, band, number_of

from app.errors import NotReadyError
from app.models.prediction import Prediction
from app.serving.inference.queue import BATCHES_AHEAD, LONGEST_BATCH_S, PREPARED_TOGETHER, WorkQueue
from app.serving.inference.work_item import Turn, WorkItem

COST = 5
FAST_COST_PER_S = 1e9
#: So many threads that each is given one band.
ALONE = 1_000


class Queue:
    """A queue used by one thread: it never waits, since there is always something to take."""

    def __init__(self, *, batch_cost: int = 4 * COST) -> None:
        self.loop = asyncio.new_event_loop()
        self.queue = WorkQueue(batch_cost=batch_cost, batch_wait_s=0.0)
        self.model = SmallModel()
        self.set_speed(self.model)

    def set_speed(self, model: SmallModel, cost_per_s: float = FAST_COST_PER_S) -> None:
        self.queue._figures_of(model).cost_per_s = cost_per_s

    def add(self, *numbers: int, turn: Turn = Turn.BAND, model: SmallModel | None = None) -> list[WorkItem]:
        """Add bands that are not alone."""
        futures: list[asyncio.Future[Prediction]] = [self.loop.create_future() for _ in numbers]
        self.queue._running += 1  # as if the model had something to do
        items = self.queue.add(model or self.model, [band(number) for number in numbers], futures, turn=turn)
        self.queue._running -= 1
        return items

    def prepare(self, count: int) -> list[int]:
        """Prepare the next bands, and give their numbers."""
        numbers = []
        for _ in range(count):
            (item,) = self.queue.next_to_prepare(ALONE)
            numbers.append(number_of(item.band))
            self.queue.prepared(item, object(), COST)
        return numbers

    def batch(self) -> list[int]:
        items = self.queue.next_batch()
        assert items is not None
        self.taken = items
        return [number_of(item.band) for item in items]

    def finish(self, *, seconds: float = 1e-6, largest_passed: int | None = None) -> None:
        self.queue.finished(self.taken, passed=self.taken, seconds=seconds, largest_passed=largest_passed)

    def next_batch(self) -> list[int]:
        numbers = self.batch()
        self.finish()
        return numbers


@pytest.fixture
def made() -> Iterator[Queue]:
    made = Queue()
    yield made
    made.loop.close()


def test_bands_hops_and_jobs_are_prepared_in_turn(made: Queue) -> None:
    made.add(1, 2, 3, turn=Turn.JOB)
    made.add(11, 12, 13, turn=Turn.HOP)
    made.add(21, 22, 23, turn=Turn.BAND)
    assert made.prepare(9) == [21, 11, 1, 22, 12, 2, 23, 13, 3]


def test_bands_hops_and_jobs_begin_batches_in_turn(made: Queue) -> None:
    made.add(*range(1, 9), turn=Turn.JOB)
    made.add(*range(11, 19), turn=Turn.HOP)
    made.add(*range(21, 29), turn=Turn.BAND)
    made.prepare(24)
    first = [made.next_batch()[0] for _ in range(6)]
    assert first == [21, 11, 1, 25, 15, 5]


def test_a_batch_has_room_for_others_than_those_whose_turn_it_is(made: Queue) -> None:
    made.add(1, 2, 3, 4, 5, turn=Turn.HOP)
    made.add(11, turn=Turn.BAND)
    made.prepare(6)
    assert made.next_batch() == [11, 1, 2, 3]


def test_models_take_turns_and_are_never_mixed(made: Queue) -> None:
    other = SmallModel("other")
    made.set_speed(other)
    made.add(*range(1, 9))
    made.add(*range(11, 15), model=other)
    made.prepare(12)
    assert [made.next_batch() for _ in range(3)] == [[1, 2, 3, 4], [11, 12, 13, 14], [5, 6, 7, 8]]


def test_only_so_many_are_prepared_ahead(made: Queue) -> None:
    made.add(*range(1, 20))
    made.prepare(BATCHES_AHEAD * 4)
    assert not made.queue._preparable(ALONE)
    made.next_batch()
    assert made.queue._preparable(ALONE)


def test_what_waits_is_prepared_together_and_shared_by_the_threads(made: Queue) -> None:
    made.queue.batch_cost = 1_000_000
    other = SmallModel("other")
    made.add(1, 2, 3, 4, 5)
    made.add(6, model=other)
    made.add(11, turn=Turn.HOP)
    together = [[number_of(item.band) for item in made.queue.next_to_prepare(threads=2)] for _ in range(5)]
    assert together == [[1, 2, 3], [11], [4], [5], [6]], "half of what waits of one model, turn by turn"
    made.add(*range(20, 40))
    assert len(made.queue.next_to_prepare(threads=1)) == PREPARED_TOGETHER


def test_no_more_is_prepared_together_than_may_be_ahead(made: Queue) -> None:
    made.add(*range(1, 9))
    cost = made.queue._waiting[Turn.BAND][0].cost
    made.queue.batch_cost = cost
    assert len(made.queue.next_to_prepare(threads=1)) == BATCHES_AHEAD


def test_a_batch_is_bounded_by_its_cost_and_by_the_time_it_takes(made: Queue) -> None:
    made.add(*range(1, 9))
    made.prepare(8)
    made.set_speed(made.model, 3 * COST / LONGEST_BATCH_S)
    assert made.batch() == [1, 2, 3]
    made.set_speed(made.model, 1e-6)
    assert made.batch() == [4], "one always goes"
    made.set_speed(made.model)
    assert made.batch() == [5, 6, 7, 8]


def test_a_model_of_unknown_speed_gets_one_band_at_a_time(made: Queue) -> None:
    other = SmallModel("other")
    made.add(1, 2, 3, model=other)
    made.prepare(3)
    assert made.batch() == [1]
    assert made.batch() == [2], "nothing was learned yet"
    made.finish(seconds=1.0)
    assert made.queue._figures_of(other).cost_per_s == COST


def test_the_speed_follows_what_is_measured(made: Queue) -> None:
    other = SmallModel("other")
    made.add(*range(1, 41), model=other)
    for _ in range(40):
        made.prepare(1)
        made.batch()
        made.finish(seconds=0.5)
    assert made.queue._figures_of(other).cost_per_s == pytest.approx(2 * COST)


def test_a_batch_that_failed_teaches_nothing(made: Queue) -> None:
    made.add(1, 2)
    made.prepare(2)
    made.batch()
    before = made.queue._figures_of(made.model).cost_per_s
    made.queue.finished(made.taken, passed=[], seconds=0.0, largest_passed=None)
    assert made.queue._figures_of(made.model).cost_per_s == before
    assert made.queue._running == 0


def test_what_a_band_costs_is_estimated_by_its_atoms_once_some_were_prepared(made: Queue) -> None:
    (first,) = made.add(1)
    made.prepare(1)
    assert first.cost == COST
    (same,) = made.add(2)
    assert same.cost == COST
    futures: list[asyncio.Future[Prediction]] = [made.loop.create_future()]
    (larger,) = made.queue.add(made.model, [band(3, atoms=15)], futures, turn=Turn.BAND)
    assert larger.cost == 2 * COST, "twenty atoms with those of the five images, against ten"


def test_after_memory_ran_out_batches_are_small_and_grow_again(made: Queue) -> None:
    made.add(*range(1, 200))
    made.prepare(4)
    made.batch()
    made.finish(largest_passed=2 * COST)
    made.prepare(4)
    assert len(made.next_batch()) == 2
    sizes = []
    for _ in range(20):
        made.prepare(min(4, 8 - len(made.queue._ready)))
        sizes.append(len(made.next_batch()))
    assert sizes[0] == 2
    assert sizes[-1] == 4


def test_a_lone_band_needs_no_preparation_but_one_of_several_does(made: Queue) -> None:
    def add(*numbers: int) -> None:
        futures: list[asyncio.Future[Prediction]] = [made.loop.create_future() for _ in numbers]
        made.queue.add(made.model, [band(number) for number in numbers], futures, turn=Turn.BAND)

    add(1)
    assert made.batch() == [1]
    assert made.taken[0].graph is None
    add(2)  # while the first runs
    assert made.queue._preparable(ALONE)
    made.prepare(1)
    made.finish()
    made.next_batch()
    add(3, 4)
    assert made.prepare(2) == [3, 4]


def test_an_item_is_dropped_wherever_it_is(made: Queue) -> None:
    waiting, preparing, ready = made.add(1, 2, 3)[::-1]
    made.prepare(1)
    assert number_of(ready.band) == 1
    assert made.queue.next_to_prepare(ALONE) == [preparing]
    for one in (waiting, preparing, ready):
        made.queue.drop(one)
    made.queue.prepared(preparing, object(), COST)
    assert len(made.queue) == 0
    made.add(4)
    made.prepare(1)
    assert made.batch() == [4]
    made.queue.drop(made.taken[0])  # it runs: it is left to finish
    made.finish()
    assert made.queue._running == 0


def test_a_queue_that_drains_or_is_closed_takes_nothing_more(made: Queue) -> None:
    made.add(1)
    made.queue.drain()
    with pytest.raises(NotReadyError, match="stopping"):
        made.add(2)
    made.prepare(1)
    assert made.next_batch() == [1], "what was accepted is answered"
    made.queue.close()
    assert made.queue.next_to_prepare() == []
    assert made.queue.next_batch() is None
