"""A segment's records: what is damaged is reported, what a full disk took is taken back, a lock is one process's."""

import os
import resource
import uuid
from pathlib import Path

import pytest
from log_rows import make_row

from app.storage.segments import (
    Segment,
    deletion_record,
    lock,
    lock_existing,
    read_entries,
    read_row,
    row_record,
    write,
)


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    path = tmp_path / "one.spool"
    return Segment(path=path, descriptor=os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def written(segment: Segment, *records: bytes) -> Segment:
    for record in records:
        write(segment, record)
        segment.size += len(record)
    return segment


def test_rows_and_deletions_come_back_in_their_order(segment: Segment) -> None:
    one, other, key = make_row(), make_row(), "key"
    records = row_record(one), deletion_record(other.id, key)
    entries, unreadable = read_entries(written(segment, *records))
    assert [(entry.id, entry.deleted, entry.offset) for entry in entries] == [
        (one.id, False, 0),
        (other.id, True, len(records[0])),
    ]
    assert entries[1].key_id == key
    assert unreadable == 0
    assert read_row(segment, 0, entries[0].length) == one


def test_a_damaged_record_is_counted_and_the_next_is_read(segment: Segment) -> None:
    first, second = make_row(), make_row()
    record = bytearray(row_record(first))
    record[-1] ^= 1
    entries, unreadable = read_entries(written(segment, bytes(record), row_record(second)))
    assert [entry.id for entry in entries] == [second.id]
    assert unreadable == 1
    with pytest.raises(ValueError, match="checksum"):
        read_row(segment, 0, len(record))


def test_a_last_record_that_was_cut_short_is_counted(segment: Segment) -> None:
    whole = make_row()
    entries, unreadable = read_entries(written(segment, row_record(whole), row_record(make_row())[:-3]))
    assert [entry.id for entry in entries] == [whole.id]
    assert unreadable == 1


def test_what_a_full_disk_took_of_a_record_is_taken_back(segment: Segment) -> None:
    whole = row_record(make_row())
    written(segment, whole)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 9, limits[1]))  # nine bytes, then the system refuses
    try:
        with pytest.raises(OSError, match="too large"):
            write(segment, row_record(make_row()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert segment.path.stat().st_size == len(whole)


def test_a_segment_has_one_owner_and_one_that_ended_has_none(segment: Segment, tmp_path: Path) -> None:
    assert lock(segment.descriptor)
    assert lock_existing(segment.path) is None
    os.close(segment.descriptor)
    taken = lock_existing(segment.path)
    assert taken is not None
    segment.path.unlink()
    again = os.dup(taken)
    assert not lock(again)  # its name is gone: its holder ended it
    os.close(taken)
    assert lock_existing(tmp_path / f"{uuid.uuid4()}.spool") is None
