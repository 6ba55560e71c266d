"""The batcher's promises, each with real threads and a small model that does as it is told."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from structlog.testing import capture_logs

from app.crystals.band import Band
from app.errors import BusyError, InputError, IonpathError, NotReadyError, TooLargeError
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.models.predictor import OutOfMemoryError
from app.serving.batcher import Batcher
from app.serving.metrics import Metrics
from app.serving.promises import Ticket
from app.serving.work import Place

pytestmark = pytest.mark.anyio

DEADLINE_S = 10.0
#: A gate that a test forgets opens only after the test has failed.
GATE_S = 30.0


def band(number: int, atoms: int = 5) -> Band:
    """A band whose hop is `number` angstrom long, by which it is told from others."""
    return Band(
        lattice_angstrom=np.eye(3),
        host_species=("O",) * atoms,
        host_frac_coords=np.zeros((atoms, 3)),
        ion="Li",
        image_frac_coords=np.array([[0.0, 0.0, 0.0], [float(number), 0.0, 0.0]]),
    )


def number_of(one: Band) -> int:
    return round(one.hop_distance_angstrom)


class SmallModel:
    """Predicts a band's number; each fault is switched on by a band's number."""

    def __init__(self, name: str = "small", *, cost_per_atom: int = 1) -> None:
        self.name = name
        self.cost_per_atom = cost_per_atom
        self.may_run = threading.Event()
        self.may_run.set()
        self.may_prepare = threading.Event()
        self.may_prepare.set()
        self.gated: set[int] = set()
        self.graphed: list[int] = []
        self.batches: list[list[int]] = []
        self.bad: dict[str, set[int]] = {"graph": set(), "cost": set(), "predict": set(), "exit": set()}
        self.memory = 10**9
        self.too_few = False

    def hold_preparation_of(self, number: int) -> None:
        self.gated = {number}
        self.may_prepare.clear()

    def graph(self, one: Band) -> Band:
        number = number_of(one)
        if number in self.gated:
            assert self.may_prepare.wait(GATE_S)
        self.graphed.append(number)
        if number in self.bad["graph"]:
            raise InputError("this band has no neighbours", kind="no-neighbours")
        return one

    def cost(self, graph: Band) -> int:
        if number_of(graph) in self.bad["cost"]:
            raise ZeroDivisionError
        return len(graph.host_species) * self.cost_per_atom

    def predict(self, graphs: Sequence[Band]) -> list[Prediction]:
        numbers = [number_of(one) for one in graphs]
        self.batches.append(numbers)
        assert self.may_run.wait(GATE_S)
        if sum(self.cost(one) for one in graphs) > self.memory:
            raise OutOfMemoryError
        if self.bad["predict"].intersection(numbers):
            raise ValueError(numbers)
        if self.bad["exit"].intersection(numbers):
            raise SystemExit(3)
        made = [
            Prediction(
                barrier_ev=float(number),
                quantiles_ev=(float(number),) * len(QUANTILE_LEVELS),
                in_domain=True,
                domain_reasons=(),
            )
            for number in numbers
        ]
        return made[:-1] if self.too_few else made


@asynccontextmanager
async def running(
    *,
    queue_cost: int = 1_000_000,
    queue_wait_s: float = 1e9,
    least_bands: int = 0,
    batch_cost: int = 1_000,
    batch_wait_ms: float = 1.0,
    stall_s: float = 60.0,
    stop_s: float = DEADLINE_S,
) -> AsyncIterator[Batcher]:
    batcher = Batcher(
        queue_cost=queue_cost,
        queue_wait_s=queue_wait_s,
        least_bands=least_bands,
        batch_cost=batch_cost,
        batch_wait_ms=batch_wait_ms,
        prepare_threads=1,
        stall_s=stall_s,
        metrics=Metrics(),
    )
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop(stop_s)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.002)


async def occupy(batcher: Batcher, model: SmallModel) -> "asyncio.Task[Prediction]":
    """Hold the model busy with band 99 until may_run is set."""
    model.may_run.clear()
    task = asyncio.create_task(batcher.submit(band(99), model))
    await until(lambda: bool(model.batches) and model.batches[-1] == [99])
    return task


async def submit_in_order(
    batcher: Batcher, model: SmallModel, bands: Sequence[Band]
) -> "list[asyncio.Task[Prediction]]":
    """Submit bands behind a busy model and wait until all are prepared."""
    tasks = []
    for one in bands:
        tasks.append(asyncio.create_task(batcher.submit(one, model)))
        await asyncio.sleep(0)
    await until(lambda: set(model.graphed) >= {number_of(one) for one in bands})
    return tasks


async def test_each_of_many_concurrent_bands_gets_its_own_answer() -> None:
    model = SmallModel()
    async with running(batch_cost=40) as batcher:
        answers = await asyncio.gather(*(batcher.submit(band(number), model) for number in range(1, 65)))
    assert [answer.barrier_ev for answer in answers] == list(range(1, 65))
    assert max(len(batch) for batch in model.batches) > 1, "nothing was batched"


async def test_a_lone_band_does_not_wait_for_others() -> None:
    model = SmallModel()
    async with running(batch_wait_ms=60_000.0) as batcher:
        async with asyncio.timeout(DEADLINE_S):
            await batcher.submit(band(1), model)


async def test_a_batch_waits_shortly_for_what_is_being_prepared() -> None:
    model = SmallModel()
    model.hold_preparation_of(2)
    async with running(batch_wait_ms=DEADLINE_S * 1e3) as batcher:
        tasks = [asyncio.create_task(batcher.submit(band(number), model)) for number in (1, 2)]
        await until(lambda: model.graphed == [1])
        model.may_prepare.set()
        await asyncio.gather(*tasks)
    assert model.batches == [[1, 2]]


async def test_the_wait_for_others_ends() -> None:
    model = SmallModel()
    model.hold_preparation_of(2)
    async with running(batch_wait_ms=5.0) as batcher:
        tasks = [asyncio.create_task(batcher.submit(band(number), model)) for number in (1, 2)]
        await tasks[0]
        model.may_prepare.set()
        await tasks[1]
    assert model.batches == [[1], [2]]


async def test_batches_are_bounded_by_cost_not_by_count() -> None:
    model = SmallModel()
    async with running(batch_cost=20) as batcher:
        first = await occupy(batcher, model)
        sizes = {1: 10, 2: 10, 3: 15, 4: 1, 5: 1, 6: 3}
        tasks = await submit_in_order(batcher, model, [band(n, atoms=size) for n, size in sizes.items()])
        model.may_run.set()
        await asyncio.gather(first, *tasks)
    assert model.batches == [[99], [1, 2], [3, 4, 5, 6]]


async def test_an_item_larger_than_the_budget_goes_alone() -> None:
    model = SmallModel()
    async with running(batch_cost=20) as batcher:
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(1), band(2, atoms=50)])
        last = asyncio.create_task(batcher.submit(band(3), model))
        model.may_run.set()
        await asyncio.gather(first, *tasks, last)
    assert model.batches == [[99], [1], [2], [3]]


async def test_an_item_larger_than_the_queue_is_let_in_when_nothing_waits() -> None:
    model = SmallModel()
    async with running(queue_cost=20, batch_cost=20) as batcher:
        assert (await batcher.submit(band(7, atoms=100), model)).barrier_ev == 7.0


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    model = SmallModel(cost_per_atom=264)  # five atoms cost 1,320, as estimated
    async with running(queue_cost=5_000, batch_cost=2_000) as batcher:
        first = await occupy(batcher, model)
        tasks = [asyncio.create_task(batcher.submit(band(number), model)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError, match="IONPATH_QUEUE_COST allows 5,000") as busy:
            await batcher.submit(band(4), model)
        assert busy.value.retry_after_s > 0.0
        model.may_run.set()
        await asyncio.gather(first, *tasks)
        assert (await batcher.submit(band(4), model)).barrier_ev == 4.0


async def test_the_time_to_come_back_follows_from_speed_and_size() -> None:
    model = SmallModel(cost_per_atom=264)
    async with running(queue_cost=5_000, batch_cost=2_000) as batcher:
        await batcher.submit(band(1), model)
        await until(lambda: batcher._queue.cost_per_s is not None)
        first = await occupy(batcher, model)
        tasks = [asyncio.create_task(batcher.submit(band(number), model)) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        batcher._queue.cost_per_s = 100.0  # a slow device, without waiting for one
        for atoms, expected_s in ((5, 16.0), (10, 22.6), (10_000, 52.8)):
            with pytest.raises(BusyError) as busy:
                await batcher.submit(band(4, atoms=atoms), model)
            # what waits (3,960) and runs (1,320), less the room that is left beside the newcomer
            assert busy.value.retry_after_s == pytest.approx(expected_s)
        model.may_run.set()
        await asyncio.gather(first, *tasks)


@pytest.mark.parametrize("hosts", [(15,), (5, 5)], ids=["a single band", "a crystal of two"])
@pytest.mark.parametrize("missing", [0, 1], ids=["just enough room", "one edge too little"])
async def test_a_single_band_is_let_in_wherever_a_crystal_is(hosts: tuple[int, ...], missing: int) -> None:
    model = SmallModel(cost_per_atom=264)  # five atoms cost 1,320, as estimated
    bands = [band(number, atoms=atoms) for number, atoms in enumerate(hosts, start=2)]  # 2,640 in either way
    async with running(queue_cost=1_320 + 2_640 - missing, batch_cost=1_320) as batcher:
        first = await occupy(batcher, model)
        waiting = await submit_in_order(batcher, model, [band(1)])
        asked = asyncio.create_task(
            batcher.submit(bands[0], model) if len(bands) == 1 else batcher.submit_many(bands, model)
        )
        await asyncio.sleep(0)
        assert asked.done() == bool(missing)
        model.may_run.set()
        if missing:
            with pytest.raises(BusyError):
                await asked
        await asyncio.gather(first, *waiting, asked, return_exceptions=True)


async def test_a_crystal_is_let_in_whole_or_not_at_all() -> None:
    model = SmallModel(cost_per_atom=132)
    async with running(queue_cost=3_000) as batcher:
        first = await occupy(batcher, model)
        waiting = await submit_in_order(batcher, model, [band(1)])
        with pytest.raises(BusyError):
            await batcher.submit_many([band(n) for n in range(2, 8)], model)
        model.may_run.set()
        await asyncio.gather(first, *waiting)
    assert sorted(model.graphed) == [1, 99]


async def test_a_hop_that_fails_leaves_the_other_hops() -> None:
    model = SmallModel()
    model.bad["graph"] = {2}
    done: list[int] = []
    async with running() as batcher:
        outcomes = await batcher.submit_many([band(n) for n in (1, 2, 3)], model, lambda: done.append(1))
    assert isinstance(outcomes[1], InputError)
    assert [one.barrier_ev for one in outcomes if isinstance(one, Prediction)] == [1.0, 3.0]
    assert len(done) == 3


async def test_a_client_that_leaves_drops_its_work_and_stops_nobody() -> None:
    model = SmallModel()
    async with running(batch_cost=5) as batcher:
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(1), band(2)])
        late = [asyncio.create_task(batcher.submit(band(number), model)) for number in (3, 4)]
        await asyncio.sleep(0)
        for task in (first, tasks[0], late[0]):  # one that runs, one that is prepared, one that waits
            task.cancel()
        await until(lambda: first.done() and tasks[0].done() and late[0].done())
        model.may_run.set()
        assert (await tasks[1]).barrier_ev == 2.0
        assert (await late[1]).barrier_ev == 4.0
        assert batcher.trouble is None
        assert batcher._queue.waiting_cost == 0
    assert model.batches == [[99], [2], [4]]


async def test_a_client_that_leaves_during_preparation_gives_its_room_back() -> None:
    model = SmallModel()
    model.hold_preparation_of(1)
    async with running() as batcher:
        task = asyncio.create_task(batcher.submit(band(1), model))
        await until(lambda: batcher._queue.waiting_cost > 0)
        task.cancel()
        await until(lambda: batcher._queue.waiting_cost == 0)
        model.may_prepare.set()
        assert (await batcher.submit(band(2), model)).barrier_ev == 2.0
    assert model.batches == [[2]]


@pytest.mark.parametrize("stage", ["graph", "cost"])
async def test_an_error_in_preparation_fails_that_band_alone(stage: str) -> None:
    model = SmallModel()
    model.bad[stage] = {2}
    async with running() as batcher:
        tasks = [asyncio.create_task(batcher.submit(band(number), model)) for number in (1, 2, 3)]
        with pytest.raises(IonpathError) as failed:
            await tasks[1]
        assert failed.value.kind == ("no-neighbours" if stage == "graph" else "model-failed")
        assert [(await tasks[index]).barrier_ev for index in (0, 2)] == [1.0, 3.0]
        assert batcher._queue.waiting_cost == 0


@pytest.mark.parametrize(("stage", "event"), [("cost", "prepare-failed"), ("predict", "forward-failed")])
async def test_the_log_says_why_a_model_failed_and_at_whose_request(stage: str, event: str) -> None:
    model = SmallModel()
    model.bad[stage] = {2}
    async with running() as batcher:
        with capture_logs() as lines, pytest.raises(IonpathError, match="log says why"):
            await batcher.submit(band(2), model, request_id="r-7")
    (line,) = [line for line in lines if line["event"] == event]
    assert (line["log_level"], line["request_ids"]) == ("error", ["r-7"])
    assert isinstance(line["exc_info"], ZeroDivisionError if stage == "cost" else ValueError)


async def test_a_band_at_fault_itself_is_no_error_of_the_service() -> None:
    model = SmallModel()
    model.bad["graph"] = {2}
    async with running() as batcher:
        with capture_logs() as lines, pytest.raises(InputError):
            await batcher.submit(band(2), model, request_id="r-7")
    assert lines == []


async def test_one_bad_band_does_not_fail_its_batch() -> None:
    model = SmallModel()
    model.bad["predict"] = {3}
    async with running() as batcher:
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(n) for n in range(1, 6)])
        model.may_run.set()
        outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert model.batches[1] == [1, 2, 3, 4, 5], "they did not run together"
    assert [o.barrier_ev for o in outcomes if isinstance(o, Prediction)] == [99.0, 1.0, 2.0, 4.0, 5.0]
    assert isinstance(outcomes[3], IonpathError)
    assert isinstance(outcomes[3].__cause__, ValueError)


async def test_out_of_memory_halves_the_batch_and_all_are_answered() -> None:
    model = SmallModel()
    model.memory = 10
    async with running() as batcher:
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(n) for n in range(1, 9)])
        model.may_run.set()
        answers = await asyncio.gather(first, *tasks)
        assert [answer.barrier_ev for answer in answers] == [99.0, *range(1, 9)]
        before = len(model.batches)
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(n) for n in range(21, 29)])
        model.may_run.set()
        await asyncio.gather(first, *tasks)
        assert batcher.trouble is None
    assert model.batches[1] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert max(len(batch) for batch in model.batches[before:]) <= 2, "the smaller budget was not remembered"


async def test_a_band_too_large_for_the_device_is_refused_in_words() -> None:
    model = SmallModel()
    model.memory = 10
    async with running() as batcher:
        with pytest.raises(TooLargeError, match="cannot hold this band"):
            await batcher.submit(band(1, atoms=11), model)
        assert (await batcher.submit(band(2), model)).barrier_ev == 2.0
        assert batcher.trouble is None


async def test_a_model_that_gives_too_few_answers_mixes_nobody_up() -> None:
    model = SmallModel()
    model.too_few = True
    async with running() as batcher:
        with pytest.raises(IonpathError, match="failed on this band"):
            await batcher.submit(band(1), model)


async def test_preparation_goes_on_while_the_model_runs() -> None:
    model = SmallModel()
    async with running() as batcher:
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(1), band(2)])  # it waits for their graphs
        assert model.batches == [[99]]
        model.may_run.set()
        await asyncio.gather(first, *tasks)


async def test_preparation_runs_only_so_far_ahead() -> None:
    model = SmallModel()
    async with running(batch_cost=10) as batcher:
        first = await occupy(batcher, model)
        tasks = [asyncio.create_task(batcher.submit(band(number), model)) for number in range(1, 21)]
        await until(lambda: len(model.graphed) == 1 + 4)  # two batches of two
        model.may_run.set()
        await asyncio.gather(first, *tasks)


async def test_two_models_are_never_mixed_in_a_batch() -> None:
    one, two = SmallModel("one"), SmallModel("two")
    async with running() as batcher:
        first = await occupy(batcher, one)
        tasks = []
        for number in range(1, 5):
            tasks += await submit_in_order(batcher, (one, two)[number % 2], [band(number)])
        one.may_run.set()
        await asyncio.gather(first, *tasks)
    assert one.batches == [[99], [2, 4]]
    assert two.batches == [[1, 3]]


async def test_many_bands_of_a_slow_model_hold_up_no_other() -> None:
    slow, quick = SmallModel("slow"), SmallModel("quick")
    slow.cost_per_atom = 1_000  # each fills more than the batches ahead
    order: list[str] = []
    async with running(batch_cost=1_000) as batcher:
        first = await occupy(batcher, slow)
        waiting = [asyncio.create_task(batcher.submit(band(number), slow)) for number in range(1, 9)]
        await asyncio.sleep(0)
        asked = asyncio.create_task(batcher.submit(band(50), quick))
        for name, task in (*(("slow", task) for task in waiting), ("quick", asked)):
            task.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]  # a name each
        await until(lambda: quick.graphed == [50])
        slow.may_run.set()
        await asyncio.gather(first, asked, *waiting)
    assert order.index("quick") <= 2


async def test_stopping_answers_what_was_accepted_and_refuses_the_rest() -> None:
    model = SmallModel()
    async with running() as batcher:
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(1), band(2)])
        stopping = asyncio.create_task(batcher.stop(DEADLINE_S))
        await asyncio.sleep(0)
        with pytest.raises(NotReadyError, match="stopping"):
            await batcher.submit(band(3), model)
        model.may_run.set()
        assert [answer.barrier_ev for answer in await asyncio.gather(first, *tasks)] == [99.0, 1.0, 2.0]
        await stopping


async def test_stopping_gives_up_in_time_and_says_so() -> None:
    model = SmallModel()
    async with running(stop_s=0.05) as batcher:
        first = await occupy(batcher, model)
        await batcher.stop(0.05)
        with pytest.raises(NotReadyError, match="stopped before"):
            await first
        model.may_run.set()


async def test_a_loop_that_ends_makes_health_not_ready_and_leaves_nobody_hanging() -> None:
    model = SmallModel()
    model.bad["exit"] = {2}
    async with running() as batcher:
        assert batcher.trouble is None
        with pytest.raises(NotReadyError, match="stopped running"):
            await batcher.submit(band(2), model)
        assert batcher.trouble is not None
        assert "SystemExit" in batcher.trouble
        with pytest.raises(NotReadyError, match="does not run"):
            await batcher.submit(band(1), model)


async def test_a_forward_pass_that_never_returns_makes_health_not_ready() -> None:
    model = SmallModel()
    async with running(stall_s=0.01) as batcher:
        first = await occupy(batcher, model)
        await until(lambda: batcher.trouble is not None)
        assert "thread model" in str(batcher.trouble)
        model.may_run.set()
        await first
        await until(lambda: batcher.trouble is None)


async def full(batcher: Batcher, model: SmallModel) -> "list[asyncio.Task[Prediction]]":
    """Fill a queue of 5,000 but for less than one band, behind a busy model of which the speed is known."""
    await batcher.submit(band(1), model)
    await until(lambda: batcher._queue.cost_per_s is not None)
    tasks = [await occupy(batcher, model)]
    tasks += [asyncio.create_task(batcher.submit(band(number), model)) for number in (1, 2, 3)]
    await asyncio.sleep(0)
    return tasks


def of(digest: str) -> Ticket:
    return Ticket(caller="alice", digest=digest.encode())


async def refused_s(batcher: Batcher, model: SmallModel, ticket: str) -> float:
    with pytest.raises(BusyError) as busy:
        await batcher.submit(band(4), model, ticket=of(ticket))
    return busy.value.retry_after_s


async def test_no_more_work_waits_than_the_model_does_in_time() -> None:
    model = SmallModel(cost_per_atom=264)  # five atoms cost 1,320, as estimated
    async with running(queue_wait_s=2.0, batch_cost=1) as batcher:
        tasks = await full(batcher, model)
        batcher._queue.cost_per_s = 1_980.0
        with pytest.raises(BusyError, match=r"IONPATH_QUEUE_WAIT_S allows 3,960 now") as busy:
            await batcher.submit(band(4), model)
        assert busy.value.retry_after_s == pytest.approx(1_320 / 1_980)  # what runs must be done
        batcher._queue.cost_per_s = 1_981.0
        large = band(4, atoms=500)  # how much it costs itself does not count
        tasks.append(asyncio.create_task(batcher.submit(large, model)))
        await asyncio.sleep(0)
        model.may_run.set()
        await asyncio.gather(*tasks)


async def test_two_batches_may_wait_for_a_model_however_slow() -> None:
    model = SmallModel(cost_per_atom=264)
    async with running(queue_wait_s=1.0, batch_cost=2_640) as batcher:
        tasks = await full(batcher, model)
        batcher._queue.cost_per_s = 1.0
        tasks.append(asyncio.create_task(batcher.submit(band(4), model)))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await batcher.submit(band(5), model)
        model.may_run.set()
        await asyncio.gather(*tasks)


async def test_some_bands_may_wait_for_a_model_however_slow() -> None:
    model = SmallModel(cost_per_atom=132)  # five atoms cost 660, as estimated
    async with running(queue_wait_s=1.0, batch_cost=1, least_bands=2) as batcher:
        await batcher.submit(band(1), model)
        await until(lambda: batcher._queue.cost_per_s is not None)
        tasks = [await occupy(batcher, model)]
        batcher._queue.cost_per_s = 1.0
        tasks += [asyncio.create_task(batcher.submit(band(number), model)) for number in (2, 3)]
        await asyncio.sleep(0)
        await refused_s(batcher, model, "a")
        model.may_run.set()
        await asyncio.gather(*tasks)


async def test_those_who_are_refused_are_told_times_one_after_the_other() -> None:
    model = SmallModel(cost_per_atom=264)
    async with running(queue_cost=5_000, batch_cost=2_000) as batcher:
        tasks = await full(batcher, model)
        batcher._queue.cost_per_s = 1_000.0
        waits_s = [await refused_s(batcher, model, ticket) for ticket in "abc"]
        assert waits_s == pytest.approx([1.6, 2.92, 4.24], abs=0.2)
        assert await refused_s(batcher, model, "a") == pytest.approx(waits_s[0], abs=0.2), "too early: as before"
        model.may_run.set()
        await asyncio.gather(*tasks)


async def test_who_comes_back_when_told_finds_a_place_and_a_newcomer_leaves_it() -> None:
    model = SmallModel(cost_per_atom=264)
    async with running(queue_wait_s=1.0, batch_cost=1) as batcher:
        tasks = await full(batcher, model)
        batcher._queue.cost_per_s = 3_960.0
        assert await refused_s(batcher, model, "a") == pytest.approx(1_320 / 3_960)
        batcher._queue.cost_per_s = 4_400.0  # room for one, which is kept for a
        await until(lambda: batcher._queue._promises.is_due(of("a"), now_s=time.monotonic()))
        await refused_s(batcher, model, "b")
        tasks.append(asyncio.create_task(batcher.submit(band(4), model, ticket=of("a"))))
        await asyncio.sleep(0)
        model.may_run.set()
        await asyncio.gather(*tasks)


async def test_one_who_would_be_refused_is_refused_before_its_input_is_read() -> None:
    model = SmallModel(cost_per_atom=264)
    async with running(queue_wait_s=1.0, batch_cost=1) as batcher:
        with batcher.place(of("a")):
            pass
        tasks = await full(batcher, model)
        batcher._queue.cost_per_s = 3_960.0
        with pytest.raises(BusyError) as early, batcher.place(of("a")):
            pass
        assert await refused_s(batcher, model, "a") == pytest.approx(early.value.retry_after_s, abs=0.2), "one place"
        await until(lambda: batcher._queue._promises.is_due(of("a"), now_s=time.monotonic()))
        batcher._queue.cost_per_s = 4_400.0
        with batcher.place(of("a")) as place:
            batcher._queue.cost_per_s = 3_960.0
            tasks.append(asyncio.create_task(batcher.submit(band(4), model, place=place)))  # let in already
            await asyncio.sleep(0)
            batcher._queue.cost_per_s = 4_400.0
            with pytest.raises(BusyError), batcher.place(of("b")):
                pass
        model.may_run.set()
        await asyncio.gather(*tasks)


async def test_places_count_before_anything_waits_and_hold_one_band() -> None:
    model = SmallModel(cost_per_atom=264)
    async with running(queue_wait_s=1.0, batch_cost=1) as batcher:
        await batcher.submit(band(1), model)
        await until(lambda: batcher._queue.cost_per_s is not None)
        first = await occupy(batcher, model)
        batcher._queue.cost_per_s = 100_000.0
        places: list[Place] = []

        def take_all(stack: contextlib.ExitStack) -> None:
            while True:
                places.append(stack.enter_context(batcher.place(None)))

        with contextlib.ExitStack() as stack:
            with pytest.raises(BusyError):
                take_all(stack)
            assert 5 < len(places) < 20, "a second's work of bands that are not read yet"
            one = asyncio.create_task(batcher.submit(band(2), model, place=places[0]))
            await asyncio.sleep(0)
            assert not one.done()
            batcher._queue.cost_per_s = 10_000.0
            with pytest.raises(BusyError):
                await batcher.submit_many([band(n, atoms=100) for n in range(3, 9)], model, place=places[1])
        assert batcher._queue.entering_cost == 0
        model.may_run.set()
        await asyncio.gather(first, one)


async def test_where_memory_is_the_bound_callers_are_promised_places_as_well() -> None:
    model = SmallModel(cost_per_atom=264)
    async with running(queue_cost=5_000, queue_wait_s=10.0, batch_cost=2_000) as batcher:
        tasks = await full(batcher, model)
        batcher._queue.cost_per_s = 1e6
        assert not batcher._queue.timely_cost > 5_000
        await refused_s(batcher, model, "a")
        assert batcher.is_busy
        model.may_run.set()
        await asyncio.gather(*tasks)
