"""Crystals are read in their order, and only while few hops of others wait for the model."""

import asyncio
from contextlib import ExitStack
from functools import partial

import pytest
from waiting import until

from app.serving.inference.crystal_turns import MOST_HOPS_AHEAD, CrystalTurns

pytestmark = pytest.mark.anyio


class Reader:
    """Reads when it is let, and notes the order."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.turns = 0
        self.may_end = asyncio.Event()

    def on_turn(self) -> None:
        self.turns += 1

    async def read(self, number: int) -> int:
        self.began.append(number)
        assert self.turns == len(self.began)
        await self.may_end.wait()
        return number


async def test_no_crystal_is_read_while_many_hops_wait() -> None:
    turns, reader = CrystalTurns(2), Reader()
    reader.may_end.set()
    with turns.hops(MOST_HOPS_AHEAD) as done:
        reading = [asyncio.create_task(turns.read(partial(reader.read, number), reader.on_turn)) for number in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert reader.turns == 0
        assert not reader.began
        done()
        assert list(await asyncio.gather(*reading)) == reader.began == [0, 1, 2]
    assert await turns.read(lambda: reader.read(7), reader.on_turn) == 7


async def test_so_many_are_read_at_once_and_one_whose_client_leaves_gives_its_turn_on() -> None:
    turns, reader = CrystalTurns(2), Reader()
    reading = [asyncio.create_task(turns.read(partial(reader.read, number), reader.on_turn)) for number in range(4)]
    await until(lambda: len(reader.began) == 2)
    reading[0].cancel()
    reading[2].cancel()
    await until(lambda: reader.began == [0, 1, 3])
    reader.may_end.set()
    assert list(await asyncio.gather(reading[1], reading[3])) == [1, 3]


async def test_hops_that_are_given_up_wait_no_longer() -> None:
    turns, reader = CrystalTurns(1), Reader()
    reader.may_end.set()
    with ExitStack() as stack:
        done = stack.enter_context(turns.hops(3 * MOST_HOPS_AHEAD))
        done()
    done()  # a hop that was on its way when its client left
    with turns.hops(MOST_HOPS_AHEAD - 1):
        assert await asyncio.wait_for(turns.read(lambda: reader.read(1), reader.on_turn), 10.0) == 1
    with turns.hops(MOST_HOPS_AHEAD), pytest.raises(TimeoutError):
        await asyncio.wait_for(turns.read(lambda: reader.read(2), reader.on_turn), 0.01)
