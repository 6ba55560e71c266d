"""The batcher's promises, each with real threads and a small model whose faults a test switches on."""

import asyncio
from typing import Any

import pytest
from small_model import (
    DEADLINE_S,
    GATE_S,
    SmallModel,
    ask,
    band,
    occupy,
    running,
    set_speed,
    submit_in_order,
    until,
)
from structlog.testing import capture_logs

from app.crystals.band import Band
from app.errors import InputError, IonpathError, NotReadyError, TooLargeError
from app.models.prediction import Prediction
from app.serving.inference.work_item import Turn
from app.serving.lanes import Lane

pytestmark = pytest.mark.anyio


async def test_each_of_many_concurrent_bands_gets_its_own_answer() -> None:
    model = SmallModel()
    async with running(batch_cost=40) as batcher:
        answers = await asyncio.gather(*(ask(batcher, model, band(number)) for number in range(1, 65)))
    assert [answer.barrier_ev for answer in answers] == list(range(1, 65))
    assert max(len(batch) for batch in model.batches) > 1, "nothing was batched"


async def test_a_lone_band_does_not_wait_for_others() -> None:
    model = SmallModel()
    async with running(batch_wait_ms=60_000.0) as batcher:
        async with asyncio.timeout(DEADLINE_S):
            await ask(batcher, model, band(1))


async def test_a_lone_band_is_given_to_the_model_as_it_is() -> None:
    """Handing it over twice would take longer than it saves; where the model is busy, others prepare."""
    model = SmallModel()
    async with running() as batcher:
        await ask(batcher, model, band(1))
        assert model.prepared == []
        await until(lambda: not batcher.tracks[Lane.MAIN].queue._running)
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(2)])
        assert model.prepared == [2]
        model.may_run.set()
        await asyncio.gather(first, *tasks)
        await batcher.submit([band(3), band(4)], model)
    assert model.prepared == [2, 3, 4]
    assert model.graphed == [1, 99, 2, 3, 4]


async def test_bands_of_a_model_without_a_preparation_go_to_it_as_they_are() -> None:
    model = SmallModel(prepares=False)
    async with running(batch_cost=10_000) as batcher:
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(1), band(2)])
        model.may_run.set()
        await asyncio.gather(first, *tasks)
    assert model.batches == [[99], [1, 2]]
    assert model.prepared == []


async def test_a_band_that_only_the_model_can_prepare_fails_alone() -> None:
    model = SmallModel(prepares=False)
    model.bad["graph"] = {2}
    async with running(batch_cost=10_000) as batcher:
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(n) for n in (1, 2, 3)])
        model.may_run.set()
        outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert isinstance(outcomes[2], InputError)
    assert [one.barrier_ev for one in outcomes if isinstance(one, Prediction)] == [99.0, 1.0, 3.0]
    assert model.batches == [[99], [1], [3]], "its batch was tried again in halves"


async def test_a_batch_waits_shortly_for_what_is_being_prepared() -> None:
    model = SmallModel()
    model.hold_preparation_of(2)
    async with running(batch_wait_ms=GATE_S * 1e3) as batcher, asyncio.timeout(DEADLINE_S):
        first = await occupy(batcher, model)
        tasks = [asyncio.create_task(ask(batcher, model, band(number))) for number in (1, 2)]
        await until(lambda: 1 in model.graphed)
        model.may_run.set()
        await first
        model.may_prepare.set()
        await asyncio.gather(*tasks)
    assert model.batches == [[99], [1, 2]]


async def test_a_batch_does_not_wait_for_bands_of_another_model() -> None:
    model, other = SmallModel(), SmallModel("other")
    other.hold_preparation_of(2)
    async with running(batch_wait_ms=GATE_S * 1e3) as batcher, asyncio.timeout(DEADLINE_S):
        runs = await occupy(batcher, model)
        (first,) = await submit_in_order(batcher, model, [band(1)])
        waits = asyncio.create_task(ask(batcher, other, band(2)))
        await asyncio.sleep(0)
        model.may_run.set()
        await asyncio.gather(runs, first)
        other.may_prepare.set()
        await waits
    assert model.batches == [[99], [1]]


