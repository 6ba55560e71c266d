"""One computation for requests that ask the same at the same time, and for those alone."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from bands import rock_salt

from app.crystals.band import Band
from app.crystals.geometry.identity import canonical
from app.models.prediction import Prediction
from app.serving.cache import CacheScope
from app.serving.cache.single_flight import SingleFlight

pytestmark = pytest.mark.anyio

SCOPE = CacheScope(key_id=None, model_name="default", model_digest="0" * 64)


class Computations:
    """Predictions that come when they are released; how many were started and given up."""

    def __init__(self) -> None:
        self.started = self.given_up = 0
        self.released, self.ended, self._began = asyncio.Event(), asyncio.Event(), asyncio.Condition()

    async def __call__(self) -> Prediction:
        async with self._began:
            self.started += 1
            self._began.notify_all()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            self.ended.set()
            raise
        return Prediction(barrier_ev=0.1 * self.started, quantiles_ev=(0.1,), in_domain=True, domain_reasons=())

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(10.0), self._began:
            await self._began.wait_for(lambda: self.started >= count)


def shifted(band: Band, by: float) -> Band:
    """The same band from another origin."""
    return replace(band, host_frac_coords=band.host_frac_coords + by, image_frac_coords=band.image_frac_coords + by)


def with_an_atom_moved(band: Band, by_angstrom: float) -> Band:
    host = band.host_frac_coords.copy()
    host[0] += by_angstrom / np.linalg.norm(band.lattice_angstrom, axis=1)
    return replace(band, host_frac_coords=host)


async def test_the_same_band_is_computed_once_and_any_other_for_itself() -> None:
    band = rock_salt()
    bands = [band, shifted(band, 0.3), with_an_atom_moved(band, 0.02), band]
    scopes = [SCOPE, SCOPE, SCOPE, replace(SCOPE, key_id="bob")]
    flights, compute = SingleFlight(), Computations()
    asking = [
        asyncio.create_task(flights.predict(scope, canonical(one), compute))
        for scope, one in zip(scopes, bands, strict=True)
    ]
    await compute.wait_for(3)
    compute.released.set()
    first, again, moved, of_bob = await asyncio.gather(*asking)
    assert first is again
    assert len({id(one) for one in (first, moved, of_bob)}) == 3
    assert compute.started == 3
    later = await flights.predict(SCOPE, canonical(band), compute)
    assert later is not first, "what is over is computed anew: the cache holds it"


async def test_a_computation_is_given_up_with_the_last_who_waits_for_it() -> None:
    flights, compute = SingleFlight(), Computations()
    asking = [asyncio.create_task(flights.predict(SCOPE, canonical(rock_salt()), compute)) for _ in range(2)]
    await compute.wait_for(1)
    asking[0].cancel()
    await asyncio.wait(asking[:1])
    assert not compute.given_up
    asking[1].cancel()
    await asyncio.wait(asking)
    await asyncio.wait_for(compute.ended.wait(), 10.0)
    assert (compute.started, compute.given_up) == (1, 1)
