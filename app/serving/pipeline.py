"""From a request to its answer: read, look up, compute what is missing, compose."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import structlog

from app.crystals.band import Band
from app.crystals.bvse import BondValenceOpinion
from app.crystals.elements import plain_symbol
from app.crystals.geometry.identity import CanonicalBand
from app.crystals.limits import Limits
from app.errors import InputError, IonpathError, NotReadyError
from app.models.prediction import Prediction
from app.models.predictors.conductivity_predictor import ConductivityPredictor
from app.models.predictors.predictor import Predictor
from app.models.registry import Registry
from app.serving.answers.bond_valence import BondValence
from app.serving.answers.conductivity import other_barriers, with_conductivity
from app.serving.answers.crystal import (
    BandKey,
    Doubted,
    HopOutcome,
    all_cached,
    bands_of,
    compose,
    disagreements,
    percolating_prediction,
    unconnected,
    with_copies,
)
from app.serving.answers.types import Answer, CrystalAnswer, ModelReference, SecondOpinion
from app.serving.cache import Cache, CacheScope
from app.serving.cache.single_flight import SingleFlight
from app.serving.history.recent import StoredInput
from app.serving.inference.admission import Admission
from app.serving.inference.batcher import Batcher, Outcome
from app.serving.inference.crystal_turns import CrystalTurns
from app.serving.inference.work_item import BatchPredictor, Turn, WorkItem
from app.serving.lanes import Lane
from app.serving.metrics import Metrics
from app.serving.reading.pool import ReadingPool, raise_if_error
from app.serving.reading.second_opinion import opinion_of, opinion_wait_s, opinion_within
from app.serving.reading.upload_reader import CrystalInput, ReadInput, ReadOptions, check_holds
from app.serving.reading.uploads import CrystalUpload, StoredUpload, Upload
from app.serving.request import Asked, PredictionRequest
from app.settings import Settings

#: The ion of the measured conductors.
CONDUCTING_ION = "Li"
#: Bands of a job that wait for the model at once: a second's work on two cores.
JOB_PIECE_BANDS = 32
#: A model that takes longer for a band has a lane of its own, seconds.
SLOW_BAND_S = 0.25

_log = structlog.get_logger(__name__)


def lane_of(registry: Registry, predictor: BatchPredictor) -> Lane:
    """The lane of a model's work: a slow model must not hold up the others."""
    slow = (registry.seconds_per_band(predictor.name) or 0.0) > SLOW_BAND_S
    return Lane.SLOW_MODEL if slow else Lane.MAIN


@dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline:
    """Answers requests by every part that takes one; logs nothing."""

    settings: Settings
    limits: Limits
    registry: Registry
    metrics: Metrics
    cache: Cache
    admission: Admission
    batcher: Batcher
    pool: ReadingPool
    flights: SingleFlight
    crystal_turns: CrystalTurns
    bond_valence: BondValence

    async def read(
        self, request: PredictionRequest, on_turn: Callable[[], None] = lambda: None, *, later: bool = False
    ) -> Asked:
        """Read what was sent.

        Args:
            request: what is asked.
            on_turn: called when it need not wait for other crystals any more.
            later: whether it is answered as a job, which may have more hops.

        Raises:
            InputError: it cannot be read, is invalid or too large.
            NotFoundError: there is no such model.
            NotReadyError: the service is stopping.
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
        upload = request.upload
        if request.conductivity == "required":
            upload = self._of_conductor(upload)
        options = self._options(request, later=later)
        read = partial(self.pool.read, upload, options, key_id=request.key_id, request_id=request.request_id)
        in_turn = isinstance(request.upload, CrystalUpload) and self._is_quick(predictor)
        try:
            if in_turn:
                timed = await self.crystal_turns.read(read, on_turn)
            else:
                on_turn()
                timed = await read()
        except IonpathError as error:
            _charge(request, error.cpu_s)
            raise
        _charge(request, timed.seconds)
        if request.work is not None and isinstance(request.upload, CrystalUpload):
            request.work.begin(timed.began_s)
        self.metrics.observe("read", time.monotonic() - started_s)
        content = timed.read.content
        if request.conductivity == "required" and isinstance(content, CrystalInput):
            check_holds(content.crystal, content.search.ion)  # a reading that was kept may be of another request
        return Asked(
            request=request,
            prediction_id=uuid4(),
            created_at=created_at,
            started_s=started_s,
            predictor=predictor,
            read=timed.read,
            later=later,
        )

    def _of_conductor(self, upload: Upload) -> CrystalUpload:
        """A crystal whose conductivity is asked for: the ion is lithium where none is named, as no other is known.

        Raises:
            InputError: it is none, or the conductivity of its ion is not predicted.
            NotFoundError: there is no model of conductivity.
        """
        if not isinstance(upload, CrystalUpload):
            raise InputError(
                "A conductivity is that of a whole crystal, and a band is one hop.",
                kind="conductivity-needs-crystal",
                where="form field structure",
                expected="a crystal as the form field `structure`; POST /predict/barrier takes bands",
            )
        ion = plain_symbol(upload.ion, "ion") if upload.ion else CONDUCTING_ION
        self.registry.conductivity_predictor(ion)  # refuses other ions before anything is read
        return replace(upload, ion=ion, must_hold_ion=True)

    def _is_quick(self, predictor: Predictor) -> bool:
        return lane_of(self.registry, predictor) is Lane.MAIN

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
        max_hops = settings.max_hops if request.hops.max_hops is None else request.hops.max_hops
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
            with_forms=settings.cache == "on",
            hops=replace(request.hops, max_hops=max_hops, max_orderings=settings.max_orderings),
        )

    async def answer(self, asked: Asked, on_done: Callable[[], None]) -> Answer:
        """Predict what was read.

        Args:
            asked: the request.
            on_done: called at each band that is done.

        Raises:
            InputError: nothing of it can be predicted.
            NotReadyError: the service is stopping or the model stopped.
        """
        content = asked.read.content
        predictor = asked.predictor
        model = ModelReference(name=predictor.name, version=predictor.version, digest=predictor.digest)
        crystal: CrystalAnswer | None = None
        warnings = asked.read.warnings
        if isinstance(content, CrystalInput):
            crystal = await self._predict_crystal(asked, content, on_done)
            prediction, cached = percolating_prediction(crystal), all_cached(crystal)
            warnings = (*warnings, *unconnected(crystal))
            if (conductor := self._conductor(asked)) is not None:
                conductivity = await asyncio.to_thread(with_conductivity, crystal, content.search.lattices, conductor)
                crystal = replace(crystal, conductivity=conductivity)
                other = other_barriers(conductor, model)
                warnings = (*warnings, *([other] if other else []))
            if crystal.second_opinion is not None:
                warnings = (*warnings, *disagreements(crystal, crystal.second_opinion))
        else:
            prediction, cached = await self._predict_band(asked, content)
            if asked.read.doubt is not None:
                prediction = predictor.doubted(prediction, asked.read.doubt)
            on_done()
        return Answer(
            prediction_id=asked.prediction_id,
            created_at=asked.created_at,
            ion=asked.read.ion,
            formula=asked.read.formula,
            model=model,
            other_models=self.registry.others(model.name),
            prediction=prediction,
            threshold_ev=asked.request.threshold_ev,
            cached=cached,
            warnings=warnings,
            crystal=crystal,
            uploaded_band=asked.read.energies,
        )

    def _conductor(self, asked: Asked) -> ConductivityPredictor | None:
        """What predicts the conductivity of the asked crystal; None where none is asked for, or known."""
        wanted, ion = asked.request.conductivity, asked.read.ion
        if wanted is None or not _contains_ion(asked.read.content):
            return None
        if wanted == "where-known" and not self.registry.knows_conductivity(ion):
            return None
        return self.registry.conductivity_predictor(ion)

    async def forget(self, asked: Asked) -> None:
        """Take what was answered out of the cache.

        Raises:
            NotReadyError: the cache is away and may still hold it.
        """
        await self._forget(asked.scope, asked.read.bands)

    async def forget_stored(self, stored: StoredInput, key_id: str | None) -> None:
        """The same, for a prediction of which the log has the input; without its input nothing is found.

        Raises:
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
        """
        options = ReadOptions(limits=self.limits, keep_input=False)
        return (await self.pool.read(StoredUpload(packed=packed), options, key_id=key_id)).read

    async def _forget(self, scope: CacheScope, bands: Sequence[Band]) -> None:
        if not await self.cache.forget_many(scope, bands):
            raise NotReadyError("The cache is away, and may still hold what is to be deleted.", kind="cache-away")

    async def _predict_band(self, asked: Asked, band: Band) -> tuple[Prediction, bool]:
        scope, predictor = asked.scope, asked.predictor
        if self.settings.cache == "off":
            prediction = await self._compute_band(asked, band)
            self.metrics.predicted(predictor.name, cached=False)
            return prediction, False
        (form,) = asked.read.forms
        (known,) = await self._look_up(scope, [form])
        self.metrics.predicted(predictor.name, cached=known is not None)
        if known is not None:
            return known, True

        async def compute() -> Prediction:
            prediction = await self._compute_band(asked, band)
            await self.cache.put(scope, form, prediction)
            return prediction

        return await self.flights.predict(scope, form, compute), False

    async def _compute_band(self, asked: Asked, band: Band) -> Prediction:
        (outcome,) = await self._compute(asked, [band], Turn.BAND, lambda: None)
        return raise_if_error(outcome)

    async def _predict_crystal(self, asked: Asked, content: CrystalInput, on_done: Callable[[], None]) -> CrystalAnswer:
        """Predict its hops, and meanwhile ask bond valence, and bvlain where a second opinion is wanted."""
        landscape = asyncio.ensure_future(self.bond_valence.answer(content.search.bond_valence_host))
        try:
            crystal = await self._with_opinion(asked, content, on_done)
            return replace(crystal, bond_valence=await landscape)
        finally:
            landscape.cancel()

    async def _with_opinion(self, asked: Asked, content: CrystalInput, on_done: Callable[[], None]) -> CrystalAnswer:
        if asked.request.second_opinion is None:
            return await self._predict_hops(asked, content, on_done)
        opinion = asyncio.ensure_future(self._second_opinion(asked.request))
        try:
            crystal = await self._predict_hops(asked, content, on_done)
            return replace(crystal, second_opinion=await opinion_within(opinion, opinion_wait_s(self.settings)))
        finally:
            opinion.cancel()

    async def _second_opinion(self, request: PredictionRequest) -> SecondOpinion:
        assert isinstance(request.upload, CrystalUpload)
        options = self._options(replace(request, hops=replace(request.hops, max_hops=None)), later=True)
        started = time.monotonic()
        found: BondValenceOpinion | IonpathError
        try:
            found, seconds = await self.pool.second_opinion(
                request.upload, options, timeout_s=self.settings.second_opinion_timeout_s, request_id=request.request_id
            )
        except IonpathError as error:  # the model's answer does not wait for a new process
            found, seconds = error, 0.0
        if request.work is not None:
            request.work.did(Lane.SECOND_OPINION, seconds)
        return opinion_of(found, seconds=time.monotonic() - started)

    async def _predict_hops(self, asked: Asked, content: CrystalInput, on_done: Callable[[], None]) -> CrystalAnswer:
        scope, predictor = asked.scope, asked.predictor
        bands = bands_of(content.search)
        forms = dict(zip(bands, asked.read.forms, strict=True)) if self.settings.cache == "on" else {}
        known = dict(zip(bands, await self._look_up_all(scope, bands, forms), strict=True))
        missing = [key for key, prediction in known.items() if prediction is None]
        if not asked.later:
            self._check_time(predictor, len(missing))
        for _ in range(len(bands) - len(missing)):
            on_done()
        counted = 0 if asked.later or not self._is_quick(predictor) else len(missing)
        with self.crystal_turns.hops(counted) as hop_done:

            def done() -> None:
                hop_done()
                on_done()

            computed = await self._compute(asked, [bands[key] for key in missing], Turn.HOP, done)
        fresh = dict(zip(missing, computed, strict=True))
        if forms:
            answered = [(forms[key], one) for key, one in fresh.items() if isinstance(one, Prediction)]
            await self.cache.put_many(scope, answered)
        self.metrics.predicted(predictor.name, cached=True, count=len(bands) - len(missing))
        self.metrics.predicted(predictor.name, cached=False, count=len(missing))
        outcomes = {
            key: HopOutcome(outcome=fresh[key] if prediction is None else prediction, cached=prediction is not None)
            for key, prediction in known.items()
        }
        # sampling takes up to a second
        return await asyncio.to_thread(_composed, content, outcomes, predictor.doubted)

    async def _compute(
        self, asked: Asked, bands: Sequence[Band], turn: Turn, on_done: Callable[[], None]
    ) -> list[Outcome]:
        """Predict bands: at once for a caller who waits; for a job in pieces, between which other work has its turn."""
        predictor, work = asked.predictor, asked.request.work
        if work is not None:
            each_s = self.admission.band_s(predictor.name, self.registry.seconds_per_band(predictor.name))
            work.measure(each_s * len(bands))

        def done(item: WorkItem) -> None:
            if item.seconds:
                self.admission.measured_band(predictor.name, item.seconds)
            if work is not None:
                work.begin(item.began_s)
                work.did(work.lane, item.seconds)
            on_done()

        piece = JOB_PIECE_BANDS if asked.later else max(1, len(bands))
        outcomes: list[Outcome] = []
        for start in range(0, len(bands), piece):
            outcomes += await self.batcher.submit(
                bands[start : start + piece],
                predictor,
                turn=Turn.JOB if asked.later else turn,
                on_done=done,
                request_id=asked.request.request_id,
            )
        return outcomes

    async def _look_up_all(
        self, scope: CacheScope, bands: Mapping[BandKey, Band], forms: Mapping[BandKey, CanonicalBand]
    ) -> Sequence[Prediction | None]:
        return await self._look_up(scope, list(forms.values())) if forms else [None] * len(bands)

    async def _look_up(self, scope: CacheScope, forms: Sequence[CanonicalBand]) -> Sequence[Prediction | None]:
        started = time.monotonic()
        known = await self.cache.get_many(scope, forms)
        self.metrics.observe("cache", time.monotonic() - started)
        return known


def _contains_ion(content: Band | CrystalInput) -> bool:
    """Whether it is a crystal that contains the ion; one that it does not contain is added on interstitial sites."""
    return isinstance(content, CrystalInput) and content.crystal.contains(content.search.ion)


def _charge(request: PredictionRequest, seconds: float) -> None:
    if request.work is not None:
        request.work.did(request.work.lane, seconds)


def _composed(content: CrystalInput, outcomes: dict[BandKey, HopOutcome], doubted: Doubted) -> CrystalAnswer:
    return with_copies(compose(content.search, outcomes, doubted), content.search.all_hops)
