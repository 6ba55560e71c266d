"""How often each caller may ask: a rate with a burst, which all replicas on one Redis count together.

`limits` keeps the counts. Its own strategies are windows of whole seconds: a caller whose burst is used up would wait
for the end of the window, and 600 a minute with a burst of 1 cannot be written as one. The strategy here is the generic
cell rate algorithm (ITU-T I.371): of each caller one time is stored, until when its requests are paid for.
"""

import time
from dataclasses import dataclass
from math import ceil

from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from redis.asyncio import ConnectionPool

from app.errors import RateExceededError
from app.serving.cache.contract import StoreAwayError
from app.serving.cache.redis_cache import RedisLink
from app.settings import Settings

_MICROSECONDS = 1_000_000
#: Seconds that rounding may add to a sum of intervals.
_ROUNDING_S = 1e-6

#: Times are microseconds of Redis's own clock, so those of the replicas may differ. Whole numbers: sums are exact.
#: A time too far ahead, from a clock that was set back or a larger burst of before, costs one interval at most.
_TAKE = b"""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local paid_until = tonumber(redis.call('GET', KEYS[1]) or now)
paid_until = math.min(math.max(paid_until, now), now + burst) + interval
if paid_until > now + burst then
    return paid_until - now - burst
end
redis.call('SET', KEYS[1], string.format('%.0f', paid_until), 'PX', math.ceil((paid_until - now) / 1000))
return 0
"""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """One request each interval, and a burst of them for a caller that was silent.

    Attributes:
        a_minute: requests a minute, 1 or more.
        burst: requests at once, 1 or more.
    """

    a_minute: int
    burst: int

    @property
    def interval_us(self) -> int:
        """Microseconds of one request, rounded up."""
        return ceil(60 * _MICROSECONDS / self.a_minute)


class OwnCounts(MemoryStorage):
    """Counts of this process alone: the time until which a caller has paid is when its key expires."""

    async def take(self, caller: str, rate: Rate) -> float:
        """Count a request, and give 0; or, where it comes too early, the seconds until it would be allowed.

        Nothing here waits for anything, so no other request comes between reading and writing.
        """
        interval_s = rate.interval_us / _MICROSECONDS
        burst_s = rate.burst * interval_s
        known_until = await self.get_expiry(caller)  # of a new caller the time at which it is asked, so `now` is later
        now = time.time()
        paid_until = min(max(known_until, now), now + burst_s) + interval_s
        if paid_until > now + burst_s + _ROUNDING_S:
            return paid_until - now - burst_s
        await self.clear(caller)
        await self.incr(caller, paid_until - now)
        return 0.0


class SharedCounts(RedisStorage):
    """Counts in a Redis, for all replicas that use it.

    Args:
        pool: connections to it.
    """

    bridge: RedispyBridge

    def __init__(self, pool: ConnectionPool) -> None:
        super().__init__(
            "async+redis://",
            implementation="redispy",
            key_prefix="ionpath:rate",
            connection_pool=pool,  # type: ignore[arg-type] # documented; the annotation covers the other options
        )
        self._take = self.bridge.get_connection().register_script(_TAKE)

    async def take(self, caller: str, rate: Rate) -> float:
        """Count a request, and give 0; or, where it comes too early, the seconds until it would be allowed.

        Raises:
            RedisError: Redis is away, or cannot write.
        """
        interval_us = rate.interval_us
        wait_us = await self._take([self.bridge.prefixed_key(caller)], [interval_us, interval_us * rate.burst])
        return int(wait_us) / _MICROSECONDS


class Rates:
    """Refuses callers that ask too often.

    While Redis is away each replica counts for itself, and Redis is asked again after a pause: no request is refused
    for its absence, and no request waits for it longer than the link's time limit.

    Args:
        rate: of each caller; None for no rate.
        link: to the Redis whose replicas count together; None to count in this process. It is closed with this.

    Attributes:
        counted_alone: requests counted by this replica alone because Redis was away.
    """

    def __init__(self, rate: Rate | None, *, link: RedisLink | None = None) -> None:
        self._rate = rate
        self._link = link
        self._shared = SharedCounts(link.pool) if link else None
        self._own = OwnCounts()
        self.counted_alone = 0

    async def take(self, caller: str) -> None:
        """Count a request.

        Raises:
            RateExceededError: its retry_after_s is when the caller's next request will be allowed.
        """
        if self._rate is None:
            return
        wait_s = await self._wait_s(caller, self._rate)
        if wait_s > 0:
            raise RateExceededError(
                f"This API key or address may ask for {self._rate.a_minute} predictions a minute "
                f"(IONPATH_RATE_PER_MINUTE), and for {self._rate.burst} at once after a pause (IONPATH_RATE_BURST).",
                retry_after_s=wait_s,
            )

    async def _wait_s(self, caller: str, rate: Rate) -> float:
        shared = self._shared
        if self._link is None or shared is None:
            return await self._own.take(caller, rate)
        try:
            return await self._link.exchange(lambda _client: shared.take(caller, rate))
        except StoreAwayError:
            self.counted_alone += 1
            return await self._own.take(caller, rate)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._link is not None:
            await self._link.aclose()


def open_rates(settings: Settings) -> Rates:
    """The rates that the settings ask for; nothing is connected before the first request.

    Raises:
        ValueError: IONPATH_REDIS_URL is not a URL of Redis.
    """
    if not settings.rate_per_minute:
        return Rates(None)
    rate = Rate(a_minute=settings.rate_per_minute, burst=settings.rate_burst)
    if settings.redis_url is None:
        return Rates(rate)
    link = RedisLink(
        settings.redis_url.get_secret_value(),
        timeout_ms=settings.redis_timeout_ms,
        user="rates",
        while_away="each replica counts the rates of its callers for itself",
    )
    return Rates(rate, link=link)
