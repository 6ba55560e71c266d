"""The spool: rows on local disk until they are in the database.

A spool is a folder of segments (`app.storage.segments`) with an index of rows by id. The last record of an id is valid,
and a deletion overrides all others. A segment that no process has locked is taken over by the first process that finds
it.
"""

import hashlib
import itertools
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog

from app.settings import Settings
from app.storage.engine import database_url
from app.storage.rows import PredictionRow
from app.storage.segments import (
    Entry,
    Segment,
    deletion_record,
    lock,
    lock_existing,
    read_entries,
    read_row,
    row_record,
    sync_folder,
    write,
)

#: A segment is only removed as a whole, so that smaller ones free space sooner.
SEGMENT_BYTES = 8 * 2**20
#: How long the spool reports that it is full after a failed write.
REFUSES_S = 5.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Place:
    segment: Segment
    offset: int
    length: int
    deleted: bool


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A segment whose process has ended, now locked by this one."""

    segment: Segment
    entries: tuple[Entry, ...]

    def release(self) -> None:
        """Unlock it, for another process to take over."""
        os.close(self.segment.descriptor)


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """The content of a segment that was taken over.

    Attributes:
        rows: ids of rows, oldest first.
        deleted: ids of deleted predictions, with their keys' ids.
    """

    rows: tuple[UUID, ...]
    deleted: dict[UUID, str | None]


def open_spool(settings: Settings) -> "Spool | None":
    """Open the spool of IONPATH_SPOOL_DIR for the configured database; None if it is turned off.

    Raises:
        OSError: the folder cannot be created or written.
    """
    if settings.spool_dir is None:
        return None
    # Rows of one database must not be written to another that is configured later.
    url = database_url(settings.database_url)
    if url.drivername.startswith("sqlite"):
        url = url.set(database=str(Path(url.database or "").resolve()))
    where = {name: value for name, value in url.query.items() if name in {"host", "port", "dbname"}}
    name = hashlib.sha256(url.set(password=None, query=where).render_as_string().encode()).hexdigest()[:16]
    return Spool(settings.spool_dir / name, most_bytes=settings.spool_mib * 2**20)


class Spool:
    """Rows on disk, indexed by id. Not thread-safe, except for `find_orphans`.

    Args:
        folder: of the segments; created if it is missing, accessible only to its owner.
        most_bytes: maximum size of its segments, bytes; further rows are refused.

    Attributes:
        bytes: size of the segments of this process.
        unreadable: number of damaged records found since the start.
    """

    def __init__(self, folder: Path, *, most_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._most_bytes = most_bytes
        self._segment_bytes = min(SEGMENT_BYTES, max(1, most_bytes // 4))
        self._places: dict[UUID, _Place] = {}
        self._numbers = itertools.count()
        self._troubled = False
        self._refuses_until_s = 0.0
        self._unsynced: set[Segment] = set()
        self.bytes = 0
        self.unreadable = 0
        self._active = self._new_segment()  # so that a folder that cannot be written fails at the start

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, prediction_id: UUID) -> bool:
        return prediction_id in self._places

    @property
    def folder(self) -> Path:
        """The folder of the segments."""
        return self._folder

    def put(self, row: PredictionRow) -> bool:
        """Write a row so that it survives a killed process; False if the spool is full or the row cannot be written."""
        try:
            record = row_record(row)
        except TypeError:
            return False  # a row that no database stores either: the log's writer reports it
        return self._append(row.id, record)

    def put_deleted(self, prediction_id: UUID, key_id: str | None) -> bool:
        """Record the deletion of a prediction in place of its row; a full spool accepts it too."""
        return self._append(prediction_id, deletion_record(prediction_id, key_id), deleted=True)

    def get(self, prediction_id: UUID) -> PredictionRow | None:
        """Read a row; None if it is not in the spool or cannot be read."""
        place = self._places.get(prediction_id)
        if place is None:
            return None
        try:
            return read_row(place.segment, place.offset, place.length)
        except (OSError, ValueError, TypeError, KeyError, struct.error) as error:
            self.unreadable += 1
            _log.error("spool_record_unreadable", prediction_id=str(prediction_id), cause=repr(error))
            return None

    def done(self, prediction_id: UUID) -> None:
        """Remove a row that is in the database; a segment without other rows is deleted."""
        place = self._places.pop(prediction_id, None)
        if place is not None:
            self._leave(place.segment, prediction_id)

    def find_orphans(self) -> list[Orphan]:
        """Lock and read the segments of processes that have ended; may run in another thread."""
        orphans = []
        # Names sort by time of creation: newest first, so that an id's last record is found first.
        for path in sorted(self._folder.glob("*.spool"), reverse=True):
            try:
                descriptor = lock_existing(path)
            except OSError as error:  # one that cannot be opened does not block the others
                _log.error("spool_unreadable", file=path.name, why=str(error))
                continue
            if descriptor is None:
                continue
            try:
                segment = Segment(path=path, descriptor=descriptor, size=os.fstat(descriptor).st_size)
                entries, unreadable = read_entries(segment)
            except OSError as error:
                os.close(descriptor)  # which releases the lock: it is tried again later
                _log.error("spool_unreadable", file=path.name, why=str(error))
                continue
            self.unreadable += unreadable
            orphans.append(Orphan(segment=segment, entries=entries))
        return orphans

    def adopt(self, orphan: Orphan) -> Adopted:
        """Take over a segment: its rows become rows of this spool.

        Existing rows are newer and stay, except for those whose deletion is recorded in the segment.
        """
        segment = orphan.segment
        self.bytes += segment.size
        last: dict[UUID, Entry] = {}
        for entry in orphan.entries:
            if entry.id not in last or not last[entry.id].deleted:
                last[entry.id] = entry
        last = {number: entry for number, entry in last.items() if self._takes(entry)}
        for entry in last.values():
            before = self._places.get(entry.id)
            self._places[entry.id] = _Place(
                segment=segment, offset=entry.offset, length=entry.length, deleted=entry.deleted
            )
            segment.live.add(entry.id)
            if before is not None:
                self._leave(before.segment, entry.id)
        if not segment.live:
            self._end(segment)
        return Adopted(
            rows=tuple(entry.id for entry in last.values() if not entry.deleted),
            deleted={entry.id: entry.key_id for entry in last.values() if entry.deleted},
        )

    def _takes(self, entry: Entry) -> bool:
        here = self._places.get(entry.id)
        return here is None or (entry.deleted and not here.deleted)

    @property
    def is_full(self) -> bool:
        """Whether it is full, or refused a row so recently that another would be refused as well."""
        return self.bytes >= self._most_bytes or time.monotonic() < self._refuses_until_s

    def unsynced(self) -> list[int]:
        """Duplicate descriptors of the segments written since the last call; the caller closes them.

        If the process has too many open files, a segment is returned by a later call.
        """
        descriptors = []
        for segment in list(self._unsynced):
            try:
                descriptors += [os.dup(segment.descriptor)] if segment.live else []
            except OSError as error:
                _log.error("spool_sync_failed", why=str(error))
                break
            self._unsynced.discard(segment)
        return descriptors

    def close(self) -> None:
        """Release the segments; their rows stay for the next process."""
        segments = {self._active, *(place.segment for place in self._places.values())}
        for segment in segments:
            if segment.live:
                os.close(segment.descriptor)
            else:
                self._end(segment)
        self._places.clear()

    def _append(self, number: UUID, record: bytes, *, deleted: bool = False) -> bool:
        if not deleted and self.bytes + len(record) > self._most_bytes:
            self._trouble("it is full (IONPATH_SPOOL_MIB)")
            return False
        try:
            segment = self._room_for(len(record))
            write(segment, record)
        except OSError as error:
            self._trouble(str(error))
            return False
        place = _Place(segment=segment, offset=segment.size, length=len(record), deleted=deleted)
        segment.size += len(record)
        self.bytes += len(record)
        segment.live.add(number)
        before, self._places[number] = self._places.get(number), place
        if before is not None and before.segment is not segment:
            self._leave(before.segment, number)
        self._troubled, self._refuses_until_s = False, 0.0
        self._unsynced.add(segment)
        return True

    def _room_for(self, length: int) -> Segment:
        """The active segment, or a new one if it is full."""
        if self._active.size and self._active.size + length > self._segment_bytes:
            self._active = self._new_segment()
        return self._active

    def _new_segment(self) -> Segment:
        while True:
            path = self._folder / f"{time.time_ns():020d}-{os.getpid()}-{next(self._numbers)}.spool"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if not lock(descriptor):  # another process has locked it first, as an orphan
                continue
            try:
                sync_folder(self._folder)
            except OSError:
                os.close(descriptor)
                raise
            return Segment(path=path, descriptor=descriptor)

    def _leave(self, segment: Segment, number: UUID) -> None:
        segment.live.discard(number)
        if segment.live:
            return
        if segment is not self._active:
            self._end(segment)
        elif segment.size:
            self.bytes -= segment.size
            segment.size = 0
            try:
                os.ftruncate(segment.descriptor, 0)
            except OSError as error:  # the file stays and is read once more, which is idempotent
                self._trouble(str(error))

    def _end(self, segment: Segment) -> None:
        self.bytes -= segment.size
        self._unsynced.discard(segment)
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            self._trouble(str(error))
        os.close(segment.descriptor)

    def _trouble(self, why: str) -> None:
        """Log once that it refuses rows, until it accepts one again."""
        self._refuses_until_s = time.monotonic() + REFUSES_S
        if not self._troubled:
            self._troubled = True
            _log.error("spool_refuses", why=why, folder=str(self._folder), bytes=self.bytes)
