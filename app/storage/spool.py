"""The spool: what goes to the log, on this machine's disk until the database has it.

A spool is a folder of segments, files that only grow. A segment holds records one after the other:

    length of the body, length of its JSON, CRC-32 of both lengths and the body (three little-endian 32-bit numbers)
    the body: JSON, then the row's compressed input as it is

The last record of an id counts, and that a prediction was deleted counts above all. A segment belongs to the process
that holds its lock (flock), which ends with the process however that ends; a segment that nobody holds is taken over by
whoever finds it first.
"""

import fcntl
import hashlib
import itertools
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import structlog

from app.settings import Settings
from app.storage.engine import database_url
from app.storage.rows import PredictionRow

#: A segment ends only as a whole, so that smaller ones give room back sooner.
SEGMENT_BYTES = 8 * 2**20
#: After it could not write a row, how long others are told that it is full.
REFUSES_S = 5.0

_HEADER = struct.Struct("<III")
_LENGTHS = struct.Struct("<II")
_NAMES = frozenset(field.name for field in fields(PredictionRow))

_log = structlog.get_logger(__name__)


@dataclass(kw_only=True, eq=False)
class _Segment:
    """A file whose lock is ours: its records, and which ids' last records are among them."""

    path: Path
    descriptor: int
    size: int = 0
    live: set[UUID] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class _Place:
    segment: _Segment
    offset: int
    length: int
    deleted: bool


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One record found in a segment: a row's, or that a prediction was deleted."""

    id: UUID
    deleted: bool
    key_id: str | None
    offset: int
    length: int


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """A segment whose process is gone, now locked by this one."""

    segment: _Segment
    entries: tuple[_Entry, ...]


@dataclass(frozen=True, kw_only=True)
class Adopted:
    """What a segment that was taken over holds.

    Attributes:
        rows: ids of rows, oldest first.
        deleted: ids of deleted predictions, with their keys' ids.
    """

    rows: tuple[UUID, ...]
    deleted: dict[UUID, str | None]


def open_spool(settings: Settings) -> "Spool | None":
    """Open the spool of IONPATH_SPOOL_DIR for the database that is set; None where it is turned off.

    Raises:
        OSError: the folder cannot be made or written.
    """
    if settings.spool_dir is None:
        return None
    # Rows of one database must never be written to another that is set later.
    url = database_url(settings.database_url)
    if url.drivername.startswith("sqlite"):
        url = url.set(database=str(Path(url.database or "").resolve()))
    where = {name: value for name, value in url.query.items() if name in {"host", "port", "dbname"}}
    name = hashlib.sha256(url.set(password=None, query=where).render_as_string().encode()).hexdigest()[:16]
    return Spool(settings.spool_dir / name, most_bytes=settings.spool_mib * 2**20)


