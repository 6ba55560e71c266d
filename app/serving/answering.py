"""From a request to its answer: read, look up, compute what is missing, compose."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import structlog

from app.crystals.band import Band
from app.crystals.limits import Limits
from app.errors import InputError, NotReadyError
from app.models.prediction import Prediction
from app.models.registry import Registry
from app.serving.answers import Answer, CrystalAnswer, ModelReference
from app.serving.batcher import Batcher
from app.serving.cache import Cache, CacheScope
from app.serving.copies import with_copies
from app.serving.crystals import HopOutcome, all_cached, compose, decisive
from app.serving.metrics import Metrics
from app.serving.parsing import ParsePool
from app.serving.read import CrystalInput, ReadInput, ReadOptions
from app.serving.recent import StoredInput
from app.serving.request import Asked, PredictionRequest
from app.serving.single_flight import SingleFlight
from app.serving.uploads import StoredUpload
from app.settings import Settings

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

    async def read(self, request: PredictionRequest) -> Asked:
        """Read what was sent.

        Raises:
            InputError: it cannot be read, makes no sense or is too large.
            NotFoundError: there is no such model.
            BusyError: too many uploads wait to be read.
        """
        started_s, created_at = time.monotonic(), datetime.now(UTC)
        predictor = self.registry.predictor(request.model)
        read = await self.pool.read(
            request.upload, self._options(request), key_id=request.key_id, request_id=request.request_id
        )
        self.metrics.observe("read", time.monotonic() - started_s)
        return Asked(
            request=request,
            prediction_id=uuid4(),
            created_at=created_at,
            started_s=started_s,
            predictor=predictor,
            read=read,
        )

    def _options(self, request: PredictionRequest) -> ReadOptions:
        settings = self.settings
        max_hops = settings.max_hops if request.max_hops is None else request.max_hops
        if max_hops > settings.max_hops:
            raise InputError(
                f"{max_hops} hops are more than this service predicts at once (IONPATH_MAX_HOPS).",
                kind="too-many-hops",
                where="max_hops",
                expected=f"at most {settings.max_hops}",
            )
        return ReadOptions(
            limits=self.limits,
            keep_input=settings.store_inputs,
            mechanism=request.mechanism,
            max_hops=max_hops,
            max_hop_angstrom=request.max_hop_angstrom,
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
        if isinstance(content, CrystalInput):
            crystal = await self._predict_hops(asked, content, on_done)
            prediction, cached = decisive(crystal), all_cached(crystal)
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
            prediction=prediction,
            threshold_ev=asked.request.threshold_ev,
            cached=cached,
            warnings=asked.read.warnings,
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
            prediction = await self.batcher.submit(band, predictor, request_id=asked.request.request_id)
            self.metrics.predicted(predictor.name, cached=False)
            return prediction, False
        (known,) = await self._look_up(scope, [band])
        self.metrics.predicted(predictor.name, cached=known is not None)
        if known is not None:
            return known, True

        async def compute() -> Prediction:
            prediction = await self.batcher.submit(band, predictor, request_id=asked.request.request_id)
            await self.cache.put(scope, band, prediction)
            return prediction

        return await self.flights.predict(scope, asked.read.digest, band, compute), False

    async def _predict_hops(self, asked: Asked, content: CrystalInput, on_done: Callable[[], None]) -> CrystalAnswer:
        scope, predictor = asked.scope, asked.predictor
        bands = {index: hop.band for index, hop in enumerate(content.search.hops) if hop.band is not None}
        known = dict(zip(bands, await self._look_up(scope, list(bands.values())), strict=True))
        missing = [index for index, prediction in known.items() if prediction is None]
        for _ in range(len(bands) - len(missing)):
            on_done()
        computed = await self.batcher.submit_many(
            [bands[index] for index in missing], predictor, on_done, request_id=asked.request.request_id
        )
        fresh = dict(zip(missing, computed, strict=True))
        await self.cache.put_many(
            scope, [(bands[index], one) for index, one in fresh.items() if isinstance(one, Prediction)]
        )
        self.metrics.predicted(predictor.name, cached=True, count=len(bands) - len(missing))
        self.metrics.predicted(predictor.name, cached=False, count=len(missing))
        outcomes = {
            index: HopOutcome(outcome=fresh[index] if prediction is None else prediction, cached=prediction is not None)
            for index, prediction in known.items()
        }
        return with_copies(compose(content.search, outcomes), content.search.all_hops)

    async def _look_up(self, scope: CacheScope, bands: Sequence[Band]) -> Sequence[Prediction | None]:
        started = time.monotonic()
        known = await self.cache.get_many(scope, bands)
        self.metrics.observe("cache", time.monotonic() - started)
        return known
