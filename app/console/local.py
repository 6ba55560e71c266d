"""Answers in this process, by the service's own line from an upload to an answer."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import SecretStr

from app.console.asking import Call, Question, Reply
from app.console.sources import Source
from app.cores import usable_cores
from app.crystals.readers.given_cell import parse_cell
from app.crystals.readers.reading import File
from app.errors import BusyError, NotReadyError
from app.models.registry import Registry
from app.serving.answers.as_json import answer_to_json, conductivity_alone
from app.serving.bulk_properties import PropertiesRequest, properties_to_json
from app.serving.reading.uploads import BandFileUpload, BulkUpload, CrystalUpload, EndPointsUpload, FileUpload
from app.serving.service import PredictionRequest, PredictionService, open_service
from app.settings import Settings

#: A day: a slow model on a large crystal is waited for here as long as it needs.
_LONGEST_S = 86_400.0
#: Inputs in progress for each core, and beside them: one is read and another prepared by each core while the model has
#: a batch, and of bands alone a batch should be worth its pass.
_INPUTS_PER_CORE, _INPUTS_BESIDE = 4, 8
#: How long a part of the service that has no room is left alone, seconds.
_LEAST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
#: A worker process that crashed is replaced meanwhile.
_TRIES_WHERE_NOT_READY, _RESTART_S = 5, 1.0

T = TypeVar("T")


class Local:
    """Predicts in this process; the log is a file that is thrown away.

    Nobody else waits for it: the hops and the time that the service leaves to jobs may be asked for, and nothing is
    refused for load.

    Args:
        settings: the model store and the device count, the stores do not.
    """

    def __init__(self, settings: Settings) -> None:
        self._usual_hops = settings.max_hops
        self._settings = settings.model_copy(
            update={
                "max_hops": max(settings.max_hops, settings.max_hops_later),
                "request_timeout_s": max(settings.request_timeout_s, _LONGEST_S),
                "queue_max_wait_s": _LONGEST_S,
                "redis_url": None,
                "store_inputs": True,
                "metrics_port": None,
            }
        )

    @property
    def at_once(self) -> int:
        """Enough to keep the reading processes and the model busy; the rest waits on disk."""
        return _INPUTS_PER_CORE * usable_cores() + _INPUTS_BESIDE

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Call]:
        """Load the model, and release it at the end."""
        with tempfile.TemporaryDirectory(prefix="ionpath-") as folder:
            log = SecretStr(f"sqlite+aiosqlite:///{Path(folder) / 'log.sqlite3'}")
            async with open_service(
                self._settings.model_copy(update={"database_url": log, "spool_dir": Path(folder) / "spool"})
            ) as service:

                async def call(source: Source, question: Question) -> Reply:
                    if question.properties:
                        return await _properties_here(service, source, question.model)
                    if question.conductivity:
                        return await _conductivity_here(service, source, question, usual_hops=self._usual_hops)
                    return await _predict_here(service, source, question, usual_hops=self._usual_hops)

                yield call


async def _predict_here(service: PredictionService, source: Source, question: Question, *, usual_hops: int) -> Reply:
    asked = PredictionRequest(
        upload=_upload(source),
        model=question.model,
        threshold_ev=question.threshold_ev,
        hops=replace(question.hops, max_hops=question.hops.max_hops or usual_hops),
        second_opinion=question.second_opinion if "structure" in source.files else None,
        key_id=None,
        request_id=uuid4().hex,
    )
    answer = await _once_there_is_room(lambda: service.predict(asked))
    if not question.with_bands:
        return Reply(answer=answer_to_json(answer))
    bands_zip = await _once_there_is_room(lambda: service.export(answer.prediction_id, None, "zip"))
    return Reply(answer=answer_to_json(answer), bands_zip=bands_zip)


async def _conductivity_here(
    service: PredictionService, source: Source, question: Question, *, usual_hops: int
) -> Reply:
    asked = PredictionRequest(
        upload=_upload(source),
        model=question.model,
        threshold_ev=question.threshold_ev,
        hops=replace(question.hops, max_hops=question.hops.max_hops or usual_hops),
        conductivity="required",
        key_id=None,
        request_id=uuid4().hex,
    )
    answer = await _once_there_is_room(lambda: service.predict(asked))
    return Reply(answer=conductivity_alone(answer_to_json(answer)))


async def _properties_here(service: PredictionService, source: Source, model: str | None) -> Reply:
    upload = BulkUpload(file=_files(source)["structure"])
    asked = PropertiesRequest(upload=upload, model=model, request_id=uuid4().hex)
    answer = await _once_there_is_room(lambda: service.properties.predict(asked))
    return Reply(answer=properties_to_json(answer))


async def _once_there_is_room(work: Callable[[], Awaitable[T]]) -> T:
    """Do a piece of work; where the service has no room for it now, wait for as long as that takes."""
    tries_left = _TRIES_WHERE_NOT_READY
    while True:
        try:
            return await work()
        except BusyError as error:
            await asyncio.sleep(min(max(error.retry_after_s, _LEAST_PAUSE_S), _LONGEST_PAUSE_S))
        except NotReadyError:
            tries_left -= 1
            if not tries_left:
                raise
            await asyncio.sleep(_RESTART_S)


def _files(source: Source) -> dict[str, File]:
    cell = parse_cell(source.cell, "--cell") if source.cell else None
    return {
        field: File(name=name, content=content, cell_angstrom=cell) for field, (name, content) in source.files.items()
    }


def _upload(source: Source) -> FileUpload:
    files = _files(source)
    if "band" in files:
        return BandFileUpload(file=files["band"])
    if "structure" in files:
        return CrystalUpload(file=files["structure"], ion=source.ion)
    return EndPointsUpload(initial=files["initial"], final=files["final"], ion=source.ion, offset=None)


def models(settings: Settings) -> dict[str, Any]:
    """The cards of the model store."""
    registry = Registry.open(
        settings.model_store, device="cpu", default=settings.default_model, threads=settings.torch_threads
    )
    return {"default": registry.default_name, "models": registry.cards()}
