"""Pieces of a batch side by side on a CPU, one thread each."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Lanes:
    """Threads that each run forward passes alone.

    A small graph's operations are too short to share: a pass of two threads took longer than one of one thread (52
    against 20 ms), and far longer beside other work. Two passes side by side take hardly longer than one.

    Args:
        threads: how many passes at once.
    """

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(1)
        self.threads = threads
        # torch keeps its number of threads for each thread
        self._pool = ThreadPoolExecutor(threads, "lane", initializer=torch.set_num_threads, initargs=(1,))

    def map(self, function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
        """Results of all pieces in their order; the first piece that fails raises."""
        return list(self._pool.map(function, pieces))
