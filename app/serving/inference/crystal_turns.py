"""Backpressure for crystals: they are read only as fast as the model takes their hops."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

#: While so many hops of crystals wait for the model, no further crystal is read.
MOST_HOPS_AHEAD = 32


class CrystalTurns:
    """Has crystals wait to be read while the hops of others wait for the model; belongs to one event loop.

    Were all read at once, one that came early would wait for the hops of all that were read meanwhile.

    Args:
        at_once: crystals that are read at the same time.
    """

    def __init__(self, at_once: int) -> None:
        self._reading = asyncio.Semaphore(at_once)
        self._room = asyncio.Event()
        self._room.set()
        self._hops = 0

    async def read(self, read: Callable[[], Awaitable[T]], on_turn: Callable[[], None]) -> T:
        """Read a crystal when it is its turn, and call `on_turn` before."""
        async with self._reading:
            await self._room.wait()
            on_turn()
            return await read()

    @contextmanager
    def hops(self, count: int) -> Iterator[Callable[[], None]]:
        """Count a crystal's hops that wait for the model, until the context ends; gives what is called at each done."""
        left = count

        def done() -> None:
            nonlocal left
            if left:
                left -= 1
                self._change(-1)

        self._change(count)
        try:
            yield done
        finally:
            self._change(-left)
            left = 0

    def _change(self, hops: int) -> None:
        self._hops += hops
        if self._hops < MOST_HOPS_AHEAD:
            self._room.set()
        else:
            self._room.clear()
