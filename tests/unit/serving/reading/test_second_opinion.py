"""A second opinion never holds up the model's own answer."""

import asyncio

import pytest

from app.crystals.hops.percolation import PercolationBarriers
from app.serving.answers.types import SecondOpinion
from app.serving.reading.second_opinion import opinion_wait_s, opinion_within
from app.serving.worker_process import BUSY_FACTOR
from app.settings import Settings

pytestmark = pytest.mark.anyio


async def test_an_opinion_that_does_not_come_in_time_is_given_up_and_says_so() -> None:
    cancelled = asyncio.Event()

    async def never() -> SecondOpinion:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    late = await opinion_within(never(), 0.01)
    assert not late.answered
    assert late.detail == "it waited for others, or was computed, until 0.01 s after the hops, and was given up"
    assert (late.seconds, late.percolation_ev) == (0.01, PercolationBarriers(one_d=None, two_d=None, three_d=None))
    assert cancelled.is_set(), "its worker would go on"


async def test_one_that_comes_is_given_as_it_is() -> None:
    opinion = SecondOpinion(
        method="bvse",
        percolation_ev=PercolationBarriers(one_d=0.3, two_d=None, three_d=None),
        detail="",
        seconds=1.0,
        answered=True,
    )
    future: asyncio.Future[SecondOpinion] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, opinion)
    assert await opinion_within(future, 60.0) is opinion


def test_an_opinion_may_take_three_times_its_limit_within_that_of_the_request() -> None:
    usual = Settings()
    assert BUSY_FACTOR * usual.second_opinion_timeout_s <= opinion_wait_s(usual) < usual.request_timeout_s
    patient = usual.model_copy(update={"request_timeout_s": 1e6})
    assert opinion_wait_s(patient) == usual.queue_max_wait_s + BUSY_FACTOR * usual.second_opinion_timeout_s
    hasty = usual.model_copy(update={"request_timeout_s": 10.0})
    assert opinion_wait_s(hasty) == 8.0
