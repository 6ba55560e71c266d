"""One computation for requests that ask the same at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from app.crystals.geometry.identity import CanonicalBand, bucket_keys, same_band
from app.models.prediction import Prediction
from app.serving.cache import CacheScope


@dataclass(kw_only=True, eq=False)
class _Flight:
    key: tuple[CacheScope, str]
    band: CanonicalBand
    task: asyncio.Task[Prediction]
    waiting: int = 0


class SingleFlight:
    """Shares the computation of a band that is already on its way, within one key and checkpoint."""

    def __init__(self) -> None:
        self._flights: dict[tuple[CacheScope, str], list[_Flight]] = {}

    async def predict(
        self,
        scope: CacheScope,
        band: CanonicalBand,
        compute: Callable[[], Coroutine[None, None, Prediction]],
    ) -> Prediction:
        """Join the computation of the same band or start one; it is given up when all who wait have left.

        Args:
            scope: the caller's key and the checkpoint.
            band: what is asked.
            compute: starts the computation.
        """
        keys = [(scope, key) for key in bucket_keys(band.fingerprint)]
        flight = next((one for key in keys for one in self._flights.get(key, ()) if _same(one, band, scope)), None)
        if flight is None:
            flight = _Flight(key=keys[0], band=band, task=asyncio.ensure_future(compute()))
            self._flights.setdefault(flight.key, []).append(flight)
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                flight.task.cancel()
                self._end(flight)

    def _end(self, flight: _Flight) -> None:
        flights = self._flights[flight.key]
        flights.remove(flight)
        if not flights:
            del self._flights[flight.key]


def _same(flight: _Flight, band: CanonicalBand, scope: CacheScope) -> bool:
    return same_band(flight.band, band, directional=scope.directional)
