"""Caches of one process, for a service without Redis or with its cache off."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic, time

from cachetools import TLRUCache

from app.models.prediction import Prediction
from app.serving.cache.band_cache import BUCKET_ENTRIES, BandCache, StoredEntry
from app.serving.cache.contract import BandLike, CacheScope, LookupResult, RecentRecords, WithRecent, ignore_lookup

_RECENT_BYTES = 64 * 2**20


class MemoryEntries:
    """The entries used last, up to a number and a number of bytes; a plain dictionary of buckets."""

    def __init__(self, entries: int, limit_bytes: int) -> None:
        self._limit = entries
        self._limit_bytes = limit_bytes
        self._bytes = 0
        self._contents: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._fields: dict[str, list[str]] = {}

    async def read(self, keys: Sequence[str]) -> list[list[bytes]]:
        """What each bucket holds."""
        return [self._bucket(key) for key in keys]

    def _bucket(self, key: str) -> list[bytes]:
        fields = self._fields.get(key, ())
        for field in fields:
            self._contents.move_to_end((key, field))
        return [self._contents[key, field] for field in fields]

    async def write(self, entries: Sequence[StoredEntry]) -> None:
        """Put entries into their buckets; past the limits those used longest ago go."""
        for entry in entries:
            self._forget(entry.key, entry.field)
            fields = self._fields.setdefault(entry.key, [])
            fields.append(entry.field)
            self._contents[entry.key, entry.field] = entry.content
            self._bytes += len(entry.content)
            if len(fields) > BUCKET_ENTRIES:
                self._forget(entry.key, fields[0])
            while len(self._contents) > self._limit or self._bytes > self._limit_bytes:
                self._forget(*next(iter(self._contents)))

    async def entries(self, keys: Sequence[str]) -> list[StoredEntry]:
        """What the buckets hold, with its fields."""
        return [
            StoredEntry(key=key, field=field, content=self._contents[key, field])
            for key in keys
            for field in self._fields.get(key, ())
        ]

    async def remove(self, entries: Sequence[StoredEntry]) -> None:
        """Take entries out of their buckets."""
        for entry in entries:
            self._forget(entry.key, entry.field)

    def _forget(self, key: str, field: str) -> None:
        if (content := self._contents.pop((key, field), None)) is not None:
            self._bytes -= len(content)
            self._fields[key].remove(field)
            if not self._fields[key]:
                del self._fields[key]


class MemoryRecent:
    """Recent records of one process, 64 MiB of them.

    Args:
        clock: seconds that never go back.
        limit_bytes: past it those used longest ago are forgotten.
    """

    def __init__(self, *, clock: Callable[[], float] = monotonic, limit_bytes: int = _RECENT_BYTES) -> None:
        self._records: TLRUCache[str, _Record, float] = TLRUCache(
            limit_bytes, _expires_at_s, timer=clock, getsizeof=lambda record: len(record.content)
        )

    async def put(self, record_id: str, record: bytes, ttl_s: float) -> None:
        """Keep a record for ttl_s seconds."""
        self._records.pop(record_id, None)  # also where the new one is too large to be kept
        if len(record) <= self._records.maxsize:
            self._records[record_id] = _Record(content=record, ttl_s=ttl_s)

    async def get(self, record_id: str) -> bytes | None:
        """The record, or None if it does not exist or has expired."""
        record = self._records.get(record_id)
        return None if record is None else record.content

    async def delete(self, record_id: str) -> None:
        """Forget a record."""
        self._records.pop(record_id, None)

    async def ping(self) -> bool:
        """Memory always answers."""
        return True

    async def aclose(self) -> None:
        """Forget everything."""
        self._records.clear()


@dataclass(frozen=True, kw_only=True)
class _Record:
    content: bytes
    ttl_s: float


def _expires_at_s(_record_id: str, record: _Record, now_s: float) -> float:
    return now_s + record.ttl_s


class InProcessCache(BandCache):
    """Answers and recent records in this process's memory.

    Args:
        entries: most answers kept; those used last stay.
        limit_bytes: most bytes of answers kept.
        ttl_s: how long an answer holds, seconds.
        observe: called at each look-up, with the number of bands.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        entries: int,
        ttl_s: float,
        limit_bytes: int,
        observe: Callable[[LookupResult, int], None] = ignore_lookup,
        clock: Callable[[], float] = time,
    ) -> None:
        super().__init__(
            store=MemoryEntries(entries, limit_bytes),
            recent=MemoryRecent(),
            ttl_s=ttl_s,
            observe=observe,
            clock=clock,
        )


class NoCache(WithRecent):
    """Computes every answer again; recent records are still kept, since GET must find them."""

    def __init__(self, *, recent: RecentRecords | None = None) -> None:
        super().__init__(recent or MemoryRecent())

    async def get(self, _scope: CacheScope, _band: BandLike) -> Prediction | None:
        """Nothing."""
        return None

    async def get_many(self, _scope: CacheScope, bands: Sequence[BandLike]) -> list[Prediction | None]:
        """Nothing, for each band."""
        return [None] * len(bands)

    async def put(self, scope: CacheScope, band: BandLike, prediction: Prediction) -> None:
        """Keep nothing."""

    async def put_many(self, scope: CacheScope, answered: Sequence[tuple[BandLike, Prediction]]) -> None:
        """Keep nothing."""

    async def forget_many(self, _scope: CacheScope, _bands: Sequence[BandLike]) -> bool:
        """Nothing is kept."""
        return True
