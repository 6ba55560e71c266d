"""Rates: a burst, then one request each interval, each caller by itself; in this process and in a real Redis."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import aclosing

import pytest
import redis
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.api.rates import Rate, Rates, open_rates
from app.errors import RateExceededError
from app.serving.cache.breaker import Breaker
from app.serving.cache.redis_cache import RedisLink
from app.settings import Settings
from benchmarks.stores import RedisServer

pytestmark = pytest.mark.anyio

GENEROUS_MS = 10_000.0
#: So slow that no request of a test is paid for by the time that the test takes.
SLOW = Rate(a_minute=1, burst=8)


class Clock:
    """Stands in for the system's clock, which `limits` reads too; each look at it may take a while."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0
        self.look_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.look_s
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.time", clock)
    return clock


async def refused_for_s(rates: Rates, caller: str) -> float:
    with pytest.raises(RateExceededError) as refused:
        await rates.take(caller)
    assert refused.value.kind == "rate-exceeded"
    return refused.value.retry_after_s


async def allowed(rates: Rates, caller: str, requests: int) -> int:
    """How many of some requests at once are allowed."""
    outcomes: Counter[bool] = Counter()
    for _ in range(requests):
        try:
            await rates.take(caller)
        except RateExceededError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
    return outcomes[True]


# In this process


async def test_a_burst_is_allowed_and_then_one_each_interval(clock: Clock) -> None:
    rates = Rates(Rate(a_minute=60, burst=3))
    for _ in range(3):
        await rates.take("alice")
    assert await refused_for_s(rates, "alice") == pytest.approx(1.0)
    clock.now_s += 0.5
    assert await refused_for_s(rates, "alice") == pytest.approx(0.5)
    clock.now_s += 0.5
    await rates.take("alice")
    await refused_for_s(rates, "alice")
    await rates.take("bob")


async def test_the_stated_wait_is_enough(clock: Clock) -> None:
    rates = Rates(Rate(a_minute=7, burst=1))
    clock.now_s += 0.678
    for _ in range(50):
        await rates.take("alice")
        clock.now_s += await refused_for_s(rates, "alice")


async def test_a_new_caller_is_allowed_though_time_passes_while_it_is_looked_up(clock: Clock) -> None:
    clock.look_s = 5e-6
    rates = Rates(Rate(a_minute=120, burst=1))
    for number in range(20):
        await rates.take(f"caller {number}")
        clock.now_s += await refused_for_s(rates, f"caller {number}")
        await rates.take(f"caller {number}")


async def test_a_refusal_costs_nothing_and_a_pause_earns_one_burst(clock: Clock) -> None:
    rates = Rates(Rate(a_minute=60, burst=2))
    assert await allowed(rates, "alice", 2) == 2
    clock.now_s += 0.1
    assert await allowed(rates, "alice", 100) == 0
    clock.now_s += 1_000.0
    assert await allowed(rates, "alice", 3) == 2


async def test_more_than_one_a_second_and_no_burst_is_a_rate_too(clock: Clock) -> None:
    rates, served = Rates(Rate(a_minute=600, burst=1)), 0
    for _ in range(1_000):
        served += await allowed(rates, "alice", 2)
        clock.now_s += 0.05
    assert served == pytest.approx(500, abs=1)


async def test_a_clock_that_is_set_back_costs_one_interval_at_most(clock: Clock) -> None:
    rates = Rates(Rate(a_minute=60, burst=2))
    await rates.take("alice")
    clock.now_s -= 3_600.0
    assert await refused_for_s(rates, "alice") <= 1.0 + 1e-6


async def test_without_a_rate_everybody_is_allowed() -> None:
    assert await allowed(Rates(None), "alice", 1_000) == 1_000


async def test_callers_that_have_paid_are_forgotten(clock: Clock) -> None:
    rates = Rates(Rate(a_minute=60, burst=1))
    for number in range(100):
        await rates.take(str(number))
        clock.now_s += 2.0
        await asyncio.sleep(0)  # the library forgets in a task of its own
    assert len(rates._own.expirations) <= 3
    assert len(rates._own.storage) <= 3


# In Redis, for all replicas together


def shared(url: str, rate: Rate, *, timeout_ms: float = GENEROUS_MS, breaker: Breaker | None = None) -> Rates:
    return Rates(rate, link=RedisLink(url, timeout_ms=timeout_ms, user="rates", breaker=breaker))


async def test_four_replicas_on_one_redis_are_one_rate(redis_url: str) -> None:
    replicas = [shared(redis_url, SLOW) for _ in range(4)]
    for turn in range(SLOW.burst):
        await replicas[turn % 4].take("carol")
    for replica in replicas:
        assert 0 < await refused_for_s(replica, "carol") <= 60
        await replica.take("dave")  # another caller
    assert sum(replica.counted_alone for replica in replicas) == 0
    for replica in replicas:
        await replica.aclose()


