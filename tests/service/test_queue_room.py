"""How much may wait for the model, who is refused, when they are told to come back, and that a place is kept."""

import asyncio
import contextlib
import time

import pytest
from app.serving.batcher import Batcher
from app.serving.promises import Ticket
from app.serving.work_items import Place
from small_model import SmallModel, band, occupy, running, submit_in_order, until

from app.errors import BusyError
from app.models.prediction import Prediction

pytestmark = pytest.mark.anyio


async def learn_speed(batcher: Batcher, model: SmallModel) -> None:
    """Have one band answered: from then on the queue knows a speed."""
    await batcher.submit(band(1), model)
    await until(lambda: batcher._queue.cost_per_s is not None)


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
        await learn_speed(batcher, model)
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
        await learn_speed(batcher, model)
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
        await learn_speed(batcher, model)
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
        batcher._queue._typical_cost = 500.0  # 3,960 wait, and only with what was promised it is too much
        with pytest.raises(BusyError), batcher.place(of("b")):
            pass
        model.may_run.set()
        await asyncio.gather(*tasks)


async def test_a_place_is_not_held_for_longer_than_work_may_wait() -> None:
    model = SmallModel(cost_per_atom=264)
    async with running(queue_wait_s=0.1, batch_cost=1) as batcher:
        await learn_speed(batcher, model)
        batcher._queue.cost_per_s = 1_000.0
        with batcher.place(of("waits for a reading process")) as place:
            with pytest.raises(BusyError), batcher.place(of("b")):
                pass
            await until(lambda: place.cost == 0)
            with batcher.place(of("c")):
                pass


async def test_a_large_one_that_comes_back_when_told_is_let_in_with_all_its_hops() -> None:
    model = SmallModel(cost_per_atom=264)
    hops = [band(number, atoms=20) for number in range(10, 30)]
    async with running(queue_wait_s=1.0, batch_cost=1) as batcher:
        tasks = await full(batcher, model)
        batcher._queue.cost_per_s = 3_960.0
        with pytest.raises(BusyError), batcher.place(of("crystal")):  # not read yet, so it is promised room for a band
            pass
        await until(lambda: batcher._queue._promises.is_due(of("crystal"), now_s=time.monotonic()))
        batcher._queue.cost_per_s = 4_400.0
        with batcher.place(of("crystal")) as place:
            assert place.promised
            batcher._queue.cost_per_s = 3_960.0  # a newcomer would be refused
            crystal = asyncio.create_task(batcher.submit_many(hops, model, ticket=of("crystal"), place=place))
            await asyncio.sleep(0)
        model.may_run.set()
        await asyncio.gather(*tasks)
        assert len(await crystal) == len(hops)
