import threading
import time

import pytest
import torch

from app.models.predictors.parallel_passes import Lanes


def test_pieces_run_side_by_side_on_one_thread_each_and_keep_their_order() -> None:
    lanes = Lanes(2)
    both_here = threading.Barrier(2, timeout=30)

    def run(piece: int) -> tuple[int, int]:
        both_here.wait()  # passes only where two pieces run at once
        return piece, torch.get_num_threads()

    assert lanes.map(run, [1, 2]) == [(1, 1), (2, 1)]


def test_a_single_piece_shares_its_operations_with_no_other_thread() -> None:
    assert Lanes(3).map(lambda _: torch.get_num_threads(), ["alone"]) == [1]


def test_a_piece_that_fails_raises() -> None:
    def run(piece: int) -> None:
        if piece == 2:
            raise MemoryError

    with pytest.raises(MemoryError):
        Lanes(2).map(run, [1, 2, 3])


def test_no_more_lanes_are_used_than_asked_for_and_the_order_stays() -> None:
    at_once, most = 0, 0
    changing = threading.Lock()

    def run(piece: int) -> int:
        nonlocal at_once, most
        with changing:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)  # so that lanes overlap where they may
        with changing:
            at_once -= 1
        return piece

    lanes = Lanes(4)
    assert lanes.map(run, list(range(9)), ways=2) == list(range(9))
    assert most == 2
    assert lanes.map(run, [1, 2, 3], ways=1) == [1, 2, 3]
    assert lanes.map(run, [1], ways=3) == [1]
