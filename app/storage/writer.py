"""The background writer of the prediction log: a queue in memory and on disk, written in batches by a task."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from app.errors import NotReadyError
from app.settings import Settings
from app.storage.held import HeldRows, bytes_of
from app.storage.log import PredictionLog, UnwritableRowError
from app.storage.rows import PredictionRow
from app.storage.segments import sync_and_close
from app.storage.spool import Orphan, Spool, open_spool

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
HOUSEKEEPING_S = 3600.0
#: Interval of the search for spools of replicas that have ended.
ADOPT_S = 60.0
#: Maximum bytes of rows read back from the spool at once, which blocks the event loop.
REFILL_BYTES = 8 * 2**20

_log = structlog.get_logger(__name__)


def open_writer(settings: Settings, log: PredictionLog) -> "LogWriter":
    """Create the writer configured by IONPATH_LOG_*, IONPATH_SPOOL_* and IONPATH_RETENTION_DAYS; `start` starts it.

    Raises:
        OSError: the spool's folder cannot be created or written.
    """
    return LogWriter(
        log,
        spool=open_spool(settings),
        spool_sync_ms=settings.spool_sync_ms,
        batch_rows=settings.log_batch_rows,
        batch_wait_ms=settings.log_batch_wait_ms,
        queue_rows=settings.log_queue_rows,
        queue_bytes=settings.log_queue_mib * 2**20,
        retention_days=settings.retention_days,
    )


class LogWriter:
    """The log as seen by one replica: rows in memory and in the spool first, then those in the database.

    `put` never waits for the database. While that is unavailable, rows are kept and written later: in memory up to a
    limit, and in the spool, if there is one, whether or not they are in memory. Rows that fit in neither are dropped,
    counted and logged. Rows that another process left in the spool are written as well, in any order: writing is
    idempotent, and late rows change nothing. It belongs to one event loop.

    Args:
        log: where the rows go.
        spool: on disk, survives the process; None keeps rows only in memory.
        spool_sync_ms: interval at which the spool is flushed to disk, milliseconds.
        batch_rows: maximum number of rows in a batch.
        batch_wait_ms: how long a row waits for others before it is written, milliseconds.
        queue_rows: maximum number of rows in memory.
        queue_bytes: maximum size of these, bytes; a single row is always accepted.
        retention_days: rows older than this are deleted once an hour; 0 keeps them.

    Attributes:
        written: rows written since the start.
        dropped: rows lost since the start, because the queue was full or they were unwritable.
        failures: failed attempts to write since the start.
        unspooled: rows and deletions since the start that the spool refused, so that a crash could have lost them.
        adopted: rows taken over since the start from spools of other processes.
        spool: on disk, survives the process; None without one.
    """

    def __init__(
        self,
        log: PredictionLog,
        *,
        batch_rows: int,
        batch_wait_ms: float,
        queue_rows: int,
        queue_bytes: int,
        retention_days: int = 0,
        spool: Spool | None = None,
        spool_sync_ms: float = 1000.0,
    ) -> None:
        self._log = log
        self.spool = spool
        self._sync_s = spool_sync_ms / 1000.0
        self._batch_rows = batch_rows
        self._batch_wait_s = batch_wait_ms / 1000.0
        self._queue_rows = queue_rows
        self._queue_bytes = queue_bytes
        self._retention = timedelta(days=retention_days)
        self._waiting = HeldRows()
        self._writing = HeldRows()
        self._spilled: dict[UUID, None] = {}  # ids of rows of which the newest status is only in the spool
        self._deleted: dict[UUID, str | None] = {}
        self._work = asyncio.Event()
        self._hurry = asyncio.Event()  # set if a batch is full or the service stops
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._overflowing = False
        self._tasks: list[asyncio.Task[None]] = []
        self.written = 0
        self.dropped = 0
        self.failures = 0
        self.unspooled = 0
        self.adopted = 0

    @property
    def backlog(self) -> int:
        """Rows that are not in the database yet."""
        return len(self._waiting) + len(self._writing) + len(self._spilled)

    def start(self) -> None:
        """Start writing; needs a running event loop."""
        self._tasks = [asyncio.create_task(self._write_forever()), asyncio.create_task(self._purge_forever())]
        if self.spool is not None:
            self._tasks.append(asyncio.create_task(self._adopt_forever(self.spool)))
            self._tasks.append(asyncio.create_task(self._sync_forever(self.spool)))
        for task in self._tasks:
            task.add_done_callback(_report_crash)

    def check(self) -> None:
        """Check that the writer works.

        Raises:
            NotReadyError: it does not run, or its queue is full.
        """
        if not self._tasks or any(task.done() for task in self._tasks):
            raise NotReadyError("the log's writer does not run", kind="log-writer-stopped")
        self.check_room()

    def check_room(self) -> None:
        """Check that there is space for another row.

        Raises:
            NotReadyError: both memory and the spool are full.
        """
        if self._is_full() and (self.spool is None or self.spool.is_full):
            raise NotReadyError(
                "the log's queue is full (IONPATH_LOG_QUEUE_ROWS, IONPATH_LOG_QUEUE_MIB"
                f"{'' if self.spool is None else ', IONPATH_SPOOL_MIB'})",
                kind="log-queue-full",
                expected="the same request once the log's database is available",
            )

    def put(self, row: PredictionRow) -> bool:
        """Queue a row, or the next status of one; False if the queue is full and the row is lost."""
        if row.id in self._deleted:
            return True
        spooled = self.spool is not None and self.spool.put(row)
        if row.id in self._waiting or not self._is_full():
            self._waiting.put(row)
            self._spilled.pop(row.id, None)  # an older status
        elif spooled:
            self._spilled[row.id] = None
        else:
            self._overflow()
            return False
        if self.spool is not None and not spooled:
            self.unspooled += 1
        self._wake()
        if len(self._waiting) >= self._batch_rows:
            self._hurry.set()
        return True

    def pending(self, prediction_id: UUID, key_id: str | None) -> PredictionRow | None:
        """Return a key's row that is not in the database yet; None where there is none."""
        row = self._spilled_row(prediction_id) or self._waiting.get(prediction_id) or self._writing.get(prediction_id)
        if row is None or row.key_id != key_id or prediction_id in self._deleted:
            return None
        return row

    async def get(self, prediction_id: UUID, key_id: str | None) -> PredictionRow | None:
        """Return a key's row from memory or the database; None where there is none.

        Raises:
            NotReadyError: it is not in memory and the database cannot be asked.
        """
        row = self.pending(prediction_id, key_id)
        if row is not None or prediction_id in self._deleted:
            return row
        return await self._log.get(prediction_id, key_id)

    async def delete(self, prediction_id: UUID, key_id: str | None, *, known: bool = False) -> bool:
        """Delete a key's prediction from memory, spool and database; False where the key has no such prediction.

        Args:
            prediction_id: of the prediction.
            key_id: of the API key.
            known: the caller knows that it belongs to the key (another replica may still hold its row): a tombstone
                then keeps it from being written later.

        Raises:
            NotReadyError: it is not in memory and the database cannot be asked.
        """
        if prediction_id in self._deleted:
            return False
        if known or self.pending(prediction_id, key_id) is not None:
            self._forget(prediction_id, key_id)
            if self.spool is not None and not self.spool.put_deleted(prediction_id, key_id):
                self.unspooled += 1
            self._wake()
            return True
        return await self._log.delete(prediction_id, key_id)

    def _forget(self, prediction_id: UUID, key_id: str | None) -> None:
        self._waiting.pop(prediction_id)
        self._spilled.pop(prediction_id, None)
        self._deleted[prediction_id] = key_id

    async def drain(self, timeout_s: float) -> int:
        """Write all queued rows without waiting for full batches; returns the rows left after `timeout_s` seconds."""
        self._stopping.set()
        self._hurry.set()
        await _wait(self._idle, timeout_s)
        self._stopping.clear()
        return self.backlog

    async def aclose(self, timeout_s: float = 0.0) -> None:
        """Drain and stop; rows in the spool stay there, others are counted as dropped and logged."""
        if self._tasks:
            await self.drain(timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        held = {row.id for row in (*self._waiting.rows(), *self._writing.rows())}
        lost = [number for number in held if self.spool is None or number not in self.spool]
        if lost:
            _log.error("log_rows_lost", rows=len(lost), why="the service stopped before they were written")
            self.dropped += len(lost)
        if self.spool is not None:
            if len(self.spool):
                _log.warning("log_rows_left_in_spool", rows=len(self.spool), folder=str(self.spool.folder))
            self.spool.close()
            self.spool = None
        self._spilled.clear()
        self._waiting.clear()
        self._writing.clear()

    def _wake(self) -> None:
        self._idle.clear()
        self._work.set()

    async def _write_forever(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            await self._work.wait()
            # Rows in the spool fill the batch: no need to wait for more.
            if not self._stopping.is_set() and not self._spilled and len(self._waiting) < self._batch_rows:
                self._hurry.clear()
                await _wait(self._hurry, self._batch_wait_s)
            if await self._write_once():
                retry_s = FIRST_RETRY_S
            elif self._stopping.is_set():
                await asyncio.sleep(FIRST_RETRY_S)
            else:
                await _wait(self._stopping, retry_s)
                retry_s = min(2.0 * retry_s, LAST_RETRY_S)

    async def _write_once(self) -> bool:
        """Write a batch, then deletions since; False if the database is unavailable."""
        self._refill()
        for row in self._waiting.rows()[: self._batch_rows]:
            self._waiting.pop(row.id)
            self._writing.put(row)
        deleted = dict(self._deleted)
        try:
            await self._insert([row for row in self._writing.rows() if row.id not in deleted])
            await self._insert_tombstones(deleted)
        except NotReadyError as error:
            self.failures += 1
            _log.warning("log_unavailable", backlog=self.backlog, cause=repr(error.__cause__))
            self._put_back()
            return False
        self._writing.clear()
        for number in deleted:
            del self._deleted[number]
            self._done(number)
        self._overflowing = False
        if not self._waiting and not self._deleted and not self._spilled:
            self._work.clear()
            self._idle.set()
        return True

    async def _insert(self, rows: list[PredictionRow]) -> None:
        """Write rows; a row that the database refuses is found by halving the batch and dropped."""
        try:
            await self._log.insert_many(rows)
        except UnwritableRowError as error:
            if len(rows) > 1:
                middle = len(rows) // 2
                await self._insert(rows[:middle])
                await self._insert(rows[middle:])
                return
            self.dropped += 1
            _log.error("log_row_unwritable", prediction_id=str(rows[0].id), cause=str(error))
        else:
            self.written += len(rows)
        for row in rows:  # finished, even if a later part of the batch fails
            self._writing.pop(row.id)
            self._done(row.id)

    def _done(self, prediction_id: UUID) -> None:
        """Remove a written row from the spool, unless a newer status of it is still queued."""
        newer = prediction_id in self._waiting or prediction_id in self._spilled or prediction_id in self._deleted
        if self.spool is not None and not newer:
            self.spool.done(prediction_id)

    def _refill(self) -> None:
        """Read rows from the spool into memory, oldest first, as many as a batch needs."""
        read_bytes = 0
        while self._spilled and len(self._waiting) < self._batch_rows and read_bytes < REFILL_BYTES:
            if self._waiting and self._is_full():
                return
            number = next(iter(self._spilled))
            row = self._spilled_row(number)
            del self._spilled[number]
            if row is None:  # damaged on disk: the spool logs it
                self.dropped += 1
                self._done(number)
                continue
            self._waiting.put(row)
            read_bytes += bytes_of(row)

    def _spilled_row(self, prediction_id: UUID) -> PredictionRow | None:
        return self.spool.get(prediction_id) if self.spool is not None and prediction_id in self._spilled else None

    async def _adopt_forever(self, spool: Spool) -> None:
        """Take over spools of processes that have ended: an earlier run of this one, or another replica."""
        while True:
            try:
                orphans = await _find_orphans(spool)
            except OSError as error:
                _log.error("spool_unreadable", why=str(error), folder=str(spool.folder))
                orphans = []
            for orphan in orphans:
                found = spool.adopt(orphan)
                self.adopted += len(found.rows)
                self._spilled.update(dict.fromkeys(found.rows))
                for number, key_id in found.deleted.items():  # possibly of a row that this process has
                    self._forget(number, key_id)
                _log.info("spool_adopted", rows=len(found.rows), deleted=len(found.deleted))
                self._wake()
            await asyncio.sleep(ADOPT_S)

    async def _sync_forever(self, spool: Spool) -> None:
        """Flush the spool to disk at intervals, so that a power failure loses little, without delaying writes."""
        while True:
            await asyncio.sleep(self._sync_s)
            syncing = asyncio.create_task(asyncio.to_thread(sync_and_close, spool.unsynced()))
            try:
                await asyncio.shield(syncing)
            except asyncio.CancelledError:
                await asyncio.wait([syncing])  # a duplicate that is never closed keeps the segment locked
                raise

    async def _insert_tombstones(self, deleted: dict[UUID, str | None]) -> None:
        by_key: defaultdict[str | None, list[UUID]] = defaultdict(list)
        for number, key_id in deleted.items():
            by_key[key_id].append(number)
        for key_id, numbers in by_key.items():
            await self._log.insert_tombstones(numbers, key_id)

    def _put_back(self) -> None:
        """Requeue a failed batch before the others; a newer status of a row is kept."""
        both = [*self._writing.rows(), *self._waiting.rows()]
        self._waiting = HeldRows(row for row in both if row.id not in self._deleted)
        self._writing = HeldRows()

    def _is_full(self) -> bool:
        """Whether the queue in memory is full; rows that are only in the spool do not count."""
        held_rows = len(self._waiting) + len(self._writing)
        held_bytes = self._waiting.bytes + self._writing.bytes
        return held_rows >= self._queue_rows or held_bytes >= self._queue_bytes

    def _overflow(self) -> None:
        self.dropped += 1
        if not self._overflowing:
            self._overflowing = True
            held_bytes = self._waiting.bytes + self._writing.bytes
            _log.error("log_queue_full", rows=self.backlog, bytes=held_bytes)

    async def _purge_forever(self) -> None:
        """Delete expired rows and tombstones once an hour; a failed hour is made up for by the next."""
        while True:
            try:
                removed = await self._log.purge_tombstones()
                if self._retention:
                    removed += await self._log.delete_older_than(datetime.now(UTC) - self._retention)
                _log.info("log_housekeeping", removed=removed)
            except NotReadyError as error:
                _log.warning("log_housekeeping_failed", cause=repr(error.__cause__))
            await asyncio.sleep(HOUSEKEEPING_S)


async def _find_orphans(spool: Spool) -> list[Orphan]:
    finding = asyncio.create_task(asyncio.to_thread(spool.find_orphans))
    try:
        return await asyncio.shield(finding)
    except asyncio.CancelledError:
        finding.add_done_callback(_release)
        await asyncio.wait([finding])
        raise


def _release(finding: asyncio.Task[list[Orphan]]) -> None:
    if not finding.cancelled() and finding.exception() is None:
        for orphan in finding.result():
            orphan.release()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()


def _report_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        _log.error("log_writer_crashed", exc_info=task.exception())
