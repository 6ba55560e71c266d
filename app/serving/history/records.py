"""What was predicted, found again: in the jobs that run, among recent records, in the log."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from app.errors import NotFoundError, NotReadyError
from app.serving.answers.as_json import Json, error_to_json, row_head, row_to_json
from app.serving.cache import Cache
from app.serving.history.filters import ListQuery, filter_of
from app.serving.history.jobs import Jobs
from app.serving.history.recent import RecentRecord, StoredInput, read_record, write_record
from app.storage.log import PredictionLog
from app.storage.rows import MOST_ROWS_A_PAGE, UNFINISHED, Page, PredictionFilter, PredictionRow, unpack_input
from app.storage.writer import LogWriter

#: How long other replicas find an answer without its row: far longer than writing takes, short of what Redis holds.
RECENT_S = 300.0
#: A job that says nothing for so long is not running any more.
JOB_SIGN_S = 60.0
DELETED_S = 24 * 3600.0
_MARK = b"1"
#: Above this unpacking an input leaves the event loop, compressed bytes.
_UNPACKED_HERE_BYTES = 65_536


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

    async def keep(
        self, row: PredictionRow, *, progress: float | None = None, log: bool = True, new: bool = False
    ) -> bool:
        """Put a prediction, or its next status, where every replica finds it at once, and on its way to the log.

        Args:
            row: what is kept; nothing is if another replica has deleted it.
            progress: of a job, 0 to 1.
            log: whether it goes to the log too; a job's signs of life do not.
            new: its id was not sent to anyone yet, so it cannot have been deleted.

        Returns:
            False where the log's queue had no room, and nothing was kept.
        """
        if not new and await self.is_deleted(row.id):
            return True
        if log and not self.writer.put(row):
            return False
        if self.shared:
            ttl_s = RECENT_S if row.status in {"done", "failed"} else JOB_SIGN_S
            record = RecentRecord(
                key_id=row.key_id,
                head=row_head(row, progress=progress),
                answer=row.answer,
                stored=_stored_input(row),
            )
            await self.cache.put_recent(str(row.id), write_record(record), ttl_s)
        return True

    async def is_deleted(self, prediction_id: UUID) -> bool:
        """Whether any replica has deleted it."""
        return self.shared and await self.cache.get_recent(_mark_of(prediction_id)) is not None

    async def get(self, prediction_id: UUID, key_id: str | None) -> Json:
        """Give a key's prediction as JSON, how far it is and its stored input (null where none is) included.

        Raises:
            NotFoundError: it does not exist, or belongs to another key.
            NotReadyError: it is not in memory and the database cannot be asked.
        """
        deleted, record = await self._recent(prediction_id, key_id)
        if deleted:
            raise _not_found(prediction_id)
        job = self.jobs.find(prediction_id, key_id)
        if job is None and record is not None:
            return record.document | {"input": await _unpacked(record.stored.packed)}
        row = await self.writer.get(prediction_id, key_id)
        if row is None:
            raise _not_found(prediction_id)
        progress = None
        if job is not None:
            status: Literal["queued", "running"] = "running" if job.running else "queued"
            row, progress = replace(row, status=status), job.progress
        elif await self._orphans([row]):
            error = error_to_json(interrupted())
            await self.log.fail([row.id], error)
            row = replace(row, status="failed", error=error)
        return row_to_json(row, progress=progress) | {"input": await _unpacked(row.input_blob)}

    async def stored_input(self, prediction_id: UUID, key_id: str | None) -> StoredInput | None:
        """Give the input of a key's prediction; None if it does not exist.

        Raises:
            NotReadyError: it is not in memory and the database cannot be asked.
        """
        deleted, record = await self._recent(prediction_id, key_id)
        if deleted:
            return None
        if record is not None:
            return record.stored
        row = await self.writer.get(prediction_id, key_id)
        return None if row is None else _stored_input(row)

    async def delete(self, prediction_id: UUID, key_id: str | None) -> None:
        """Delete a key's prediction wherever it is, but for what the cache keeps; a job that runs is ended.

        Raises:
            NotFoundError: it does not exist, or belongs to another key.
            NotReadyError: it is not in memory and the database cannot be asked.
        """
        deleted, record = await self._recent(prediction_id, key_id)
        job = self.jobs.find(prediction_id, key_id)
        known = job is not None or record is not None
        if deleted or not await self.writer.delete(prediction_id, key_id, known=known):
            raise _not_found(prediction_id)
        if job is not None:
            self.jobs.cancel(job)
        if self.shared:
            # Under a key of its own: a job of another replica, which sees it when its turn comes or at its next
            # sign of life, must not write over it.
            await self.cache.put_recent(_mark_of(prediction_id), _MARK, DELETED_S)
            await self.cache.delete_recent(str(prediction_id))

    async def list(self, key_id: str | None, query: ListQuery) -> Json:
        """Give a page of a key's predictions that the log holds, newest first, without their inputs.

        Raises:
            InputError: a filter or cursor is invalid.
            NotReadyError: the database cannot be asked.
        """
        where = filter_of(query)
        if query.status == "failed":  # those whose process crashed are among them once they were found
            for status in UNFINISHED:
                await self._page(key_id, PredictionFilter(status=status), MOST_ROWS_A_PAGE, None)
        page = await self._page(key_id, where, query.limit, query.cursor)
        return {"predictions": [row_to_json(row) for row in page.rows], "next_cursor": page.next_cursor}

    async def _page(self, key_id: str | None, where: PredictionFilter, limit: int, cursor: str | None) -> Page:
        """A page of the log; jobs on it whose process is gone are failed first."""
        while True:
            page = await self.log.list(key_id, where=where, limit=limit, cursor=cursor)
            orphans = await self._orphans(page.rows)
            if not orphans:
                return page
            await self.log.fail(orphans, error_to_json(interrupted()))

    async def _recent(self, prediction_id: UUID, key_id: str | None) -> tuple[bool, RecentRecord | None]:
        """Whether it was deleted, and what a key may see of its recent record."""
        if not self.shared:
            return False, None
        deleted, content = await asyncio.gather(
            self.is_deleted(prediction_id), self.cache.get_recent(str(prediction_id))
        )
        record = None if content is None else read_record(content)
        return deleted, record if record is not None and record.key_id == key_id else None

    async def _orphans(self, rows: Sequence[PredictionRow]) -> Sequence[UUID]:
        """Which of the rows are jobs whose process is gone: no replica gives a sign of them.

        Without shared records only jobs older than this process are known to have lost theirs.
        """
        now = datetime.now(UTC)
        silent = [
            row.id
            for row in rows
            if row.status in UNFINISHED
            and self.jobs.find(row.id, row.key_id) is None
            and (
                (now - row.created_at).total_seconds() > JOB_SIGN_S if self.shared else row.created_at < self.started_at
            )
        ]
        if not silent or not self.shared:
            return silent
        if not await self.cache.ping():
            return ()
        return [number for number in silent if await self.cache.get_recent(str(number)) is None]


def _mark_of(prediction_id: UUID) -> str:
    return f"{prediction_id}:deleted"


def _stored_input(row: PredictionRow) -> StoredInput:
    return StoredInput(model_name=row.model_name, model_digest=row.model_digest, packed=row.input_blob)


async def _unpacked(packed: bytes | None) -> Json | None:
    if packed is None:
        return None
    return (
        unpack_input(packed) if len(packed) <= _UNPACKED_HERE_BYTES else await asyncio.to_thread(unpack_input, packed)
    )


def interrupted() -> NotReadyError:
    """The problem of a job whose process ended before it did."""
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
