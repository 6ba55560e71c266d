"""The prediction service: from a request to an answer that is logged, and from an id back to it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

import structlog

from app.errors import IonpathError, NotReadyError
from app.models.registry import Registry
from app.serving.answers.as_csv import answer_to_csv
from app.serving.answers.as_json import Json, answer_to_json
from app.serving.answers.types import Answer
from app.serving.bulk_properties import PropertyAnswering
from app.serving.history.exports import ExportForm, check_done, input_not_kept, numbered_bands, to_neb_json, to_neb_zip
from app.serving.history.filters import ListQuery
from app.serving.history.jobs import Job, Jobs
from app.serving.history.records import JOB_SIGN_S, Records, interrupted
from app.serving.inference.admission import FIRST_BAND_S, FIRST_REQUEST_S, Admission, AdmittedWork
from app.serving.lanes import Lane
from app.serving.metrics import Metrics
from app.serving.pipeline import Pipeline, lane_of
from app.serving.reading.uploads import CrystalUpload, upload_size_bytes
from app.serving.request import Asked, PredictionRequest
from app.settings import Settings
from app.storage.rows import JsonDocument

#: Signs of life that a job gives before it is taken for dead; some may be lost.
SIGNS_IN_TIME = 6

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Check:
    """How one part of the service is.

    Attributes:
        ok: whether it works.
        detail: a sentence for a person.
        required: whether the service can answer without it.
    """

    ok: bool
    detail: str
    required: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionService:
    """Predicts, remembers and finds again; made by `app.serving.service.open_service`.

    Attributes:
        registry: the checkpoints.
        metrics: what is counted.
        properties: what answers for bulk properties, remembering nothing.
    """

    settings: Settings
    registry: Registry
    metrics: Metrics
    admission: Admission
    pipeline: Pipeline
    properties: PropertyAnswering
    jobs: Jobs
    records: Records

    @contextmanager
    def admit(
        self, model: str | None, *, kind: str, size_bytes: int, second_opinion: bool = False
    ) -> Iterator[AdmittedWork]:
        """Admit a request before it is parsed, until the context ends.

        Args:
            model: the checkpoint's name; None for the default one.
            kind: how it was sent; requests that are sent alike are expected to take alike.
            size_bytes: of its body.
            second_opinion: whether one is asked for.

        Raises:
            BusyError: too much waits already.
            NotReadyError: the service is stopping.
            NotFoundError, InputError: there is no such model for barriers.
        """
        predictor = self.registry.predictor(model)
        lane = lane_of(self.registry, predictor)
        is_band = kind in {"json", "band"}
        if is_band and lane is Lane.MAIN:
            lane = Lane.BAND
        with self.admission.admit(
            f"{kind} {predictor.name}",
            size_bytes=size_bytes,
            lane=lane,
            first_s=(FIRST_BAND_S if is_band else FIRST_REQUEST_S)
            + (self.registry.seconds_per_band(predictor.name) or 0.0),
            second_opinion=second_opinion,
        ) as work:
            yield work

    async def predict(self, request: PredictionRequest) -> Answer:
        """Answer a request now.

        Raises:
            InputError: what was sent cannot be read, is invalid or too large.
            NotFoundError: there is no such model.
            BusyError: too much waits already, where it was not admitted before.
            NotReadyError: the service is stopping, nothing of it was done for IONPATH_REQUEST_TIMEOUT_S, or the log
                has no room for it: nothing is answered that would not be found again.
        """
        answer, _ = await self._answered(request)
        return answer

    async def reply(self, request: PredictionRequest) -> JsonDocument:
        """Do the same and give the answer as JSON, as it is logged; raises as `predict`."""
        _, document = await self._answered(request)
        return document

    async def _answered(self, request: PredictionRequest) -> tuple[Answer, JsonDocument]:
        self.records.writer.check_room()
        if request.work is None:
            upload = request.upload
            kind = "crystal" if isinstance(upload, CrystalUpload) else "band"
            with self.admit(
                request.model,
                kind=kind,
                size_bytes=upload_size_bytes(upload),
                second_opinion=request.second_opinion is not None,
            ) as work:
                return await self._answered(replace(request, work=work))
        patience_s = self.settings.request_timeout_s
        try:
            async with asyncio.timeout(None) as limit:  # those before it have limits, and then its turn comes
                extend = partial(_extend, limit, patience_s)
                asked = await self.pipeline.read(request, extend)
                extend()
                answer = await self.pipeline.answer(asked, extend)
        except TimeoutError:
            raise NotReadyError(
                f"Nothing of this request was done for {patience_s:g} s (IONPATH_REQUEST_TIMEOUT_S); "
                "with `Prefer: respond-async` it may take as long as it needs.",
                kind="took-too-long",
            ) from None
        document = JsonDocument(answer_to_json(answer))
        await self._keep(asked, answer, document, new=True)
        return answer, document

    async def submit(self, request: PredictionRequest) -> UUID:
        """Accept a request that has been read and answer it later; `get` shows how far it is.

        Raises:
            InputError, NotFoundError: as `predict`.
            BusyError: too many jobs wait already, or their inputs take too much memory.
            NotReadyError: the log has no room for it, so it could not be found again.
        """
        self._check_job()
        asked = await self.pipeline.read(request, later=True)
        asked = replace(asked, request=replace(request, work=None))  # a job counts no more once it was accepted
        job = Job(
            id=asked.prediction_id,
            key_id=request.key_id,
            total=len(asked.read.bands),
            size_bytes=asked.read.size_bytes,
        )
        self._check_job(job.size_bytes)
        if not await self.records.keep(asked.row("queued"), new=True):
            raise _no_room()
        self.jobs.start(job, lambda: self._run_job(job, asked))
        return job.id

    def _check_job(self, size_bytes: int = 0) -> None:
        self.admission.check_job(jobs=len(self.jobs), held_bytes=self.jobs.size_bytes, size_bytes=size_bytes)

    async def get(self, prediction_id: UUID, key_id: str | None) -> Json:
        """Give a key's prediction as JSON, with its stored input; NotFoundError if it does not exist."""
        return await self.records.get(prediction_id, key_id)

    async def export(self, prediction_id: UUID, key_id: str | None, form: ExportForm) -> bytes:
        """Write a key's prediction in a form that other programs read.

        Raises:
            NotFoundError: it does not exist, belongs to another key, or its input is needed and was not stored.
            NotDoneError: it has no answer.
            InputError: its input cannot be read again now.
            NotReadyError: it is not in memory and the database cannot be asked.
        """
        document = await self.records.get(prediction_id, key_id)
        check_done(document)
        if form == "csv":
            return answer_to_csv(document)
        stored = await self.records.stored_input(prediction_id, key_id)
        if stored is None or stored.packed is None:
            raise input_not_kept()
        bands = numbered_bands(document, await self.pipeline.read_stored(stored.packed, key_id))
        # hundreds of images of a large crystal take a second to write
        return await asyncio.to_thread(to_neb_zip if form == "zip" else to_neb_json, document, bands)

    async def list(self, key_id: str | None, query: ListQuery) -> Json:
        """Give a page of a key's predictions as JSON, newest first."""
        return await self.records.list(key_id, query)

    async def delete(self, prediction_id: UUID, key_id: str | None) -> None:
        """Delete a key's prediction: its row, and what the cache keeps of its bands for this key.

        The cache is searched by the stored input. With IONPATH_STORE_INPUTS=0 there is no such input, and the cache
        keeps the band (its canonical form) and its barrier until IONPATH_CACHE_TTL_S is over.

        Raises:
            NotFoundError: it does not exist, or belongs to another key.
            NotReadyError: the database or the cache is away; nothing was deleted.
        """
        stored = await self.records.stored_input(prediction_id, key_id)
        if stored is not None:
            await self.pipeline.forget_stored(stored, key_id)
        await self.records.delete(prediction_id, key_id)

    async def ready(self) -> dict[str, Check]:
        """Ask every part; the service can answer where all that are required are ok."""
        parts, records = self.pipeline, self.records
        cache_ok, database = await asyncio.gather(parts.cache.ping(), _trouble(records.log.ping))
        model, reading, writer = parts.batcher.trouble, parts.pool.trouble, _writer_trouble(records)
        return {
            "model": Check(ok=model is None, detail=model or f"{self.registry.default_name} is loaded"),
            "reading": Check(ok=reading is None, detail=reading or "the reading processes run"),
            "database": Check(ok=database is None, detail=database or "the prediction log answers"),
            "log": Check(ok=writer is None, detail=writer or f"{records.writer.backlog} rows wait to be written"),
            "cache": Check(
                ok=cache_ok,
                detail="the cache answers" if cache_ok else "the cache is away: every answer is computed",
                required=False,
            ),
        }

    async def _keep(self, asked: Asked, answer: Answer, document: JsonDocument, *, new: bool) -> None:
        """Hand the answer to the log; the client's leaving now must not lose its row."""
        started = time.monotonic()
        if not await asyncio.shield(self.records.keep(asked.row("done", answer=answer, document=document), new=new)):
            raise _no_room()
        now = time.monotonic()
        self.metrics.observe("record", now - started)
        self.metrics.observe("total", now - asked.started_s)

    async def _run_job(self, job: Job, asked: Asked) -> None:
        try:
            answer = await self._with_signs(job, asked, self._take_turn(job, asked))
            await self._keep(asked, answer, JsonDocument(answer_to_json(answer)), new=False)
        except asyncio.CancelledError:
            if not job.deleted:
                await self.records.keep(asked.row("failed", error=interrupted()))
            raise
        except IonpathError as error:
            await self._fail_job(asked, error)
        except Exception as error:  # noqa: BLE001 # a job has no caller that awaits it: its errors are logged and stored
            _log.exception("job-failed", prediction_id=str(job.id), request_id=asked.request.request_id)
            failed = IonpathError("The service failed on this; its log says why.")
            failed.__cause__ = error
            await self._fail_job(asked, failed)
        finally:
            await self._forget_if_deleted(job, asked)

    async def _forget_if_deleted(self, job: Job, asked: Asked) -> None:
        """Take out of the cache what a job put there while its prediction was being deleted."""
        if not job.deleted and not await self.records.is_deleted(job.id):
            return
        try:
            await self.pipeline.forget(asked)
        except NotReadyError as error:
            _log.warning("deleted-job-in-cache", prediction_id=str(job.id), detail=error.detail)

    async def _fail_job(self, asked: Asked, error: IonpathError) -> None:
        self.metrics.failed(error.kind)
        await self.records.keep(asked.row("failed", error=error))

    async def _with_signs(self, job: Job, asked: Asked, work: Coroutine[None, None, Answer]) -> Answer:
        """Await work, and meanwhile show other replicas that the job is alive and how far it is."""
        working = asyncio.ensure_future(work)
        try:
            while not working.done():
                await asyncio.wait({working}, timeout=JOB_SIGN_S / SIGNS_IN_TIME)
                await self._end_if_deleted(job)
                if not working.done():
                    row = asked.row("running" if job.running else "queued")
                    await self.records.keep(row, progress=job.progress, log=False)
            return working.result()
        finally:
            working.cancel()
            await asyncio.wait({working})

    async def _end_if_deleted(self, job: Job) -> None:
        """End the job (CancelledError) if another replica has deleted its prediction."""
        if await self.records.is_deleted(job.id):
            job.deleted = True
            raise asyncio.CancelledError

    async def _take_turn(self, job: Job, asked: Asked) -> Answer:
        """Answer once it is the job's turn."""

        def count() -> None:
            job.done += 1

        async with self.jobs.turn(job):
            await self._end_if_deleted(job)
            await self.records.keep(asked.row("running"))
            return await self.pipeline.answer(asked, count)


def _extend(limit: asyncio.Timeout, patience_s: float) -> None:
    """Restart a time limit, since something was done."""
    with contextlib.suppress(RuntimeError):  # the request has ended meanwhile
        limit.reschedule(asyncio.get_running_loop().time() + patience_s)


async def _trouble(ping: Callable[[], Awaitable[None]]) -> str | None:
    try:
        await ping()
    except NotReadyError as error:
        return error.detail
    return None


def _no_room() -> NotReadyError:
    return NotReadyError(
        "The prediction log has no room for another row now (IONPATH_LOG_QUEUE_ROWS, IONPATH_LOG_QUEUE_MIB, "
        "IONPATH_SPOOL_MIB).",
        kind="log-queue-full",
        expected="the same once the log's database is back",
    )


def _writer_trouble(records: Records) -> str | None:
    try:
        records.writer.check()
    except NotReadyError as error:
        return error.detail
    return None
