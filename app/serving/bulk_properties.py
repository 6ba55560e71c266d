"""From an uploaded crystal to its bulk properties: read in a worker, predicted where models run; never cached."""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from app.crystals.crystal import Crystal
from app.crystals.limits import Limits
from app.errors import NotReadyError, TooLargeError
from app.models.predictors.predictor import OutOfMemoryError
from app.models.predictors.property_predictor import PropertyAnswer, PropertyPredictor
from app.models.registry import Registry
from app.serving.answers.as_json import Json
from app.serving.answers.types import ModelReference
from app.serving.inference.admission import Admission, AdmittedWork
from app.serving.lanes import Lane
from app.serving.metrics import Metrics
from app.serving.reading.pool import ReadingPool
from app.serving.reading.upload_reader import ReadOptions
from app.serving.reading.uploads import BulkUpload, upload_size_bytes
from app.settings import Settings


@dataclass(frozen=True, kw_only=True)
class PropertiesRequest:
    """What is asked.

    Attributes:
        upload: the crystal.
        model: the checkpoint's name; None asks the first of bulk properties.
        request_id: of the HTTP request, for the log.
    """

    upload: BulkUpload
    model: str | None
    request_id: str


@dataclass(frozen=True, kw_only=True)
class MeanError:
    """How far off a checkpoint is on crystals that it was not fitted on.

    Attributes:
        value, low, high: the mean absolute error with its 95 % bootstrap interval.
        unit: of these, "log(1 + value)" of a property that is judged on that.
        rows: how many crystals it rests on.
    """

    value: float
    low: float | None
    high: float | None
    unit: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Property:
    """One bulk property of a crystal; the unit is empty for a pure number."""

    name: str
    value: float
    unit: str
    test_mae: MeanError | None


@dataclass(frozen=True, kw_only=True)
class PropertiesAnswer:
    """The bulk properties of one crystal.

    Attributes:
        formula: of the atoms that were sent.
        properties: in the checkpoint's order.
        unknown_elements: of the crystal, that no fitted crystal held.
        model: which checkpoint answered.
        warnings: what was noticed.
        request_id: of the HTTP request.
    """

    formula: str
    properties: tuple[Property, ...]
    unknown_elements: tuple[str, ...]
    model: ModelReference
    warnings: tuple[str, ...]
    request_id: str


@dataclass(kw_only=True, eq=False)
class PropertyAnswering:
    """Answers for bulk properties, one crystal after the other; belongs to one event loop.

    Args:
        run: predicts a crystal, and gives the seconds that it took; called in a thread.
    """

    settings: Settings
    limits: Limits
    registry: Registry
    metrics: Metrics
    pool: ReadingPool
    admission: Admission
    run: Callable[[PropertyPredictor, Crystal], tuple[PropertyAnswer, float]]

    def __post_init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="properties")

    def stop(self) -> None:
        """Give up what waits."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def predict(self, request: PropertiesRequest) -> PropertiesAnswer:
        """Answer a request.

        Raises:
            InputError: the crystal cannot be read, is disordered or too large, or a model of barriers was named.
            NotFoundError: there is no such model, or none of bulk properties.
            BusyError: too much waits already.
            NotReadyError: the service is stopping, or the answer took longer than IONPATH_REQUEST_TIMEOUT_S.
        """
        started = time.monotonic()
        predictor = self.registry.property_predictor(request.model)
        size_bytes = upload_size_bytes(request.upload)
        try:
            async with asyncio.timeout(self.settings.request_timeout_s):
                with self.admission.admit(f"properties {predictor.name}", size_bytes=size_bytes) as work:
                    options = ReadOptions(limits=self.limits, keep_input=False)
                    crystal, seconds = await self.pool.read_bulk(request.upload, options, request_id=request.request_id)
                    work.did(Lane.MAIN, seconds)
                    self.metrics.observe("read", time.monotonic() - started)
                    answer = await self._in_turn(predictor, crystal, work)
                    self.admission.learn(work, work.spent_s)
        except TimeoutError:
            raise NotReadyError(
                f"The answer took longer than {self.settings.request_timeout_s:g} s (IONPATH_REQUEST_TIMEOUT_S).",
                kind="took-too-long",
            ) from None
        self.metrics.predicted(predictor.name, cached=False)
        self.metrics.observe("total", time.monotonic() - started)
        return _answer(predictor, crystal, answer, request.request_id)

    async def _in_turn(self, predictor: PropertyPredictor, crystal: Crystal, work: AdmittedWork) -> PropertyAnswer:
        answer, seconds = await asyncio.get_running_loop().run_in_executor(
            self._thread, self._predicted, predictor, crystal
        )
        work.did(Lane.MAIN, seconds)
        self.metrics.observe("forward", seconds)
        return answer

    def _predicted(self, predictor: PropertyPredictor, crystal: Crystal) -> tuple[PropertyAnswer, float]:
        try:
            return self.run(predictor, crystal)
        except OutOfMemoryError as error:
            raise TooLargeError(
                f"The model's device cannot hold this crystal of {len(crystal.sites)} atoms.",
                kind="too-large-for-device",
                expected="its primitive cell, or a service whose device has more memory",
            ) from error


def _answer(
    predictor: PropertyPredictor, crystal: Crystal, answer: PropertyAnswer, request_id: str
) -> PropertiesAnswer:
    card = predictor.card
    errors = card.metrics.get("test", {})
    return PropertiesAnswer(
        formula=crystal.formula,
        properties=tuple(
            Property(
                name=scale.name,
                value=answer.values[scale.name],
                unit=scale.unit,
                test_mae=_mean_error(errors.get(scale.name)),
            )
            for scale in card.properties
        ),
        unknown_elements=answer.unknown_elements,
        model=ModelReference(name=predictor.name, version=predictor.version, digest=predictor.digest),
        warnings=(*crystal.warnings, *_unknown_warning(answer.unknown_elements), *_lone_warning(answer.lone_atoms)),
        request_id=request_id,
    )


def _mean_error(figures: Mapping[str, Any] | None) -> MeanError | None:
    """The error of a property in a card's figures; None where it has none."""
    mae = (figures or {}).get("mae") or {}
    if figures is None or mae.get("value") is None:
        return None
    return MeanError(value=mae["value"], low=mae["low"], high=mae["high"], unit=figures["unit"], rows=figures["rows"])


def _unknown_warning(elements: tuple[str, ...]) -> tuple[str, ...]:
    if not elements:
        return ()
    return (f"No crystal that the model was fitted on holds {', '.join(elements)}: these figures are guesses.",)


def _lone_warning(atoms: int) -> tuple[str, ...]:
    if not atoms:
        return ()
    sentence = (
        f"{atoms} of the atoms {'have' if atoms > 1 else 'has'} no other near enough for the model to see: it knows "
        "bulk crystals, and these figures are guesses."
    )
    return (sentence,)


def properties_to_json(answer: PropertiesAnswer) -> Json:
    """An answer as it is replied."""
    return {
        "formula": answer.formula,
        "properties": [
            {
                "name": one.name,
                "value": one.value,
                "unit": one.unit,
                "test_mae": None if one.test_mae is None else vars(one.test_mae),
            }
            for one in answer.properties
        ],
        "unknown_elements": list(answer.unknown_elements),
        "model": vars(answer.model),
        "warnings": list(answer.warnings),
        "request_id": answer.request_id,
    }
