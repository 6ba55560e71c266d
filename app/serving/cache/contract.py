"""What every cache does, whatever keeps the bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from app.crystals.band import Band
from app.crystals.geometry.identity import CanonicalBand
from app.models.prediction import Prediction

#: "error": the cache was away or too slow, and was skipped.
LookupResult = Literal["hit", "miss", "error"]
#: A band, or its canonical form where that was made already.
BandLike = Band | CanonicalBand


@dataclass(frozen=True, kw_only=True)
class CacheScope:
    """A caller's key and a checkpoint: answers never cross from one scope to another.

    Attributes:
        key_id: of the caller's API key; None where there are no keys.
        model_name: the checkpoint's.
        model_digest: of the checkpoint's weights.
        directional: the model distinguishes a hop from its reverse.
    """

    key_id: str | None
    model_name: str
    model_digest: str
    directional: bool = False


class StoreAwayError(Exception):
    """The store did not answer, in time or at all; never leaves the cache."""


class RecentRecords(Protocol):
    """Records that every replica finds at once, before they are in the log or while a job runs."""

    async def put(self, record_id: str, record: bytes, ttl_s: float) -> None:
        """Keep a record for ttl_s seconds, in place of an older one."""

    async def get(self, record_id: str) -> bytes | None:
        """The record, or None."""

    async def delete(self, record_id: str) -> None:
        """Forget a record; where the store is away it may be seen until its time is over."""

    async def ping(self) -> bool:
        """Whether the store answers."""

    async def aclose(self) -> None:
        """Close what is open."""


class Cache(Protocol):
    """Predictions by band, and recent records. No method raises when the store is away."""

    async def get(self, scope: CacheScope, band: BandLike) -> Prediction | None:
        """The prediction of a band that is the same (`app.crystals.geometry.identity`), or None."""

    async def get_many(self, scope: CacheScope, bands: Sequence[BandLike]) -> list[Prediction | None]:
        """The same for many bands, in one round trip."""

    async def put(self, scope: CacheScope, band: BandLike, prediction: Prediction) -> None:
        """Keep a prediction."""

    async def put_many(self, scope: CacheScope, answered: Sequence[tuple[BandLike, Prediction]]) -> None:
        """Keep many predictions, in one round trip."""

    async def forget_many(self, scope: CacheScope, bands: Sequence[BandLike]) -> bool:
        """Forget what is kept of bands that are the same; False where the store was away and may still hold it."""

    async def put_recent(self, record_id: str, record: bytes, ttl_s: float) -> None:
        """Keep a record for ttl_s seconds, in place of an older one."""

    async def get_recent(self, record_id: str) -> bytes | None:
        """The record, or None."""

    async def delete_recent(self, record_id: str) -> None:
        """Forget a record; where the store is away it may be seen until its time is over."""

    async def ping(self) -> bool:
        """Ask the store whether it is there."""

    async def aclose(self) -> None:
        """Close what is open."""


class WithRecent:
    """The part of a cache that keeps recent records; see `RecentRecords`."""

    def __init__(self, recent: RecentRecords) -> None:
        self._recent = recent

    async def put_recent(self, record_id: str, record: bytes, ttl_s: float) -> None:
        """Keep a record for ttl_s seconds, in place of an older one."""
        await self._recent.put(record_id, record, ttl_s)

    async def get_recent(self, record_id: str) -> bytes | None:
        """The record, or None."""
        return await self._recent.get(record_id)

    async def delete_recent(self, record_id: str) -> None:
        """Forget a record; where the store is away it may be seen until its time is over."""
        await self._recent.delete(record_id)

    async def ping(self) -> bool:
        """Ask the store whether it is there."""
        return await self._recent.ping()

    async def aclose(self) -> None:
        """Close what is open."""
        await self._recent.aclose()


def ignore_lookup(_result: LookupResult, _count: int) -> None:
    """Observe nothing."""
