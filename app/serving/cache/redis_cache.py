"""The cache that replicas share: a Redis that may be slow or away at any time."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from math import ceil
from time import time
from typing import Literal, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.serving.cache.band_cache import BUCKET_ENTRIES, BandCache, StoredEntry
from app.serving.cache.breaker import Breaker
from app.serving.cache.contract import LookupResult, StoreAwayError, ignore_lookup
from app.serving.cache.in_process import MemoryRecent

_CONNECTIONS = 32
_RECENT_PREFIX = "ionpath:r2:"

T = TypeVar("T")
logger = structlog.get_logger(__name__)


class RedisLink:
    """Connections to one Redis, a time limit on each exchange, and a breaker.

    Args:
        url: redis://[:password@]host:port/n, rediss:// or unix://; read at once, connected at the first use.
        timeout_ms: an exchange that takes longer, connecting included, is given up.
        user: what uses it, for the log: `cache_away`, `cache_back`.
        while_away: what happens while Redis is away, for the log.

    Attributes:
        pool: the connections.

    Raises:
        ValueError: not a Redis URL.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_ms: float,
        user: Literal["cache", "rates"] = "cache",
        while_away: str = "every answer is computed",
        breaker: Breaker | None = None,
    ) -> None:
        self._timeout_s = timeout_ms / 1000.0
        self._away_event, self._back_event = f"{user}_away", f"{user}_back"
        self._while_away = while_away
        self._breaker = breaker or Breaker()
        try:
            self.pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=self._timeout_s,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
                # One retry without a pause: a connection that the server closed meanwhile is opened again.
                retry=Retry(NoBackoff(), 1),
                decode_responses=False,
                driver_info=None,  # or each new connection reads the library's version from disk, and sends it
            )
        except ValueError:
            # What the library says may repeat a part of the URL, and so of its password.
            raise ValueError("IONPATH_REDIS_URL is not a URL: expected redis://[:password@]host:port/n") from None
        self._client = Redis.from_pool(self.pool)

    async def exchange(self, work: Callable[[Redis], Awaitable[T]]) -> T:
        """One exchange within the time limit; StoreAwayError where it fails or the breaker is open."""
        if not self._breaker.allows():
            raise StoreAwayError("left alone after failures")
        return await self._attempt(work)

    async def ping(self) -> bool:
        """Ask, whatever the breaker says."""
        try:
            await self._attempt(_ping)
        except StoreAwayError:
            return False
        return True

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _attempt(self, work: Callable[[Redis], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await work(self._client)
        except (RedisError, OSError, TimeoutError) as error:  # all that a server or a network can do
            if self._breaker.failed():
                logger.warning(
                    self._away_event,
                    problem=f"Redis does not answer; {self._while_away}",
                    error=type(error).__name__,
                    detail=str(error),
                )
            raise StoreAwayError(type(error).__name__) from error
        if self._breaker.succeeded():
            logger.info(self._back_event)
        return result


async def _ping(client: Redis) -> None:
    await client.ping()


class RedisEntries:
    """Buckets as Redis hashes: one field an entry, so that replicas that answer at once keep one."""

    def __init__(self, link: RedisLink, *, ttl_s: float) -> None:
        self._link = link
        self._ttl_s = ceil(ttl_s)

    async def read(self, keys: Sequence[str]) -> list[list[bytes]]:
        """What each bucket holds, in one round trip."""

        async def work(client: Redis) -> list[list[bytes]]:
            async with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hvals(key)
                return list(await pipe.execute())

        return await self._link.exchange(work) if keys else []

    async def write(self, entries: Sequence[StoredEntry]) -> None:
        """Put entries into their buckets, in one round trip unless a bucket is full."""

        async def work(client: Redis) -> None:
            # One transaction: a hash without its time to live would never expire.
            async with client.pipeline(transaction=True) as pipe:
                for entry in entries:
                    pipe.hset(entry.key, entry.field, entry.content)
                    pipe.expire(entry.key, self._ttl_s)
                    pipe.hlen(entry.key)
                replies = await pipe.execute()
            sizes = dict(zip((entry.key for entry in entries), replies[2::3], strict=True))
            for key, size in sizes.items():
                if size > BUCKET_ENTRIES:
                    await _shrink(client, key, size - BUCKET_ENTRIES)

        if entries:
            await self._link.exchange(work)

    async def entries(self, keys: Sequence[str]) -> list[StoredEntry]:
        """What the buckets hold, with its fields, in one round trip."""

        async def work(client: Redis) -> list[dict[bytes, bytes]]:
            async with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hgetall(key)
                return list(await pipe.execute())

        buckets = await self._link.exchange(work) if keys else []
        return [
            StoredEntry(key=key, field=field.decode(errors="replace"), content=content)
            for key, bucket in zip(keys, buckets, strict=True)
            for field, content in bucket.items()
        ]

    async def remove(self, entries: Sequence[StoredEntry]) -> None:
        """Take entries out of their buckets, in one round trip."""

        async def work(client: Redis) -> None:
            async with client.pipeline(transaction=False) as pipe:
                for entry in entries:
                    pipe.hdel(entry.key, entry.field)
                await pipe.execute()

        if entries:
            await self._link.exchange(work)


async def _shrink(client: Redis, key: str, surplus: int) -> None:
    """Drop entries of a full bucket, any of them: a hash keeps no order; a miss costs one forward pass."""
    fields = await client.hrandfield(key, surplus)
    if isinstance(fields, list):
        await client.hdel(key, *fields)


class RedisRecent:
    """Recent records that all replicas find; while Redis is away, each finds its own."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._own = MemoryRecent()  # only what Redis could not take, and so newer than what it holds

    async def put(self, record_id: str, record: bytes, ttl_s: float) -> None:
        """Keep a record for ttl_s seconds."""

        async def work(client: Redis) -> None:
            await client.set(_RECENT_PREFIX + record_id, record, px=max(1, ceil(1000 * ttl_s)))

        try:
            await self._link.exchange(work)
        except StoreAwayError:
            await self._own.put(record_id, record, ttl_s)
        else:
            await self._own.delete(record_id)

    async def get(self, record_id: str) -> bytes | None:
        """The record, or None."""

        async def work(client: Redis) -> bytes | None:
            found = await client.get(_RECENT_PREFIX + record_id)
            return found if isinstance(found, bytes) else None

        own = await self._own.get(record_id)
        if own is not None:
            return own
        try:
            return await self._link.exchange(work)
        except StoreAwayError:
            return None

    async def delete(self, record_id: str) -> None:
        """Forget a record; a Redis that is away holds it until its time is over."""

        async def work(client: Redis) -> None:
            await client.delete(_RECENT_PREFIX + record_id)

        await self._own.delete(record_id)
        with suppress(StoreAwayError):
            await self._link.exchange(work)

    async def ping(self) -> bool:
        """Ask Redis, whatever the breaker says."""
        return await self._link.ping()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._link.aclose()


class RedisCache(BandCache):
    """Answers and recent records in Redis; where Redis fails or is slow, a look-up is a miss.

    Args:
        link: the connections; closed with the cache.
        ttl_s: how long an answer holds, seconds.
        observe: called at each look-up, with the number of bands.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        link: RedisLink,
        *,
        ttl_s: float,
        observe: Callable[[LookupResult, int], None] = ignore_lookup,
        clock: Callable[[], float] = time,
    ) -> None:
        super().__init__(
            store=RedisEntries(link, ttl_s=ttl_s),
            recent=RedisRecent(link),
            ttl_s=ttl_s,
            observe=observe,
            clock=clock,
        )