async def test_in_redis_a_caller_has_its_burst_and_then_one_each_interval(redis_url: str) -> None:
    rates = shared(redis_url, Rate(a_minute=2, burst=3))
    assert await allowed(rates, "erin", 3) == 3
    assert 0 < await refused_for_s(rates, "erin") <= 30
    with redis.Redis.from_url(redis_url) as client:
        key = "ionpath:rate:erin"
        assert 60_000 < client.pttl(key) <= 90_000, "a caller that has paid is forgotten"
        now_us = int(client.get(key) or 0)
        client.set(key, now_us - 30_000_000, keepttl=True)  # as if an interval had gone by
        assert await allowed(rates, "erin", 2) == 1
        client.set(key, now_us + 3_600_000_000)  # by a clock that was an hour ahead
        assert 0 < await refused_for_s(rates, "erin") <= 30
        client.set(key, now_us - 3_600_000_000)  # paid long ago
        assert await allowed(rates, "erin", 4) == 3, "a pause earns one burst"
    assert rates.counted_alone == 0
    await rates.aclose()


async def test_what_is_counted_in_redis_is_found_after_a_restart_of_the_replica(redis_url: str) -> None:
    for allowed_requests in (SLOW.burst, 0):
        rates = shared(redis_url, SLOW)
        assert await allowed(rates, "frank", SLOW.burst) == allowed_requests
        await rates.aclose()


async def test_while_redis_is_away_each_replica_counts_for_itself(own_redis: RedisServer) -> None:
    now = Clock()
    replicas = [shared(own_redis.url, SLOW, breaker=Breaker(clock=now)) for _ in range(2)]
    for replica in replicas:
        await replica.take("alice")
    own_redis.stop()
    with capture_logs() as logged:
        for replica in replicas:  # nobody is refused because Redis is away, and no rate is without an end
            assert await allowed(replica, "alice", 2 * SLOW.burst) == SLOW.burst
    assert [replica.counted_alone for replica in replicas] == [2 * SLOW.burst] * 2
    assert [line["log_level"] for line in logged if line["event"] == "rates_away"] == ["warning"] * 2

    own_redis.start()  # empty: it keeps nothing on disk
    now.now_s += 60.0
    with capture_logs() as logged:
        together = [await allowed(replica, "alice", SLOW.burst) for replica in replicas]
    assert together == [SLOW.burst, 0]
    assert [line["event"] for line in logged] == ["rates_back"] * 2
    assert [replica.counted_alone for replica in replicas] == [2 * SLOW.burst] * 2
    for replica in replicas:
        await replica.aclose()


async def test_a_redis_that_hangs_is_left_alone_and_refuses_nobody(own_redis: RedisServer) -> None:
    breaker = Breaker(clock=Clock())
    rates = shared(own_redis.url, SLOW, timeout_ms=50.0, breaker=breaker)
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        assert await allowed(rates, "alice", 3) == 3
        assert breaker.is_open, "three requests wait for the time limit of 50 ms, and the others not at all"
        assert await allowed(rates, "alice", SLOW.burst) == SLOW.burst - 3
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)
    await rates.aclose()


async def test_a_redis_that_cannot_write_refuses_nobody(own_redis: RedisServer) -> None:
    rates = shared(own_redis.url, SLOW)
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", 1)
    assert await allowed(rates, "alice", SLOW.burst) == SLOW.burst
    assert rates.counted_alone == SLOW.burst
    await rates.aclose()


# From the settings


async def test_settings_say_where_a_rate_is_counted(redis_url: str) -> None:
    url = SecretStr(redis_url)
    assert open_rates(Settings(redis_url=url))._rate is None, "no rate unless one is set"
    assert open_rates(Settings(rate_per_minute=1))._link is None
    # with a Redis that takes longer than redis_timeout_ms each would count for itself
    settings = Settings(redis_url=url, rate_per_minute=1, rate_burst=2, redis_timeout_ms=GENEROUS_MS)
    async with aclosing(open_rates(settings)) as one, aclosing(open_rates(settings)) as other:
        assert (await allowed(one, "grace", 2), await allowed(other, "grace", 2)) == (2, 0)


def test_a_url_that_is_none_of_redis_is_refused_without_being_repeated() -> None:
    with pytest.raises(ValueError, match="IONPATH_REDIS_URL") as refused:
        open_rates(Settings(redis_url=SecretStr("redis://:hidden#more@127.0.0.1:9/0"), rate_per_minute=1))
    assert "hidden" not in str(refused.value)
