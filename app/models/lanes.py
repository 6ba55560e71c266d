"""Pieces of a batch side by side on a CPU, one thread each."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Lanes:
    """Threads that each run forward passes alone.

    Two passes of one thread each finish sooner than one pass of two threads: a small graph's operations are too short
    to share, and the threads of a shared one wait for each other in a loop, which costs several times the processor
    time as soon as anything else runs beside them. A single piece gets all threads.

    Args:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "lane", initializer=torch.set_num_threads, initargs=(1,))

    def map(self, function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
        """Results of all pieces in their order; the first piece that fails raises."""
        if len(pieces) > 1:
            return list(self._pool.map(function, pieces))
        # torch keeps this setting for each thread, and the lanes' own is one.
        torch.set_num_threads(self.threads)
        return [function(piece) for piece in pieces]
