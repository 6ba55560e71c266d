"""Finding the answer of a band among entries that any store keeps."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import time
from typing import Protocol, TypeVar

from app.crystals.band import Band
from app.crystals.geometry.identity import CanonicalBand, bucket_keys, canonical, fingerprint, same_band
from app.models.prediction import Prediction
from app.serving.cache.contract import (
    BandLike,
    CacheScope,
    LookupResult,
    RecentRecords,
    StoreAwayError,
    WithRecent,
    ignore_lookup,
)
from app.serving.cache.entries import Entry, can_be_kept, decode, encode, entry_field, store_key

#: Most entries of one bucket: a flood of nearly equal bands costs a bounded comparison.
BUCKET_ENTRIES = 32
#: Above this many atoms the arithmetic (some 10 microseconds an atom) leaves the event loop.
_ATOMS_ON_LOOP = 256

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class StoredEntry:
    """One entry on its way to a store."""

    key: str
    field: str
    content: bytes


class EntryStore(Protocol):
    """Buckets of bytes; raises StoreAwayError, and nothing else, where it cannot be reached."""

    async def read(self, keys: Sequence[str]) -> list[list[bytes]]:
        """What each bucket holds."""

    async def write(self, entries: Sequence[StoredEntry]) -> None:
        """Put entries into their buckets, each in place of an older one of its field."""

    async def entries(self, keys: Sequence[str]) -> list[StoredEntry]:
        """What the buckets hold, with its fields."""

    async def remove(self, entries: Sequence[StoredEntry]) -> None:
        """Take entries out of their buckets."""


class BandCache(WithRecent):
    """A cache on any store; see `Cache` for what its methods promise.

    Args:
        store: where entries are kept.
        recent: where recent records are kept.
        ttl_s: how long an answer holds, seconds.
        observe: called at each look-up, with the number of bands.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        store: EntryStore,
        recent: RecentRecords,
        ttl_s: float,
        observe: Callable[[LookupResult, int], None] = ignore_lookup,
        clock: Callable[[], float] = time,
    ) -> None:
        super().__init__(recent)
        self._store = store
        self._ttl_s = ttl_s
        self._observe = observe
        self._clock = clock

    async def get(self, scope: CacheScope, band: BandLike) -> Prediction | None:
        """The prediction of a band that is the same, or None."""
        return (await self.get_many(scope, [band]))[0]

    async def get_many(self, scope: CacheScope, bands: Sequence[BandLike]) -> list[Prediction | None]:
        """The same for many bands, in one round trip."""
        forms = await self._canonical(bands)
        keys = [[store_key(scope, key) for key in bucket_keys(fingerprint(form))] for form in forms]
        try:
            buckets = await self._store.read([key for group in keys for key in group])
        except StoreAwayError:
            self._observe("error", len(bands))
            return [None] * len(bands)
        rest = iter(buckets)
        candidates = [[content for _ in group for content in next(rest)] for group in keys]
        now = self._clock()

        def search() -> list[Prediction | None]:
            pairs = zip(forms, candidates, strict=True)
            return [_find(form, found, now=now, directional=scope.directional) for form, found in pairs]

        atoms = sum(form.atom_count for form, found in zip(forms, candidates, strict=True) if found)
        answers = await _on_loop_if_small(search, atoms)
        hits = sum(answer is not None for answer in answers)
        if hits:
            self._observe("hit", hits)
        if hits < len(bands):
            self._observe("miss", len(bands) - hits)
        return answers

    async def put(self, scope: CacheScope, band: BandLike, prediction: Prediction) -> None:
        """Keep a prediction."""
        await self.put_many(scope, [(band, prediction)])

    async def put_many(self, scope: CacheScope, answered: Sequence[tuple[BandLike, Prediction]]) -> None:
        """Keep many predictions, in one round trip."""
        kept = [(band, prediction) for band, prediction in answered if can_be_kept(prediction)]
        forms = await self._canonical([band for band, _ in kept])
        expires_at = self._clock() + self._ttl_s
        entries = [
            StoredEntry(
                key=store_key(scope, bucket_keys(fingerprint(form))[0]),
                field=entry_field(form),
                content=encode(Entry(band=form, prediction=prediction, expires_at=expires_at)),
            )
            for form, (_, prediction) in zip(forms, kept, strict=True)
        ]
        try:
            await self._store.write(entries)
        except StoreAwayError:
            return  # the next look-up computes it again; the store has logged why

    async def forget_many(self, scope: CacheScope, bands: Sequence[BandLike]) -> bool:
        """Forget what is kept of bands that are the same; False where the store was away and may still hold it."""
        forms = await self._canonical(bands)
        keys = {store_key(scope, key) for form in forms for key in bucket_keys(fingerprint(form))}
        try:
            found = await self._store.entries(sorted(keys))
            atoms = sum(form.atom_count for form in forms) if found else 0

            def same() -> list[StoredEntry]:
                return [entry for entry in found if _is_any(forms, entry.content, directional=scope.directional)]

            await self._store.remove(await _on_loop_if_small(same, atoms))
        except StoreAwayError:
            return False
        return True

    async def _canonical(self, bands: Sequence[BandLike]) -> list[CanonicalBand]:
        atoms = sum(band.atom_count for band in bands if isinstance(band, Band))
        return await _on_loop_if_small(lambda: [canonical(band) for band in bands], atoms)


async def _on_loop_if_small(work: Callable[[], T], atoms: int) -> T:
    """Do arithmetic here, or in a thread where it would hold up the event loop for milliseconds."""
    return work() if atoms <= _ATOMS_ON_LOOP else await asyncio.to_thread(work)


def _is_any(forms: Sequence[CanonicalBand], content: bytes, *, directional: bool) -> bool:
    entry = decode(content)
    return entry is not None and any(same_band(form, entry.band, directional=directional) for form in forms)


def _find(form: CanonicalBand, candidates: Sequence[bytes], *, now: float, directional: bool) -> Prediction | None:
    for content in candidates:
        entry = decode(content)
        if entry is None or entry.expires_at <= now:
            continue
        if same_band(form, entry.band, directional=directional):
            return entry.prediction
    return None