class Spool:
    """Rows on disk, found by id. It belongs to one thread, but for `find_orphans`.

    Args:
        folder: of the segments; made where it is missing, open to its owner alone.
        most_bytes: most bytes of its segments; a row past it is refused.

    Attributes:
        bytes: of the segments that this process holds.
        unreadable: records that were found damaged since the start.
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
        self._unsynced: set[_Segment] = set()
        self.bytes = 0
        self.unreadable = 0
        self._active = self._new_segment()  # so that a folder that cannot be written shows at the start

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, prediction_id: UUID) -> bool:
        return prediction_id in self._places

    @property
    def folder(self) -> Path:
        """Where the segments are."""
        return self._folder

    def put(self, row: PredictionRow) -> bool:
        """Write a row where a killed process leaves it; False where there is no room or it cannot be written."""
        document = {name: getattr(row, name) for name in _NAMES if name != "input_blob"}
        for name in ("answer", "error"):
            document[name] = None if document[name] is None else dict(document[name])
        return self._append(row.id, {"row": document, "has_input": row.input_blob is not None}, row.input_blob or b"")

    def put_deleted(self, prediction_id: UUID, key_id: str | None) -> bool:
        """Write that a prediction was deleted, in place of its row; a full spool takes that too."""
        return self._append(prediction_id, {"deleted": prediction_id, "key_id": key_id}, b"", always=True)

    def get(self, prediction_id: UUID) -> PredictionRow | None:
        """Read a row; None where it is not here, or cannot be read any more."""
        place = self._places.get(prediction_id)
        if place is None:
            return None
        try:
            body, text_bytes = _body_of(os.pread(place.segment.descriptor, place.length, place.offset))
            return _row_of(orjson.loads(body[:text_bytes]), body[text_bytes:])
        except (OSError, ValueError, TypeError, KeyError, struct.error) as error:
            self.unreadable += 1
            _log.error("spool_record_unreadable", prediction_id=str(prediction_id), cause=repr(error))
            return None

    def done(self, prediction_id: UUID) -> None:
        """Forget a row that the database has; a segment without any other ends."""
        place = self._places.pop(prediction_id, None)
        if place is not None:
            self._leave(place.segment, prediction_id)

    def find_orphans(self) -> list[Orphan]:
        """Lock and read the segments of processes that are gone; may run in another thread."""
        orphans = []
        # By name they are in the order of their making: with the newest first, an id's last record is met first.
        for path in sorted(self._folder.glob("*.spool"), reverse=True):
            try:
                descriptor = _lock_existing(path)
            except OSError as error:  # one that cannot be opened keeps nobody from the others
                _log.error("spool_unreadable", file=path.name, why=str(error))
                continue
            if descriptor is None:
                continue
            try:
                segment = _Segment(path=path, descriptor=descriptor, size=os.fstat(descriptor).st_size)
                orphans.append(Orphan(segment=segment, entries=tuple(self._entries(segment))))
            except OSError as error:
                os.close(descriptor)  # and with it the lock: it is tried again
                _log.error("spool_unreadable", file=path.name, why=str(error))
        return orphans

    def adopt(self, orphan: Orphan) -> Adopted:
        """Take over a segment: its rows are of this spool from now on.

        What is here already is newer and stays, but for a row of which the segment says that it was deleted.
        """
        segment = orphan.segment
        self.bytes += segment.size
        last: dict[UUID, _Entry] = {}
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

    def _takes(self, entry: _Entry) -> bool:
        here = self._places.get(entry.id)
        return here is None or (entry.deleted and not here.deleted)

    @property
    def is_full(self) -> bool:
        """Whether it has no room, or refused a row so lately that another would be refused as well."""
        return self.bytes >= self._most_bytes or time.monotonic() < self._refuses_until_s

    def unsynced(self) -> list[int]:
        """Give descriptors, the caller's own, of the segments that were written since this was last called.

        One that cannot be had, since the process has too many files open, is given next time.
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
        """Let the segments go; what they hold stays for the next process."""
        segments = {self._active, *(place.segment for place in self._places.values())}
        for segment in segments:
            if segment.live:
                os.close(segment.descriptor)
            else:
                self._end(segment)
        self._places.clear()

    def _append(self, number: UUID, document: dict[str, object], blob: bytes, *, always: bool = False) -> bool:
        try:
            text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:
            return False  # a row that no database takes either: the log's writer says so
        lengths = _LENGTHS.pack(len(text) + len(blob), len(text))
        record = b"".join((lengths, _checksum(lengths, text, blob), text, blob))
        if not always and self.bytes + len(record) > self._most_bytes:
            self._trouble("it is full (IONPATH_SPOOL_MIB)")
            return False
        try:
            segment = self._room_for(len(record))
            _write(segment, record)
        except OSError as error:
            self._trouble(str(error))
            return False
        place = _Place(segment=segment, offset=segment.size, length=len(record), deleted="deleted" in document)
        segment.size += len(record)
        self.bytes += len(record)
        segment.live.add(number)
        before, self._places[number] = self._places.get(number), place
        if before is not None and before.segment is not segment:
            self._leave(before.segment, number)
        self._troubled, self._refuses_until_s = False, 0.0
        self._unsynced.add(segment)
        return True

    def _room_for(self, length: int) -> _Segment:
        """The active segment, or the next one where it is full."""
        if self._active.size and self._active.size + length > self._segment_bytes:
            self._active = self._new_segment()
        return self._active

    def _new_segment(self) -> _Segment:
        while True:
            path = self._folder / f"{time.time_ns():020d}-{os.getpid()}-{next(self._numbers)}.spool"
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            if not _lock(descriptor):  # another process found it first, and takes it for an orphan
                continue
            try:
                _sync_folder(self._folder)
            except OSError:
                os.close(descriptor)
                raise
            return _Segment(path=path, descriptor=descriptor)

    def _leave(self, segment: _Segment, number: UUID) -> None:
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
            except OSError as error:  # what stays there is read once more, which changes nothing
                self._trouble(str(error))

    def _end(self, segment: _Segment) -> None:
        self.bytes -= segment.size
        self._unsynced.discard(segment)
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            self._trouble(str(error))
        os.close(segment.descriptor)

    def _trouble(self, why: str) -> None:
        """Say once that it takes no rows, until it takes one again."""
        self._refuses_until_s = time.monotonic() + REFUSES_S
        if not self._troubled:
            self._troubled = True
            _log.error("spool_refuses", why=why, folder=str(self._folder), bytes=self.bytes)

    def _entries(self, segment: _Segment) -> Iterator[_Entry]:
        """Every whole record; a last one that was cut short is left out, as is any that was damaged."""
        offset = 0
        while offset < segment.size:
            header = os.pread(segment.descriptor, _HEADER.size, offset)
            length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else 0
            end = offset + _HEADER.size + length
            if not length or end > segment.size:
                _log.warning("spool_end_cut_short", file=segment.path.name, bytes=segment.size - offset)
                self.unreadable += 1
                return
            record = os.pread(segment.descriptor, end - offset, offset)
            try:
                yield _entry_of(record, offset)
            except (ValueError, TypeError, KeyError) as error:
                _log.error("spool_record_unreadable", file=segment.path.name, offset=offset, cause=repr(error))
                self.unreadable += 1
            offset = end


