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

    def map(
        self, function: Callable[[Piece], Result], pieces: Sequence[Piece], *, ways: int | None = None
    ) -> list[Result]:
        """Results of all pieces in their order; the first piece that fails raises.

        Args:
            function: what a lane does with a piece.
            pieces: at least one.
            ways: lanes that are used at once; None uses all.
        """
        ways = min(ways or self.threads, len(pieces))

        def in_turn(way: int) -> list[Result]:
            return [function(piece) for piece in pieces[way::ways]]

        of_ways = list(self._pool.map(in_turn, range(ways)))
        return [of_ways[number % ways][number // ways] for number in range(len(pieces))]
