"""Answers kept by what was asked: the same band in another file, order or setting is answered at once."""

from collections.abc import Callable
from time import time

from app.serving.cache.contract import BandLike, Cache, CacheScope, LookupResult, ignore_lookup
from app.serving.cache.in_process import InProcessCache, NoCache
from app.serving.cache.redis_cache import RedisCache, RedisLink, RedisRecent
from app.settings import Settings

__all__ = ["BandLike", "Cache", "CacheScope", "InProcessCache", "LookupResult", "NoCache", "RedisCache", "open_cache"]


def open_cache(settings: Settings, *, observe: Callable[[LookupResult, int], None] = ignore_lookup) -> Cache:
    """The cache that the settings ask for; nothing is connected before it is used.

    Args:
        settings: cache, redis_url, cache_ttl_s, cache_entries, cache_mib and redis_timeout_ms are read.
        observe: called at each look-up with "hit", "miss" or "error" and the number of bands.
    """
    url = settings.redis_url
    if url is None:
        if settings.cache == "off":
            return NoCache()
        return InProcessCache(
            entries=settings.cache_entries,
            limit_bytes=settings.cache_mib * 2**20,
            ttl_s=settings.cache_ttl_s,
            observe=observe,
        )
    link = RedisLink(url.get_secret_value(), timeout_ms=settings.redis_timeout_ms)
    if settings.cache == "off":  # other replicas must still find what was just answered
        return NoCache(recent=RedisRecent(link))
    return RedisCache(link, ttl_s=settings.cache_ttl_s, observe=observe, clock=time)