def sync_and_close(descriptor: int) -> None:
    """Wait until what was written is on the disk."""
    try:
        os.fdatasync(descriptor)
    except OSError as error:
        _log.error("spool_sync_failed", why=str(error))
    finally:
        os.close(descriptor)


def _checksum(*parts: bytes) -> bytes:
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value.to_bytes(4, "little")


def _body_of(record: bytes) -> tuple[bytes, int]:
    """A record's body and the length of its JSON; ValueError where it is damaged."""
    _, text_bytes, _ = _HEADER.unpack_from(record)
    body = record[_HEADER.size :]
    if _checksum(record[: _LENGTHS.size], body) != record[_LENGTHS.size : _HEADER.size]:
        raise ValueError("its checksum is wrong")
    return body, text_bytes


def _entry_of(record: bytes, offset: int) -> _Entry:
    body, text_bytes = _body_of(record)
    document = orjson.loads(body[:text_bytes])
    deleted = "deleted" in document
    about = document if deleted else document["row"]
    number = UUID(document["deleted"] if deleted else about["id"])
    return _Entry(id=number, deleted=deleted, key_id=about["key_id"], offset=offset, length=len(record))


def _row_of(document: dict[str, Any], blob: bytes) -> PredictionRow:
    values = {name: value for name, value in document["row"].items() if name in _NAMES}  # another version may have more
    values["id"] = UUID(values["id"])
    values["created_at"] = datetime.fromisoformat(values["created_at"])
    return PredictionRow(**values, input_blob=blob if document["has_input"] else None)


def _write(segment: _Segment, record: bytes) -> None:
    """Write behind the last whole record; what a full disk took of it is taken back."""
    view, offset = memoryview(record), segment.size
    try:
        while view:
            written = os.pwrite(segment.descriptor, view, offset)
            view, offset = view[written:], offset + written
    except OSError:
        os.ftruncate(segment.descriptor, segment.size)
        raise


def _lock_existing(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    return descriptor if _lock(descriptor) else None


def _lock(descriptor: int) -> bool:
    """Take a segment's lock; where another has it, or had it and ended the segment, the descriptor is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError:
        os.close(descriptor)
        raise
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
