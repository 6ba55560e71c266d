"""From a request to its answer: read, look up, compute what is missing, compose."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from uuid import uuid4

import structlog

from app.crystals.band import Band
from app.crystals.bvse import BondValenceOpinion
from app.crystals.limits import Limits
from app.errors import BusyError, InputError, IonpathError, NotReadyError
from app.models.prediction import Prediction
from app.models.predictor import Predictor
from app.models.registry import Registry
from app.serving.answers import Answer, CrystalAnswer, ModelReference, SecondOpinion
from app.serving.batcher import Batcher, Outcome
from app.serving.cache import Cache, CacheScope
from app.serving.copies import with_copies
from app.serving.crystals import (
    BandKey,
    Doubted,
    HopOutcome,
    all_cached,
    bands_of,
    compose,
    disagreements,
    percolating_prediction,
)
from app.serving.metrics import Metrics
from app.serving.parsing import ParsePool
from app.serving.read import CrystalInput, ReadInput, ReadOptions
from app.serving.recent import StoredInput
from app.serving.request import Asked, PredictionRequest
from app.serving.second_opinion import opinion_of
from app.serving.single_flight import SingleFlight
from app.serving.uploads import CrystalUpload, StoredUpload
from app.settings import Settings

#: Bands of a job that wait for the model at once: a second's work on two cores.
JOB_PIECE_BANDS = 32

_Given = TypeVar("_Given")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Answering:
    """Answers requests by every part that takes one; logs nothing."""

    settings: Settings
    limits: Limits
    registry: Registry
    metrics: Metrics
    cache: Cache
    batcher: Batcher
    pool: ParsePool
    flights: SingleFlight

    async def read(self, request: PredictionRequest, *, later: bool = False) -> Asked:
        """Read what was sent.

        Args:
            request: what is asked.
            later: whether it is answered as a job, which may have more hops.

        Raises:
            InputError: it cannot be read, makes no sense or is too large.
            NotFoundError: there is no such model.
            BusyError: too many uploads wait to be read.
        """
        started_s, created_at = time.monotonic(), datetime.now(UTC)
        predictor = self.registry.predictor(request.model)
        if request.second_opinion is not None and not isinstance(request.upload, CrystalUpload):
            raise InputError(
                "A second opinion is on how an ion percolates through a crystal, and a band is one hop.",
                kind="second-opinion-needs-crystal",
                where="second_opinion",
                expected="a crystal and its ion (`structure` and `ion`), or no second_opinion",
            )
        options = self._options(request, later=later)
        read = await self.pool.read(
            request.upload,
            options,
            key_id=request.key_id,
            request_id=request.request_id,
            promised=request.place is not None and request.place.promised,
        )
        self.metrics.observe("read", time.monotonic() - started_s)
        return Asked(
            request=request,
            prediction_id=uuid4(),
            created_at=created_at,
            started_s=started_s,
            predictor=predictor,
            read=read,
            later=later,
        )

    def _check_time(self, predictor: Predictor, bands: int) -> None:
        """Refuse a crystal whose hops would surely take longer than a caller may wait, and offer the other way."""
        seconds = bands * (self.registry.seconds_per_band(predictor.name) or 0.0)
        if seconds > self.settings.request_timeout_s:
            raise InputError(
                f"{predictor.name} takes some {seconds:.0f} s for {bands} bands of this crystal; a caller may wait "
                f"{self.settings.request_timeout_s:g} s (IONPATH_REQUEST_TIMEOUT_S).",
                kind="takes-too-long",
                where="model",
                expected="the same with `Prefer: respond-async`, fewer hops (`max_hops`), or a faster model",
            )

    def _options(self, request: PredictionRequest, *, later: bool) -> ReadOptions:
        settings = self.settings
        most = max(settings.max_hops, settings.max_hops_later) if later else settings.max_hops
        max_hops = settings.max_hops if request.max_hops is None else request.max_hops
        if max_hops > most:
            offer = (
                f"; {settings.max_hops_later} with `Prefer: respond-async`" if settings.max_hops_later > most else ""
            )
            setting = "IONPATH_MAX_HOPS_LATER" if later else "IONPATH_MAX_HOPS"
            raise InputError(
                f"{max_hops} hops are more than this service predicts at once ({setting}).",
                kind="too-many-hops",
                where="max_hops",
                expected=f"at most {most}{offer}",
            )
        return ReadOptions(
            limits=self.limits,
            keep_input=settings.store_inputs,
            mechanism=request.mechanism,
            max_hops=max_hops,
            max_hop_angstrom=request.max_hop_angstrom,
            include_close_hops=request.include_close_hops,
            interstitials=request.interstitials,
            max_orderings=settings.max_orderings,
        )

    async def answer(self, asked: Asked, on_done: Callable[[], None]) -> Answer:
        """Predict what was read.

        Args:
            asked: the request.
            on_done: called at each band that is done.

        Raises:
            InputError: nothing of it can be predicted.
            BusyError: too much waits already.
            NotReadyError: the service is stopping or the model stopped.
        """
        content = asked.read.content
        crystal: CrystalAnswer | None = None
        warnings = asked.read.warnings
        if isinstance(content, CrystalInput):
            crystal = await self._predict_crystal(asked, content, on_done)
            prediction, cached = percolating_prediction(crystal), all_cached(crystal)
            if crystal.second_opinion is not None:
                warnings = (*warnings, *disagreements(crystal, crystal.second_opinion))
        else:
            prediction, cached = await self._predict_band(asked, content)
            on_done()
        predictor = asked.predictor
        return Answer(
            prediction_id=asked.prediction_id,
            created_at=asked.created_at,
            ion=asked.read.ion,
            formula=asked.read.formula,
            model=ModelReference(name=predictor.name, version=predictor.version, digest=predictor.digest),
            other_models=self.registry.others(predictor.name),
            prediction=prediction,
            threshold_ev=asked.request.threshold_ev,
            cached=cached,
            warnings=warnings,
            crystal=crystal,
        )

    async def forget(self, asked: Asked) -> None:
        """Take what was answered out of the cache.

        Raises:
            NotReadyError: the cache is away and may still hold it.
        """
        await self._forget(asked.scope, asked.read.bands)

    async def forget_stored(self, stored: StoredInput, key_id: str | None) -> None:
        """The same, for a prediction of which the log has the input; without its input nothing is found.

        Raises:
            BusyError: too many uploads wait to be read.
            NotReadyError: the cache is away and may still hold it.
        """
        if self.settings.cache == "off" or stored.packed is None or stored.model_digest is None:
            return
        try:
            read = await self.read_stored(stored.packed, key_id)
        except InputError as error:  # the limits were lowered since
            _log.warning("stored-input-unreadable", kind=error.kind, detail=error.detail)
            return
        for directional in (False, True):  # the checkpoint may be gone, and with it the word which it was
            scope = CacheScope(
                key_id=key_id,
                model_name=stored.model_name,
                model_digest=stored.model_digest,
                directional=directional,
            )
            await self._forget(scope, read.bands)

    async def read_stored(self, packed: bytes, key_id: str | None) -> ReadInput:
        """Read what the log keeps of an input.

        Raises:
            InputError: the limits were lowered since.
            BusyError: too many uploads wait to be read.
        """
        options = ReadOptions(limits=self.limits, keep_input=False)
        return await self.pool.read(StoredUpload(packed=packed), options, key_id=key_id)

    async def _forget(self, scope: CacheScope, bands: Sequence[Band]) -> None:
        if not await self.cache.forget_many(scope, bands):
            raise NotReadyError("The cache is away, and may still hold what is to be deleted.", kind="cache-away")

    async def _predict_band(self, asked: Asked, band: Band) -> tuple[Prediction, bool]:
        scope, predictor = asked.scope, asked.predictor
        if self.settings.cache == "off":
            prediction = await _admitted(asked, lambda: self._submit(asked, band))
            self.metrics.predicted(predictor.name, cached=False)
            return prediction, False
        (known,) = await self._look_up(scope, [band])
        self.metrics.predicted(predictor.name, cached=known is not None)
        if known is not None:
            return known, True

        async def compute() -> Prediction:
            prediction = await self._submit(asked, band)
            await self.cache.put(scope, band, prediction)
            return prediction

        if self.flights.is_on_its_way(scope, asked.read.digest):
            self.release(asked.request)  # it waits for another's band
        flying = partial(self.flights.predict, scope, asked.read.digest, band, compute)
        return await _admitted(asked, flying), False

    def release(self, request: PredictionRequest) -> None:
        """Give back the place that a request had before it was read, where it was not used."""
        if request.place is not None:
            self.batcher.leave(request.place)

    async def _submit(self, asked: Asked, band: Band) -> Prediction:
        return await self.batcher.submit(
            band,
            asked.predictor,
            request_id=asked.request.request_id,
            ticket=asked.ticket(),
            place=asked.request.place,
        )

    async def _predict_crystal(self, asked: Asked, content: CrystalInput, on_done: Callable[[], None]) -> CrystalAnswer:
        """Predict its hops, and meanwhile ask for a second opinion where one is wanted."""
        if asked.request.second_opinion is None:
            return await self._predict_hops(asked, content, on_done)
        opinion = asyncio.ensure_future(self._second_opinion(asked.request))
        try:
            crystal = await self._predict_hops(asked, content, on_done)
            return replace(crystal, second_opinion=await opinion)
        finally:
            opinion.cancel()

    async def _second_opinion(self, request: PredictionRequest) -> SecondOpinion:
        assert isinstance(request.upload, CrystalUpload)
        options = self._options(replace(request, max_hops=None), later=True)
        started = time.monotonic()
        found: BondValenceOpinion | IonpathError
        try:
            found = await self.pool.second_opinion(
                request.upload, options, timeout_s=self.settings.second_opinion_timeout_s, request_id=request.request_id
            )
        except IonpathError as error:  # the model's answer does not wait for room or a new process
            found = error
        return opinion_of(found, seconds=time.monotonic() - started)

    async def _predict_hops(self, asked: Asked, content: CrystalInput, on_done: Callable[[], None]) -> CrystalAnswer:
        scope, predictor = asked.scope, asked.predictor
        bands = bands_of(content.search)
        known = dict(zip(bands, await self._look_up(scope, list(bands.values())), strict=True))
        missing = [key for key, prediction in known.items() if prediction is None]
        if not missing:
            self.release(asked.request)
        if not asked.later:
            self._check_time(predictor, len(missing))
        for _ in range(len(bands) - len(missing)):
            on_done()
        computed = await self._compute(asked, [bands[key] for key in missing], on_done)
        fresh = dict(zip(missing, computed, strict=True))
        await self.cache.put_many(
            scope, [(bands[key], one) for key, one in fresh.items() if isinstance(one, Prediction)]
        )
        self.metrics.predicted(predictor.name, cached=True, count=len(bands) - len(missing))
        self.metrics.predicted(predictor.name, cached=False, count=len(missing))
        outcomes = {
            key: HopOutcome(outcome=fresh[key] if prediction is None else prediction, cached=prediction is not None)
            for key, prediction in known.items()
        }
        # sampling takes up to a second
        return await asyncio.to_thread(_composed, content, outcomes, predictor.doubted)

    async def _compute(self, asked: Asked, bands: Sequence[Band], on_done: Callable[[], None]) -> list[Outcome]:
        """Predict bands: at once for one who waits; for a job in pieces, between which others have their turn."""
        piece = JOB_PIECE_BANDS if asked.later else max(1, len(bands))
        outcomes: list[Outcome] = []
        for start in range(0, len(bands), piece):
            some = bands[start : start + piece]
            submit = partial(
                self.batcher.submit_many,
                some,
                asked.predictor,
                on_done,
                request_id=asked.request.request_id,
                ticket=asked.ticket(start),
                place=asked.request.place,
            )
            outcomes += await _admitted(asked, submit)
        return outcomes

    async def _look_up(self, scope: CacheScope, bands: Sequence[Band]) -> Sequence[Prediction | None]:
        started = time.monotonic()
        known = await self.cache.get_many(scope, bands)
        self.metrics.observe("cache", time.monotonic() - started)
        return known


async def _admitted(asked: Asked, submit: Callable[[], Awaitable[_Given]]) -> _Given:
    """Submit work; a job was accepted, so where the queue is full it waits."""
    while True:
        try:
            return await submit()
        except BusyError as busy:
            if not asked.later:
                raise
            await asyncio.sleep(busy.retry_after_s)


def _composed(content: CrystalInput, outcomes: dict[BandKey, HopOutcome], doubted: Doubted) -> CrystalAnswer:
    return with_copies(compose(content.search, outcomes, doubted), content.search.all_hops)