async def test_the_wait_for_others_ends() -> None:
    model = SmallModel()
    model.hold_preparation_of(2)
    async with running(batch_wait_ms=5.0) as batcher, asyncio.timeout(DEADLINE_S):
        runs = await occupy(batcher, model)
        first = asyncio.create_task(ask(batcher, model, band(1)))
        await until(lambda: 1 in model.graphed)
        second = asyncio.create_task(ask(batcher, model, band(2)))
        await asyncio.sleep(0)
        model.may_run.set()
        await asyncio.gather(runs, first)
        model.may_prepare.set()
        await second
    assert model.batches == [[99], [1], [2]]


async def test_a_model_of_unknown_speed_gets_one_band_at_a_time() -> None:
    """One that takes seconds for a band would else be ended at its time limit, with all of a batch."""
    model = SmallModel()
    async with running() as batcher:
        first = await occupy(batcher, model)
        batcher.tracks[Lane.MAIN].queue._figures_of(model).cost_per_s = None
        other = SmallModel("other")
        tasks = await submit_in_order(batcher, other, [band(n) for n in (1, 2, 3)])
        model.may_run.set()
        await asyncio.gather(first, *tasks)
    assert other.batches[0] == [1]


async def test_a_batch_takes_no_longer_than_two_seconds_at_the_measured_speed() -> None:
    model = SmallModel()
    async with running() as batcher:
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(n) for n in range(1, 9)])
        queue = batcher.tracks[Lane.MAIN].queue
        batch = []
        learn = queue.finished

        def finished(items: Any, **named: Any) -> None:
            learn(items, **named)
            batch.append(len(items))
            set_speed(batcher, model, 8.0)  # a band costs five: three of them in two seconds

        queue.finished = finished  # type: ignore[assignment,method-assign] # the speed of this machine is not tested
        model.may_run.set()
        await asyncio.gather(first, *tasks)
    assert model.batches == [[99], [1, 2, 3], [4, 5, 6], [7, 8]]


async def test_a_pass_that_fails_says_nothing_of_the_model_s_speed() -> None:
    """A bad band fails in no time; taken for the speed, it would let a slow model have batches of minutes."""
    model = SmallModel()
    model.bad["predict"] = {1}
    async with running() as batcher:
        with pytest.raises(IonpathError):
            await ask(batcher, model, band(1))
        queue = batcher.tracks[Lane.MAIN].queue
        figures = queue._figures_of(model)
        await until(lambda: not queue._running)  # it learns once its clients are answered
        assert figures.cost_per_s is None
        await ask(batcher, model, band(2))
        await until(lambda: figures.cost_per_s is not None)


async def test_a_slow_model_holds_up_no_quick_one() -> None:
    slow, quick = SmallModel("slow"), SmallModel("quick")
    async with running() as batcher, asyncio.timeout(DEADLINE_S):
        runs = await occupy(batcher, slow)
        waits = asyncio.create_task(ask(batcher, slow, band(1)))
        answers = [(await ask(batcher, quick, band(number))).barrier_ev for number in range(2, 12)]
        assert answers == list(range(2, 12))
        assert not runs.done()
        assert not waits.done()
        slow.may_run.set()
        assert [(await task).barrier_ev for task in (runs, waits)] == [99.0, 1.0]


