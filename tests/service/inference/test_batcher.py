"""The batcher's promises, each with real threads and a small model that does as it is told."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from app.serving.preparing import LateDescriptors
from small_model import DEADLINE_S, GATE_S, SmallModel, band, occupy, running, submit_in_order, until
from structlog.testing import capture_logs

from app.crystals.band import Band
from app.errors import InputError, IonpathError, NotReadyError, TooLargeError
from app.models.prediction import Prediction

pytestmark = pytest.mark.anyio


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


@dataclass(frozen=True)
class Begun:
    """A band that is not described yet, where `late` is not None."""

    band: Band
    late: LateDescriptors | None


class Beginner(SmallModel):
    """Begins with what is not described yet."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.asked_alone: list[bool] = []

    def cost(self, graph: Any) -> int:
        del graph
        return 1

    def begin(self, _: object, one: Band, *, alone: bool) -> Begun:
        self.asked_alone.append(alone)
        return Begun(one, LateDescriptors(self._described) if alone else None)

    def predict_begun(self, _: object, graphs: Sequence[Begun]) -> list[Prediction]:
        self.begun.set()
        for graph in graphs:
            if graph.late is not None:
                graph.late()
        return self.predict([graph.band for graph in graphs])

    def _described(self) -> np.ndarray:
        assert self.begun.wait(GATE_S)
        return np.zeros(1)


async def test_the_model_begins_with_a_lone_band_before_it_is_described() -> None:
    model = Beginner()
    async with running(prepare=model.begin, predict=model.predict_begun) as batcher, asyncio.timeout(DEADLINE_S):
        await batcher.submit(band(1), model)
        await batcher.submit_many([band(2), band(3)], model)
    assert model.asked_alone[:2] == [True, False]
    assert sorted(number for batch in model.batches for number in batch) == [1, 2, 3]


async def test_a_band_is_not_alone_while_another_runs_or_is_ready() -> None:
    model = Beginner()
    async with running(prepare=model.begin, predict=model.predict_begun) as batcher, asyncio.timeout(DEADLINE_S):
        runs = await occupy(batcher, model)
        tasks = []
        for number in (1, 2):  # the second comes while the first is ready and waits for the one that runs
            tasks.append(asyncio.create_task(batcher.submit(band(number), model)))
            await until(lambda asked=number + 1: len(model.asked_alone) == asked)  # type: ignore[misc] # bound here
        model.may_run.set()
        await asyncio.gather(runs, *tasks)
        await batcher.submit(band(3), model)
    assert model.asked_alone == [True, False, False, True]


async def test_a_client_that_leaves_while_its_band_is_described_holds_nobody_up() -> None:
    model = Beginner()
    async with running(prepare=model.begin, predict=model.predict_begun) as batcher, asyncio.timeout(DEADLINE_S):
        model.begun.set()
        leaves = asyncio.create_task(batcher.submit(band(1), model))
        await until(lambda: model.asked_alone == [True])
        leaves.cancel()
        assert (await batcher.submit(band(2), model)).barrier_ev == 2.0


async def test_a_batch_waits_shortly_for_what_is_being_prepared() -> None:
    model = SmallModel()
    model.hold_preparation_of(2)
    async with running(batch_wait_ms=DEADLINE_S * 1e3) as batcher:
        tasks = [asyncio.create_task(batcher.submit(band(number), model)) for number in (1, 2)]
        await until(lambda: model.graphed == [1])
        model.may_prepare.set()
        await asyncio.gather(*tasks)
    assert model.batches == [[1, 2]]


async def test_a_batch_does_not_wait_for_bands_of_another_model() -> None:
    model, other = SmallModel(), SmallModel("other")
    other.hold_preparation_of(2)
    async with running(batch_wait_ms=GATE_S * 1e3) as batcher, asyncio.timeout(DEADLINE_S):
        first = asyncio.create_task(batcher.submit(band(1), model))
        waits = asyncio.create_task(batcher.submit(band(2), other))
        await first
        other.may_prepare.set()
        await waits
    assert model.batches == [[1]]


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
