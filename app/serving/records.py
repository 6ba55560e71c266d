"""What was predicted, found again: in the jobs that run, among recent records, in the log."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, Protocol
from uuid import UUID

import orjson

from app.errors import NotFoundError, NotReadyError
from app.serving.cache import Cache
from app.serving.jobs import Jobs
from app.serving.wire import Json, error_to_json, row_to_json
from app.storage.log import PredictionLog
from app.storage.rows import PredictionFilter, PredictionRow
from app.storage.writer import LogWriter

#: How long other replicas find an answer without its row: far longer than writing takes, short of what Redis holds.
RECENT_S = 300.0
#: A job that says nothing for so long is not running any more.
JOB_SIGN_S = 60.0
DELETED_S = 24 * 3600.0
_DELETED = b""


class ListQuery(Protocol):
    """What a list is filtered by; see PredictionFilter."""

    ion: str | None
    formula: str | None
    model: str | None
    status: Literal["queued", "running", "done", "failed"] | None
    kind: Literal["band", "crystal"] | None
    created_after: datetime | None
    created_before: datetime | None
    barrier_below_ev: float | None
    limit: int
    cursor: str | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """Writes and finds predictions of all replicas.

    Args:
        cache: keeps recent records.
        log: the database.
        writer: writes it off the request path.
        jobs: those that run here.
        shared: other replicas see the recent records, so they must be kept.
        started_at: when this process began to serve.
    """

    cache: Cache
    log: PredictionLog
    writer: LogWriter
    jobs: Jobs
    shared: bool
    started_at: datetime

    async def keep(self, row: PredictionRow, *, progress: float | None = None, log: bool = True) -> None:
        """Put a prediction, or its next status, where every replica finds it at once, and on its way to the log."""
        if log:
            self.writer.put(row)
        if self.shared:
            document = row_to_json(row, progress=progress)
            ttl_s = RECENT_S if row.status in {"done", "failed"} else JOB_SIGN_S
            record = orjson.dumps([row.key_id, document])
            await self.cache.put_recent(str(row.id), record, ttl_s)

    async def is_deleted(self, prediction_id: UUID) -> bool:
        """Whether any replica was told to delete it."""
        return self.shared and await self.cache.get_recent(str(prediction_id)) == _DELETED

    async def get(self, prediction_id: UUID, key_id: str | None) -> Json:
        """Give a key's prediction as JSON, how far it is included.

        Raises:
            NotFoundError: there is none such, or it is another key's.
            NotReadyError: it is not in memory and the database cannot be asked.
        """
        record = await self.cache.get_recent(str(prediction_id)) if self.shared else None
        if record == _DELETED:
            raise _not_found(prediction_id)
        job = self.jobs.find(prediction_id, key_id)
        document = None if job is not None else _document(record, key_id)
        if document is not None:
            return document
        row = await self.writer.get(prediction_id, key_id)
        if row is None:
            raise _not_found(prediction_id)
        if job is not None:
            status: Literal["queued", "running"] = "running" if job.running else "queued"
            return row_to_json(replace(row, status=status), progress=job.progress)
        if row.status in {"queued", "running"} and await self._is_orphan(row):
            row = replace(row, status="failed", error=error_to_json(interrupted()))
        return row_to_json(row)

    async def delete(self, prediction_id: UUID, key_id: str | None) -> None:
        """Delete a key's prediction wherever it is; a job that runs is ended.

        Raises:
            NotFoundError: there is none such, or it is another key's.
            NotReadyError: it is not in memory and the database cannot be asked.
        """
        record = await self.cache.get_recent(str(prediction_id)) if self.shared else None
        job = self.jobs.find(prediction_id, key_id)
        known = job is not None or _document(record, key_id) is not None
        if record == _DELETED or not await self.writer.delete(prediction_id, key_id, known=known):
            raise _not_found(prediction_id)
        if job is not None:
            self.jobs.cancel(job)
        if self.shared:  # a job of another replica sees it at its next sign, and ends
            await self.cache.put_recent(str(prediction_id), _DELETED, DELETED_S)

    async def list(self, key_id: str | None, query: ListQuery) -> Json:
        """Give a page of a key's predictions that the log holds, newest first.

        Raises:
            InputError: a filter or cursor makes no sense.
            NotReadyError: the database cannot be asked.
        """
        where = PredictionFilter(
            ion=query.ion,
            formula=query.formula,
            model_name=query.model,
            status=query.status,
            kind=query.kind,
            created_after=query.created_after,
            created_before=query.created_before,
            barrier_below_ev=query.barrier_below_ev,
        )
        page = await self.log.list(key_id, where=where, limit=query.limit, cursor=query.cursor)
        return {"predictions": [row_to_json(row) for row in page.rows], "next_cursor": page.next_cursor}

    async def _is_orphan(self, row: PredictionRow) -> bool:
        """Whether the process that ran this job is gone: no replica gives a sign of it.

        Without shared records only jobs older than this process are known to have lost theirs.
        """
        if not self.shared:
            return row.created_at < self.started_at
        silent_s = (datetime.now(UTC) - row.created_at).total_seconds()
        return silent_s > JOB_SIGN_S and await self.cache.ping()


def _document(record: bytes | None, key_id: str | None) -> Json | None:
    if not record:
        return None
    owner, document = orjson.loads(record)
    return document if owner == key_id else None


def interrupted() -> NotReadyError:
    """What is told of a job whose process ended before it did."""
    return NotReadyError(
        "The service was stopped before this was predicted.", kind="interrupted", expected="send it again"
    )


def _not_found(prediction_id: UUID) -> NotFoundError:
    return NotFoundError(
        f"There is no prediction {prediction_id}.",
        kind="no-such-prediction",
        where="prediction_id",
        expected="an id that this key was given and did not delete",
    )