async def test_bands_of_a_slow_model_that_could_be_prepared_elsewhere_are_answered() -> None:
    """Nobody prepares for the slow track, so its model does."""
    slow = SmallModel("slow")
    async with running() as batcher, asyncio.timeout(DEADLINE_S):
        first = await occupy(batcher, slow)
        tasks = [asyncio.create_task(ask(batcher, slow, band(number))) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        slow.may_run.set()
        answers = await asyncio.gather(first, *tasks)
    assert [answer.barrier_ev for answer in answers] == [99.0, 1.0, 2.0, 3.0]
    assert slow.prepared == []


@pytest.mark.parametrize("many", [Turn.HOP, Turn.JOB])
async def test_a_band_is_not_behind_hops_or_jobs(many: Turn) -> None:
    model = SmallModel()
    async with running(batch_cost=10) as batcher:
        first = await occupy(batcher, model)
        crystal = asyncio.create_task(batcher.submit([band(n) for n in range(1, 21)], model, turn=many))
        await until(lambda: len(model.graphed) == 1 + 4)  # two batches ahead are prepared already
        lone = asyncio.create_task(ask(batcher, model, band(50)))
        await until(lambda: 50 in model.graphed)
        model.may_run.set()
        await asyncio.gather(first, crystal, lone)
    assert [50 in batch for batch in model.batches].index(True) <= 2, model.batches


async def test_every_band_that_is_done_is_reported_with_its_time() -> None:
    model = SmallModel()
    model.bad["predict"] = {3}
    seconds: list[float] = []
    async with running() as batcher:
        await batcher.submit([band(n) for n in (1, 2, 3)], model, on_done=lambda item: seconds.append(item.seconds))
    assert len(seconds) == 3
    assert all(one >= 0.0 for one in seconds)
    assert sum(seconds) > 0.0


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
        last = asyncio.create_task(ask(batcher, model, band(3)))
        model.may_run.set()
        await asyncio.gather(first, *tasks, last)
    assert model.batches == [[99], [1], [2], [3]]


async def test_a_hop_that_fails_leaves_the_other_hops() -> None:
    model = SmallModel()
    model.bad["graph"] = {2}
    done: list[float] = []
    async with running() as batcher:
        outcomes = await batcher.submit(
            [band(n) for n in (1, 2, 3)], model, on_done=lambda item: done.append(item.seconds)
        )
    assert isinstance(outcomes[1], InputError)
    assert [one.barrier_ev for one in outcomes if isinstance(one, Prediction)] == [1.0, 3.0]
    assert len(done) == 3


async def test_a_client_that_leaves_drops_its_work_and_stops_nobody() -> None:
    model = SmallModel()
    async with running(batch_cost=5) as batcher:
        first = await occupy(batcher, model)
        tasks = await submit_in_order(batcher, model, [band(1), band(2)])
        late = [asyncio.create_task(ask(batcher, model, band(number))) for number in (3, 4)]
        await asyncio.sleep(0)
        for task in (first, tasks[0], late[0]):  # one that runs, one that is prepared, one that waits
            task.cancel()
        await until(lambda: first.done() and tasks[0].done() and late[0].done())
        model.may_run.set()
        assert (await tasks[1]).barrier_ev == 2.0
        assert (await late[1]).barrier_ev == 4.0
        assert batcher.trouble is None
        assert len(batcher) == 0
    assert model.batches == [[99], [2], [4]]


async def test_a_client_that_leaves_during_preparation_drops_its_band() -> None:
    model = SmallModel()
    model.hold_preparation_of(1)
    async with running() as batcher:
        first = await occupy(batcher, model)
        task = asyncio.create_task(ask(batcher, model, band(1)))
        await until(lambda: len(batcher) == 1)
        await asyncio.sleep(0.01)  # it is being prepared
        task.cancel()
        await asyncio.wait([task])
        model.may_prepare.set()
        await until(lambda: len(batcher) == 0)
        model.may_run.set()
        await first
        assert (await ask(batcher, model, band(2))).barrier_ev == 2.0
    assert model.batches == [[99], [2]]


@pytest.mark.parametrize("stage", ["graph", "cost"])
async def test_an_error_in_preparation_fails_that_band_alone(stage: str) -> None:
    model = SmallModel()
    model.bad[stage] = {2}
    async with running() as batcher:
        tasks = [asyncio.create_task(ask(batcher, model, band(number))) for number in (1, 2, 3)]
        with pytest.raises(IonpathError) as failed:
            await tasks[1]
        assert failed.value.kind == ("no-neighbours" if stage == "graph" else "model-failed")
        assert [(await tasks[index]).barrier_ev for index in (0, 2)] == [1.0, 3.0]
        assert len(batcher) == 0


async def test_the_log_says_why_a_forward_pass_failed_and_at_whose_request() -> None:
    model = SmallModel()
    model.bad["predict"] = {2}
    async with running() as batcher:
        with capture_logs() as lines, pytest.raises(IonpathError, match="log says why"):
            await ask(batcher, model, band(2), request_id="r-7")
    check_logged(lines, "forward-failed", ValueError)


async def test_the_log_says_why_preparing_failed_and_at_whose_request() -> None:
    model = SmallModel()
    model.bad["cost"] = {2}
    async with running() as batcher:
        first = await occupy(batcher, model)
        with capture_logs() as lines, pytest.raises(IonpathError, match="log says why"):
            await ask(batcher, model, band(2), request_id="r-7")
        model.may_run.set()
        await first
    check_logged(lines, "prepare-failed", ZeroDivisionError)


def check_logged(lines: "list[Any]", event: str, cause: type[Exception]) -> None:
    (line,) = [line for line in lines if line["event"] == event]
    assert (line["log_level"], line["request_ids"]) == ("error", ["r-7"])
    assert isinstance(line["exc_info"], cause)


@pytest.mark.parametrize("alone", [True, False])
async def test_a_band_at_fault_itself_is_no_error_of_the_service(alone: bool) -> None:
    model = SmallModel()
    model.bad["graph"] = {2}
    bands: list[Band] = [band(2)] if alone else [band(2), band(2)]
    async with running() as batcher:
        with capture_logs() as lines:
            outcomes = await batcher.submit(bands, model, request_id="r-7")
    assert [type(one) for one in outcomes] == [InputError] * len(bands)
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


async def test_a_band_too_large_for_the_device_is_refused() -> None:
    model = SmallModel()
    model.memory = 10
    async with running() as batcher:
        with pytest.raises(TooLargeError, match="cannot hold this band"):
            await ask(batcher, model, band(1, atoms=11))
        assert (await ask(batcher, model, band(2))).barrier_ev == 2.0
        assert batcher.trouble is None


async def test_a_model_that_gives_too_few_answers_mixes_nobody_up() -> None:
    model = SmallModel()
    model.too_few = True
    async with running() as batcher:
        with pytest.raises(IonpathError, match="failed on this band"):
            await ask(batcher, model, band(1))


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
        tasks = [asyncio.create_task(ask(batcher, model, band(number))) for number in range(1, 21)]
        await until(lambda: len(model.graphed) == 1 + 4)  # two batches of two
        await asyncio.sleep(0.2)  # what is tested: it goes no further
        assert len(model.graphed) == 1 + 4
        model.may_run.set()
        await asyncio.gather(first, *tasks)


async def test_two_models_are_never_mixed_in_a_batch() -> None:
    one, two = SmallModel("one"), SmallModel("two")
    async with running() as batcher:
        first = await occupy(batcher, one)
        set_speed(batcher, two)
        tasks = []
        for number in range(1, 5):
            tasks += await submit_in_order(batcher, (one, two)[number % 2], [band(number)])
        one.may_run.set()
        await asyncio.gather(first, *tasks)
    assert one.batches == [[99], [2, 4]]
    assert two.batches == [[1, 3]]


async def test_many_costly_bands_of_a_model_hold_up_no_other_model() -> None:
    costly, quick = SmallModel("costly"), SmallModel("quick")
    costly.cost_per_atom = 1_000  # each fills more than the batches ahead
    order: list[str] = []
    async with running(batch_cost=1_000) as batcher:
        first = await occupy(batcher, costly)
        waiting = [asyncio.create_task(ask(batcher, costly, band(number))) for number in range(1, 9)]
        await asyncio.sleep(0)
        asked = asyncio.create_task(ask(batcher, quick, band(50)))
        for name, task in (*(("costly", task) for task in waiting), ("quick", asked)):
            task.add_done_callback(lambda _, name=name: order.append(name))  # type: ignore[misc]  # a name each
        await until(lambda: quick.graphed == [50])
        costly.may_run.set()
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
            await ask(batcher, model, band(3))
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
            await ask(batcher, model, band(2))
        assert batcher.trouble is not None
        assert "SystemExit" in batcher.trouble
        with pytest.raises(NotReadyError, match="does not run"):
            await ask(batcher, model, band(1))


async def test_a_forward_pass_that_never_returns_makes_health_not_ready() -> None:
    model = SmallModel()
    async with running(stall_s=0.01) as batcher:
        first = await occupy(batcher, model)
        await until(lambda: batcher.trouble is not None)
        assert "thread main-model" in str(batcher.trouble)
        model.may_run.set()
        await first
        await until(lambda: batcher.trouble is None)
