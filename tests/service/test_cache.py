"""The cache: by content, in this process and in a real Redis that may be slow, full of nonsense or away."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import pytest
import redis
from bands import band_of
from pydantic import SecretStr
from waiting import until

from app.crystals.band import Band
from app.crystals.geometry.identity import TOLERANCE_ANGSTROM, bucket_keys, canonical, fingerprint
from app.models.prediction import QUANTILE_LEVELS, Prediction
from app.serving.cache import Cache, CacheScope, InProcessCache, LookupResult, NoCache, RedisCache, open_cache
from app.serving.cache.band_cache import BUCKET_ENTRIES
from app.serving.cache.breaker import Breaker
from app.serving.cache.contract import ignore_lookup
from app.serving.cache.entries import Entry, decode, encode, store_key
from app.serving.cache.in_process import MemoryRecent
from app.serving.cache.redis_cache import RedisLink
from app.settings import Settings

pytestmark = pytest.mark.anyio

SCOPE = CacheScope(key_id="group-a", model_name="model-3", model_digest="sha256:1")
GENEROUS_MS = 10_000.0
Observe = Callable[[LookupResult, int], None]


class Server(Protocol):
    """Of the fixture `own_redis`."""

    @property
    def url(self) -> str: ...
    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Lookups(Counter[LookupResult]):
    def __call__(self, result: LookupResult, count: int) -> None:
        self[result] += count


def prediction(barrier_ev: float = 0.412345678901234) -> Prediction:
    quantiles = tuple(barrier_ev + 0.1 * (level - 0.5) for level in QUANTILE_LEVELS)
    return Prediction(
        barrier_ev=barrier_ev,
        quantiles_ev=quantiles,
        in_domain=False,
        domain_reasons=("kein Ähnliches in the training set",),
    )


@pytest.fixture(scope="module")
def bands(composed_rows: list[dict[str, Any]]) -> list[Band]:
    one_each = {row["crystal"]: band_of(row) for row in reversed(composed_rows) if not row["strain"]}
    return list(one_each.values())


def in_other_words(band: Band) -> Band:
    """The same band: moved, in another order and setting, turned round, rounded."""
    rng = np.random.default_rng(len(band.host_species))
    order = rng.permutation(len(band.host_species))
    back = np.linalg.inv(np.array([[1, 1, 0], [0, 1, 0], [0, -1, 1]]))
    to_frac = np.linalg.inv(band.lattice_angstrom)
    noise = rng.uniform(-5e-4, 5e-4, band.host_frac_coords.shape) @ to_frac
    return Band(
        lattice_angstrom=np.linalg.inv(back) @ band.lattice_angstrom,
        host_species=tuple(band.host_species[number] for number in order),
        host_frac_coords=((band.host_frac_coords + noise)[order] + 0.3) @ back,
        ion=band.ion,
        image_frac_coords=(band.image_frac_coords[::-1] + 0.3) @ back,
    )


def moved(band: Band, angstrom: float, atom: int = 0) -> Band:
    host = band.host_frac_coords.copy()
    host[atom] += np.array([angstrom, 0, 0]) @ np.linalg.inv(band.lattice_angstrom)
    return replace(band, host_frac_coords=host)


def in_process(
    *,
    entries: int = 1000,
    limit_bytes: int = 2**24,
    observe: Observe = ignore_lookup,
    clock: Callable[[], float] = time.time,
) -> InProcessCache:
    return InProcessCache(entries=entries, limit_bytes=limit_bytes, ttl_s=60, observe=observe, clock=clock)


@asynccontextmanager
async def redis_cache(
    url: str, *, timeout_ms: float = GENEROUS_MS, observe: Observe = ignore_lookup, breaker: Breaker | None = None
) -> AsyncIterator[RedisCache]:
    link = RedisLink(url, timeout_ms=timeout_ms, breaker=breaker)
    cache = RedisCache(link, ttl_s=60, observe=observe)
    try:
        yield cache
    finally:
        await cache.aclose()


@pytest.fixture
def clean_redis(redis_url: str) -> str:
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    return redis_url


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.fixture(params=["in process", "redis"])
async def cache(request: pytest.FixtureRequest, clean_redis: str) -> AsyncIterator[Cache]:
    if request.param == "in process":
        yield in_process()
    else:
        async with redis_cache(clean_redis) as made:
            yield made


async def test_the_same_band_in_other_words_is_a_hit_with_the_same_answer(cache: Cache, bands: list[Band]) -> None:
    answers = [prediction(0.1 * number) for number in range(len(bands))]
    await cache.put_many(SCOPE, list(zip(bands, answers, strict=True)))
    for band, answer in zip(bands, answers, strict=True):
        assert await cache.get(SCOPE, band) == answer
        assert await cache.get(SCOPE, in_other_words(band)) == answer
    assert await cache.get_many(SCOPE, [in_other_words(band) for band in bands]) == answers


async def test_a_band_that_differs_is_never_a_hit(cache: Cache, bands: list[Band]) -> None:
    for band in bands:
        await cache.put(SCOPE, band, prediction())
    others = [moved(band, 0.01, atom) for band in bands for atom in (0, len(band.host_species) - 1)]
    strained = [replace(band, lattice_angstrom=band.lattice_angstrom * 1.003) for band in bands]
    assert await cache.get_many(SCOPE, [*others, *strained]) == [None] * (3 * len(bands))


async def test_nothing_crosses_from_one_scope_to_another(cache: Cache, bands: list[Band]) -> None:
    await cache.put(SCOPE, bands[0], prediction())
    for other in (
        replace(SCOPE, key_id=None),
        replace(SCOPE, key_id="group-b"),
        replace(SCOPE, model_name="mpt"),
        replace(SCOPE, model_digest="sha256:2"),
        replace(SCOPE, directional=True),
    ):
        assert await cache.get(other, bands[0]) is None
    assert await cache.get(SCOPE, bands[0]) is not None


async def test_what_is_forgotten_is_gone_and_nothing_else_is(cache: Cache, bands: list[Band]) -> None:
    others = replace(SCOPE, key_id="group-b")
    near = moved(bands[0], 0.01)  # another band, mostly of the same bucket
    await cache.put_many(SCOPE, [(band, prediction()) for band in (*bands[:3], near)])
    await cache.put(others, bands[0], prediction())
    assert await cache.forget_many(SCOPE, [in_other_words(bands[0]), in_other_words(bands[1])])
    found = await cache.get_many(SCOPE, [*bands[:3], near])
    assert [answer is not None for answer in found] == [False, False, True, True]
    assert await cache.get(others, bands[0]) is not None
    assert await cache.forget_many(SCOPE, [])


async def test_a_redis_that_is_away_cannot_forget_and_says_so(own_redis: Server, bands: list[Band]) -> None:
    async with redis_cache(own_redis.url) as cache:
        await cache.put(SCOPE, bands[0], prediction())
        own_redis.stop()
        assert not await cache.forget_many(SCOPE, bands[:1])


async def test_no_key_and_an_empty_key_id_are_two_scopes() -> None:
    assert store_key(replace(SCOPE, key_id=None), "b") != store_key(replace(SCOPE, key_id=""), "b")


async def test_an_answer_that_is_no_number_is_not_kept(cache: Cache, bands: list[Band]) -> None:
    await cache.put(SCOPE, bands[0], replace(prediction(), barrier_ev=float("nan")))
    assert await cache.get(SCOPE, bands[0]) is None


async def test_no_bands_at_all(cache: Cache) -> None:
    await cache.put_many(SCOPE, [])
    assert await cache.get_many(SCOPE, []) == []


async def test_a_bucket_is_bounded(cache: Cache, bands: list[Band]) -> None:
    rng = np.random.default_rng(11)  # in many directions: two that symmetry makes the same would be one
    scatter = rng.normal(scale=0.01, size=(150, *bands[0].host_frac_coords.shape))
    to_frac = np.linalg.inv(bands[0].lattice_angstrom)
    every = [replace(bands[0], host_frac_coords=bands[0].host_frac_coords + off @ to_frac) for off in scatter]
    own = [bucket_keys(fingerprint(band))[0] for band in every]
    fullest = Counter(own).most_common(1)[0][0]
    crowd = [band for band, key in zip(every, own, strict=True) if key == fullest]
    assert len(crowd) > BUCKET_ENTRIES + 5
    await cache.put_many(SCOPE, [(band, prediction()) for band in crowd])
    found = await cache.get_many(SCOPE, crowd)
    assert sum(answer is not None for answer in found) == BUCKET_ENTRIES


async def test_a_thousand_atoms_leave_the_event_loop_free(cache: Cache, bands: list[Band]) -> None:
    band = min((band for band in bands if 27 * len(band.host_species) > 1000), key=lambda band: len(band.host_species))
    cells = np.array([[x, y, z] for x in range(3) for y in range(3) for z in range(3)])
    host = ((band.host_frac_coords[None] + cells[:, None]) / 3).reshape(-1, 3)
    large = replace(
        band,
        lattice_angstrom=band.lattice_angstrom * 3,
        host_species=band.host_species * 27,
        host_frac_coords=host,
        image_frac_coords=band.image_frac_coords / 3,
    )
    assert len(large.host_species) > 1000
    await cache.put(SCOPE, large, prediction())
    assert await cache.get(SCOPE, in_other_words(large)) == prediction()


async def test_recent_records_are_kept_replaced_and_forgotten(cache: Cache) -> None:
    name = str(uuid4())
    assert await cache.get_recent(name) is None
    await cache.put_recent(name, b"queued", 60)
    await cache.put_recent(name, b"done\x00\xff", 60)
    assert await cache.get_recent(name) == b"done\x00\xff"
    await cache.delete_recent(name)
    assert await cache.get_recent(name) is None
    assert await cache.ping()


async def test_entries_survive_as_bytes_to_far_below_the_tolerance(bands: list[Band]) -> None:
    for band in bands:
        form = canonical(band)
        entry = decode(encode(Entry(band=form, prediction=prediction(), expires_at=12.5)))
        assert entry is not None
        assert (entry.prediction, entry.expires_at) == (prediction(), 12.5)
        assert (entry.band.ion, entry.band.elements) == (form.ion, form.elements)
        off = (entry.band.host_frac_coords - form.host_frac_coords) @ form.lattice_angstrom
        assert np.abs(off).max() < 1e-5 < TOLERANCE_ANGSTROM
        assert np.array_equal(entry.band.lattice_angstrom, form.lattice_angstrom)


async def test_bytes_that_were_cut_off_or_changed_are_no_entry(bands: list[Band]) -> None:
    whole = encode(Entry(band=canonical(bands[0]), prediction=prediction(), expires_at=1.0))
    rng = np.random.default_rng(3)
    for place in rng.integers(0, len(whole), 200):
        assert decode(whole[:place]) is None
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        assert decode(bytes(changed)) is None


async def test_an_answer_is_forgotten_when_its_time_is_over(bands: list[Band]) -> None:
    clock = Clock()
    cache = in_process(clock=clock)
    await cache.put(SCOPE, bands[0], prediction())
    clock.now += 59
    assert await cache.get(SCOPE, bands[0]) == prediction()
    clock.now += 2
    assert await cache.get(SCOPE, bands[0]) is None


async def test_the_answers_used_last_stay(bands: list[Band]) -> None:
    cache = in_process(entries=3)
    for band in bands[:3]:
        await cache.put(SCOPE, band, prediction())
    assert await cache.get(SCOPE, bands[0]) is not None
    await cache.put(SCOPE, bands[3], prediction())
    found = await cache.get_many(SCOPE, bands[:4])
    assert [answer is not None for answer in found] == [True, False, True, True]


async def test_answers_in_memory_are_bounded_by_their_bytes(bands: list[Band]) -> None:
    bands = sorted(bands, key=lambda band: -band.atom_count)[:4]
    sizes = [len(encode(Entry(band=canonical(band), prediction=prediction(), expires_at=1.0))) for band in bands[:3]]
    cache = in_process(limit_bytes=sum(sizes) + 100)
    for band in bands[:3]:
        await cache.put(SCOPE, band, prediction())
    assert None not in await cache.get_many(SCOPE, bands[:3])
    await cache.put(SCOPE, bands[3], prediction())
    assert await cache.get(SCOPE, bands[0]) is None
    assert await cache.get(SCOPE, bands[3]) is not None


async def test_recent_records_of_a_process_end_and_are_bounded() -> None:
    clock = Clock()
    recent = MemoryRecent(clock=clock, limit_bytes=100)
    await recent.put("a", b"x" * 60, 10)
    await recent.put("b", b"y" * 40, 10)
    await recent.put("c", b"z", 10)
    assert [await recent.get(name) for name in "abc"] == [None, b"y" * 40, b"z"]
    await recent.put("b", b"y" * 101, 10)
    assert [await recent.get(name) for name in "bc"] == [None, b"z"], "one that is too large replaces its own alone"
    clock.now += 11
    assert await recent.get("c") is None
    await recent.put("d", b"v" * 100, 10)
    assert await recent.get("d") is not None


async def test_look_ups_are_counted(bands: list[Band]) -> None:
    lookups = Lookups()
    cache = in_process(observe=lookups)
    await cache.get(SCOPE, bands[0])
    await cache.put(SCOPE, bands[0], prediction())
    await cache.get_many(SCOPE, bands[:3])
    assert lookups == {"miss": 3, "hit": 1}


async def test_without_a_cache_every_answer_is_new_but_recent_records_are_found(bands: list[Band]) -> None:
    cache = NoCache()
    await cache.put(SCOPE, bands[0], prediction())
    await cache.put_many(SCOPE, [(bands[0], prediction())])
    assert await cache.get(SCOPE, bands[0]) is None
    assert await cache.get_many(SCOPE, bands[:2]) == [None, None]
    await cache.put_recent("a", b"1", 60)
    assert await cache.get_recent("a") == b"1"
    await cache.delete_recent("a")
    assert await cache.get_recent("a") is None
    await cache.aclose()


async def test_the_settings_choose_the_cache(clean_redis: str) -> None:
    url = SecretStr(clean_redis)
    for settings, kind in (
        (Settings(), InProcessCache),
        (Settings(cache="off"), NoCache),
        (Settings(redis_url=url), RedisCache),
        (Settings(redis_url=url, cache="off"), NoCache),
    ):
        cache = open_cache(settings)
        assert type(cache) is kind
        await cache.aclose()


async def test_with_the_cache_off_replicas_still_share_recent_records(clean_redis: str) -> None:
    settings = Settings(redis_url=SecretStr(clean_redis), cache="off", redis_timeout_ms=GENEROUS_MS)
    one, two = open_cache(settings), open_cache(settings)
    await one.put_recent("a", b"1", 60)
    assert await two.get_recent("a") == b"1"
    await one.aclose()
    await two.aclose()


async def test_replicas_share_answers_and_all_of_it_ends(clean_redis: str, bands: list[Band]) -> None:
    async with redis_cache(clean_redis) as one, redis_cache(clean_redis) as two:
        await one.put(SCOPE, bands[0], prediction())
        await one.put_recent("a", b"1", 30)
        assert await two.get(SCOPE, in_other_words(bands[0])) == prediction()
        assert await two.get_recent("a") == b"1"
    with redis.Redis.from_url(clean_redis) as client:
        keys = client.keys("*")
        assert isinstance(keys, list)
        assert len(keys) == 2
        for key in keys:
            remaining = client.ttl(key)
            assert isinstance(remaining, int)
            assert 0 < remaining <= 60


async def test_one_upload_answered_by_many_at_once_is_kept_once(clean_redis: str, bands: list[Band]) -> None:
    async with redis_cache(clean_redis) as cache:
        await asyncio.gather(*(cache.put(SCOPE, replace(bands[0]), prediction()) for _ in range(64)))
    with redis.Redis.from_url(clean_redis) as client:
        keys = client.keys("*")
        assert isinstance(keys, list)
        assert [client.hlen(key) for key in keys] == [1]


async def test_nonsense_in_redis_is_skipped(clean_redis: str, bands: list[Band]) -> None:
    lookups = Lookups()
    key = store_key(SCOPE, bucket_keys(fingerprint(bands[0]))[0])
    async with redis_cache(clean_redis, observe=lookups) as cache:
        await cache.put(SCOPE, bands[0], prediction())
        with redis.Redis.from_url(clean_redis) as client:
            client.hset(key, "a", b"\x80\x04nonsense")
            client.hset(key, "b", b"")
            assert await cache.get(SCOPE, bands[0]) == prediction()
            client.delete(key)
            client.set(key, b"not a hash")
        assert await cache.get(SCOPE, bands[0]) is None
    assert lookups == {"hit": 1, "error": 1}


async def test_a_redis_that_is_away_is_a_miss_and_costs_nothing(own_redis: Server, bands: list[Band]) -> None:
    lookups, clock = Lookups(), Clock()
    async with redis_cache(own_redis.url, observe=lookups, breaker=Breaker(clock=clock)) as cache:
        await cache.put(SCOPE, bands[0], prediction())
        own_redis.stop()
        for _ in range(3):
            assert await cache.get(SCOPE, bands[0]) is None
        assert not await cache.ping()
        await cache.put(SCOPE, bands[1], prediction())
        begun = time.perf_counter()
        for _ in range(20):
            assert await cache.get(SCOPE, bands[0]) is None
        assert time.perf_counter() - begun < 1.0
        assert lookups == {"error": 23}

        own_redis.start()
        assert await cache.get(SCOPE, bands[0]) is None  # the breaker is still open
        clock.now += 60
        await cache.put(SCOPE, bands[0], prediction())
        assert await cache.get(SCOPE, bands[0]) == prediction()
        assert await cache.ping()


async def test_a_redis_that_hangs_holds_a_request_no_longer_than_the_limit(
    own_redis: Server, bands: list[Band]
) -> None:
    lookups, clock = Lookups(), Clock()
    async with redis_cache(own_redis.url, timeout_ms=1000, observe=lookups, breaker=Breaker(clock=clock)) as cache:
        await until(cache.ping)
        with frozen(own_redis):
            begun = time.perf_counter()
            answers = await asyncio.gather(*(cache.get(SCOPE, band) for band in bands))
            assert answers == [None] * len(bands)
            assert time.perf_counter() - begun < 5.0
            begun = time.perf_counter()
            assert await cache.get(SCOPE, bands[0]) is None
            assert time.perf_counter() - begun < 0.5  # left alone now
        assert lookups == {"error": len(bands) + 1}


async def test_late_replies_are_never_taken_for_another_requests(own_redis: Server, bands: list[Band]) -> None:
    answers = [prediction(0.01 * number) for number in range(len(bands))]
    clock = Clock()
    async with redis_cache(own_redis.url, timeout_ms=300, breaker=Breaker(clock=clock)) as cache:
        async with redis_cache(own_redis.url) as writer:
            await writer.put_many(SCOPE, list(zip(bands, answers, strict=True)))
        await until(cache.ping)
        for band in bands[:3]:
            with frozen(own_redis):
                assert await cache.get(SCOPE, band) is None
        clock.now += 60
        await until(cache.ping)
        for band, answer in zip(bands, answers, strict=True):
            assert await cache.get(SCOPE, band) in (answer, None)
        found = [await cache.get(SCOPE, band) for band in bands]
        assert any(answer is not None for answer in found)


async def test_recent_records_are_found_while_redis_is_away(own_redis: Server) -> None:
    clock = Clock()
    async with redis_cache(own_redis.url, breaker=Breaker(clock=clock)) as cache:
        await cache.put_recent("job", b"running", 60)
        own_redis.stop()
        await cache.put_recent("job", b"done", 60)
        assert await cache.get_recent("job") == b"done"
        assert await cache.get_recent("other") is None
        await cache.delete_recent("job")
        assert await cache.get_recent("job") is None
        own_redis.start()
        clock.now += 60
        await cache.put_recent("job", b"again", 60)
        assert await cache.get_recent("job") == b"again"


async def test_a_wrong_password_is_an_error_that_is_counted(own_redis: Server, bands: list[Band]) -> None:
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("requirepass", "right")
    lookups = Lookups()
    async with redis_cache(own_redis.url, observe=lookups) as cache:
        await cache.put(SCOPE, bands[0], prediction())
        assert await cache.get(SCOPE, bands[0]) is None
        assert not await cache.ping()
    assert lookups == {"error": 1}
    async with redis_cache(own_redis.url.replace("redis://", "redis://:right@")) as cache:
        assert await cache.ping()


async def test_the_breaker_waits_longer_each_time_and_lets_one_through() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    assert [breaker.failed() for _ in range(3)] == [False, False, True]
    for pause in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        clock.now += pause - 0.01
        assert not breaker.allows()
        clock.now += 0.02
        assert [breaker.allows(), breaker.allows()] == [True, False]
        assert not breaker.failed()
    assert breaker.succeeded()
    assert breaker.allows()
    assert not breaker.is_open


async def test_a_url_of_something_else_is_refused_at_once() -> None:
    for url in ("http://:secret@127.0.0.1", "redis://:secret#more@127.0.0.1", "nonsense"):
        with pytest.raises(ValueError, match="IONPATH_REDIS_URL") as refused:
            RedisLink(url, timeout_ms=100)
        assert "secret" not in str(refused.value)


async def test_a_redis_that_is_out_of_memory_is_read_and_not_written(own_redis: Server, bands: list[Band]) -> None:
    lookups, clock = Lookups(), Clock()
    async with redis_cache(own_redis.url, observe=lookups, breaker=Breaker(clock=clock)) as cache:
        await cache.put(SCOPE, bands[0], prediction())
        with redis.Redis.from_url(own_redis.url) as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1)
            for band in bands[1:]:
                await cache.put(SCOPE, band, prediction())  # refused there: OOM
            await cache.put_recent("job", b"done", 60)
            assert await cache.get_recent("job") == b"done", "from this process"
            clock.now += 60
            assert await cache.get(SCOPE, bands[0]) == prediction(), "what is there can be read"
            assert await cache.get(SCOPE, bands[1]) is None
            client.config_set("maxmemory", 0)
        clock.now += 60
        await cache.put(SCOPE, bands[1], prediction())
        assert await cache.get(SCOPE, bands[1]) == prediction()


async def test_a_redis_that_comes_back_empty_is_filled_again(own_redis: Server, bands: list[Band]) -> None:
    clock = Clock()
    async with redis_cache(own_redis.url, breaker=Breaker(clock=clock)) as cache:
        await cache.put(SCOPE, bands[0], prediction())
        await cache.put_recent("job", b"done", 60)
        own_redis.stop()
        own_redis.start()
        clock.now += 60
        await until(cache.ping)
        assert await cache.get(SCOPE, bands[0]) is None
        assert await cache.get_recent("job") in (b"done", None)
        await cache.put(SCOPE, bands[0], prediction(0.7))
        assert await cache.get(SCOPE, bands[0]) == prediction(0.7)


async def test_a_redis_that_takes_five_seconds_to_reply_is_skipped(own_redis: Server, bands: list[Band]) -> None:
    """Each reply comes, five seconds late: the caller has gone on, and never takes it for another's."""
    lookups, clock = Lookups(), Clock()
    delay = asyncio.Event()
    port = urlsplit(own_redis.url).port

    relays: list[asyncio.Task[None] | None] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        while content := await reader.read(65_536):
            if late and delay.is_set():
                await asyncio.sleep(5.0)
            writer.write(content)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.append(asyncio.current_task())
        there, back = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(OSError):
            try:
                await asyncio.gather(relay(reader, back, late=False), relay(there, writer, late=True))
            finally:
                for end in (writer, back):
                    end.close()
                    await end.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    async with redis_cache(url, timeout_ms=300, observe=lookups, breaker=Breaker(clock=clock)) as cache:
        await until(cache.ping)
        answers = [prediction(0.01 * number) for number in range(len(bands))]
        await cache.put_many(SCOPE, list(zip(bands, answers, strict=True)))
        delay.set()
        begun = time.perf_counter()
        for band in bands[:5]:
            assert await cache.get(SCOPE, band) is None
            await cache.put(SCOPE, band, prediction(0.9))
        assert time.perf_counter() - begun < 5.0, "it was waited for"
        assert lookups == {"error": 5}
        delay.clear()
        clock.now += 60
        await until(cache.ping)
        for band, answer in zip(bands, answers, strict=True):
            assert await cache.get(SCOPE, band) in (answer, prediction(0.9), None)
    server.close()
    for task in relays:
        assert task is not None
        task.cancel()
    await asyncio.wait([task for task in relays if task is not None])
