"""Lanes: pieces of a batch run in parallel on a CPU, one thread each."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Lanes:
    """Threads that each run whole forward passes.

    The operations on a small graph are too short to split: a pass on two threads took longer than on one thread (52
    against 20 ms), and far longer under load. Two passes in parallel take hardly longer than one.

    Args:
        threads: number of parallel passes.
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
            function: applied to each piece.
            pieces: at least one.
            ways: number of lanes to use; None uses all.
        """
        ways = min(ways or self.threads, len(pieces))

        def in_turn(way: int) -> list[Result]:
            return [function(piece) for piece in pieces[way::ways]]

        of_ways = list(self._pool.map(in_turn, range(ways)))
        return [of_ways[number % ways][number // ways] for number in range(len(pieces))]
