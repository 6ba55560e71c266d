"""One computation for requests that ask the same at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from app.crystals.geometry.identity import same_band
from app.models.prediction import Prediction
from app.serving.cache import BandLike, CacheScope


@dataclass(kw_only=True, eq=False)
class _Flight:
    band: BandLike
    task: asyncio.Task[Prediction]
    waiting: int = 0


class SingleFlight:
    """Shares the computation of a band that is already on its way, within one key and checkpoint."""

    def __init__(self) -> None:
        self._flights: dict[tuple[CacheScope, str], _Flight] = {}

    async def predict(
        self,
        scope: CacheScope,
        digest: str,
        band: BandLike,
        compute: Callable[[], Coroutine[None, None, Prediction]],
    ) -> Prediction:
        """Join the computation of the same band or start one; it is given up when all who wait have left.

        Args:
            scope: who asks and of which checkpoint.
            digest: of the band, by which a flight is found; the bands themselves are then compared.
            band: what is asked.
            compute: starts the computation.
        """
        key = (scope, digest)
        flight = self._flights.get(key)
        if flight is None or not same_band(flight.band, band, directional=scope.directional):
            flight = _Flight(band=band, task=asyncio.ensure_future(compute()))
            self._flights[key] = flight
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                flight.task.cancel()
                if self._flights.get(key) is flight:
                    del self._flights[key]
