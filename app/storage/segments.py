"""Segments of the spool: append-only files of records.

A segment is a sequence of records:

    length of the body, length of its JSON, CRC-32 of both lengths and the body (three little-endian 32-bit numbers)
    the body: JSON, then the row's compressed input unchanged

A segment belongs to the process that holds its lock (flock), which the system releases when the process ends in any
way.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import structlog

from app.storage.rows import PredictionRow, write_json

_HEADER = struct.Struct("<III")
_LENGTHS = struct.Struct("<II")
_NAMES = frozenset(field.name for field in fields(PredictionRow))

_sync = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter

_log = structlog.get_logger(__name__)


@dataclass(kw_only=True, eq=False)
class Segment:
    """A file locked by this process, and the ids whose last record is in it."""

    path: Path
    descriptor: int
    size: int = 0
    live: set[UUID] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One record of a segment: a row, or the deletion of a prediction."""

    id: UUID
    deleted: bool
    key_id: str | None
    offset: int
    length: int


def row_record(row: PredictionRow) -> bytes:
    """Encode a row as a record.

    Raises:
        TypeError: a value cannot be written as JSON.
    """
    document = {name: getattr(row, name) for name in _NAMES if name != "input_blob"}
    return _record({"row": document, "has_input": row.input_blob is not None}, row.input_blob or b"")


def deletion_record(prediction_id: UUID, key_id: str | None) -> bytes:
    """Encode the deletion of a prediction as a record."""
    return _record({"deleted": prediction_id, "key_id": key_id}, b"")


def _record(document: dict[str, object], blob: bytes) -> bytes:
    text = write_json(document)
    lengths = _LENGTHS.pack(len(text) + len(blob), len(text))
    return b"".join((lengths, _checksum(lengths, text, blob), text, blob))


def read_row(segment: Segment, offset: int, length: int) -> PredictionRow:
    """Read the row of a record.

    Raises:
        OSError: the file cannot be read.
        ValueError, TypeError, KeyError, struct.error: the record is damaged.
    """
    body, text_bytes = _body_of(os.pread(segment.descriptor, length, offset))
    return _row_of(orjson.loads(body[:text_bytes]), body[text_bytes:])


def read_entries(segment: Segment) -> tuple[tuple[Entry, ...], int]:
    """All intact records, and the number of skipped ones: damaged records, and a truncated last one.

    Raises:
        OSError: the file cannot be read.
    """
    entries: list[Entry] = []
    unreadable = offset = 0
    while offset < segment.size:
        header = os.pread(segment.descriptor, _HEADER.size, offset)
        length = _HEADER.unpack(header)[0] if len(header) == _HEADER.size else 0
        end = offset + _HEADER.size + length
        if not length or end > segment.size:
            _log.warning("spool_end_cut_short", file=segment.path.name, bytes=segment.size - offset)
            return tuple(entries), unreadable + 1
        record = os.pread(segment.descriptor, end - offset, offset)
        try:
            entries.append(_entry_of(record, offset))
        except (ValueError, TypeError, KeyError) as error:
            _log.error("spool_record_unreadable", file=segment.path.name, offset=offset, cause=repr(error))
            unreadable += 1
        offset = end
    return tuple(entries), unreadable


def sync_and_close(descriptors: Iterable[int]) -> None:
    """Flush files to disk and close them."""
    for descriptor in descriptors:
        try:
            _sync(descriptor)
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
    """A record's body and the length of its JSON; ValueError if it is damaged."""
    _, text_bytes, _ = _HEADER.unpack_from(record)
    body = record[_HEADER.size :]
    if _checksum(record[: _LENGTHS.size], body) != record[_LENGTHS.size : _HEADER.size]:
        raise ValueError("its checksum is wrong")
    return body, text_bytes


def _entry_of(record: bytes, offset: int) -> Entry:
    body, text_bytes = _body_of(record)
    document = orjson.loads(body[:text_bytes])
    deleted = "deleted" in document
    about = document if deleted else document["row"]
    number = UUID(document["deleted"] if deleted else about["id"])
    return Entry(id=number, deleted=deleted, key_id=about["key_id"], offset=offset, length=len(record))


def _row_of(document: dict[str, Any], blob: bytes) -> PredictionRow:
    values = {name: value for name, value in document["row"].items() if name in _NAMES}  # another version may have more
    values["id"] = UUID(values["id"])
    values["created_at"] = datetime.fromisoformat(values["created_at"])
    return PredictionRow(**values, input_blob=blob if document["has_input"] else None)


def write(segment: Segment, record: bytes) -> None:
    """Append a record after the last intact one; a partial write on a full disk is undone."""
    view, offset = memoryview(record), segment.size
    try:
        while view:
            written = os.pwrite(segment.descriptor, view, offset)
            view, offset = view[written:], offset + written
    except OSError:
        os.ftruncate(segment.descriptor, segment.size)
        raise


def lock_existing(path: Path) -> int | None:
    """Open and lock a segment whose process has ended; None if another process has locked or removed it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    return descriptor if lock(descriptor) else None


def lock(descriptor: int) -> bool:
    """Lock a segment; if another process has locked or removed it, close the descriptor and return False."""
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


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
