"""Waits until something holds, and fails the test where it does not come to hold."""

import asyncio
import time
from collections.abc import Awaitable, Callable

#: No time limit of a test, only the end of its patience: a busy machine takes long over what takes milliseconds.
DEADLINE_S = 120.0
PAUSE_S = 0.005


def wait_until(
    holds: Callable[[], object],
    shown: Callable[[], object] | None = None,
    *,
    deadline_s: float = DEADLINE_S,
    pause_s: float = PAUSE_S,
) -> None:
    """Ask again and again until the answer is true.

    Args:
        shown: what a failure shows.
        deadline_s: the end of its patience, where much must start first.
        pause_s: between two questions.
    """
    deadline = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < deadline, shown() if shown else f"not so within {deadline_s:g} s"
        time.sleep(pause_s)


async def until(holds: Callable[[], object | Awaitable[object]], *, pause_s: float = PAUSE_S) -> None:
    """Ask again and again, an answer that is awaitable is awaited, until the answer is true.

    Args:
        pause_s: between two questions; 0 asks after each step of the event loop, for what may soon be over.
    """
    deadline = time.monotonic() + DEADLINE_S
    while True:
        answer = holds()
        if await answer if isinstance(answer, Awaitable) else answer:
            return
        assert time.monotonic() < deadline, f"not so within {DEADLINE_S:g} s"
        await asyncio.sleep(pause_s)
