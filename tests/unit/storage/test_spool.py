"""The spool: what was put there is there again, whatever happened to the process, the file or the disk."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import log_rows
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.settings import Settings
from app.storage.rows import PredictionRow
from app.storage.segments import sync_and_close
from app.storage.spool import Spool, open_spool

MIB = 2**20


def make_row(**changes: Any) -> PredictionRow:
    """A row whose every kind of value must survive the disk."""
    odd = {"answer": {"barrier_ev": 0.3, "warnings": ["Å"]}, "input_blob": os.urandom(300), "threshold_ev": 0.65}
    return log_rows.make_row(**odd | {"barrier_ev": 0.1 + 0.2, "seconds": 0.02} | changes)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool", most_bytes=MIB)
    yield spool
    spool.close()


def files(spool: Spool) -> list[Path]:
    return sorted(spool.folder.glob("*.spool"))


def take_over(spool: Spool) -> tuple[list[PredictionRow | None], dict[Any, Any]]:
    found = [spool.adopt(orphan) for orphan in spool.find_orphans()]
    rows = [spool.get(number) for each in found for number in each.rows]
    return rows, {number: key for each in found for number, key in each.deleted.items()}


def test_a_row_comes_back_as_it_was(spool: Spool) -> None:
    rows = [make_row(), make_row(input_blob=None, answer=None, status="failed", error={"kind": "x"}), make_row()]
    for row in rows:
        assert spool.put(row)
    assert [spool.get(row.id) for row in rows] == rows
    assert spool.get(uuid4()) is None
    assert len(spool) == 3


def test_what_the_database_has_takes_no_room(spool: Spool) -> None:
    rows = [make_row() for _ in range(50)]
    for row in rows:
        spool.put(row)
    assert spool.bytes == sum(path.stat().st_size for path in files(spool)) > 0
    for row in rows:
        spool.done(row.id)
    assert (len(spool), spool.bytes) == (0, 0)
    assert sum(path.stat().st_size for path in files(spool)) == 0
    assert spool.put(rows[0])
    assert spool.get(rows[0].id) == rows[0]


def test_a_full_segment_is_followed_by_another_and_ends_with_its_last_row(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=40_000)
    rows = [make_row(input_blob=os.urandom(3_000)) for _ in range(8)]
    assert all(spool.put(row) for row in rows)
    assert len(files(spool)) > 2
    for row in rows[:-1]:
        spool.done(row.id)
    assert len(files(spool)) == 1
    assert spool.get(rows[-1].id) == rows[-1]
    assert spool.bytes == files(spool)[0].stat().st_size
    spool.close()


def test_a_row_past_the_limit_is_refused_and_room_comes_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=10_000)
    rows = [make_row(input_blob=os.urandom(3_000)) for _ in range(4)]
    with capture_logs() as lines:
        assert [spool.put(row) for row in rows] == [True, True, False, False]
    assert [line["event"] for line in lines] == ["spool_refuses"], "said once"
    assert "IONPATH_SPOOL_MIB" in lines[0]["why"]
    assert spool.is_full
    assert spool.put_deleted(rows[0].id, "alice"), "that a row was deleted is always taken"
    for row in rows[:2]:
        spool.done(row.id)
    assert spool.put(rows[2])
    assert not spool.is_full
    spool.close()


def test_another_process_takes_over_what_a_closed_one_left(tmp_path: Path) -> None:
    first = Spool(tmp_path, most_bytes=MIB)
    running = make_row(status="running", answer=None)
    rows = [running, make_row(), make_row()]
    for row in rows:
        first.put(row)
    done = replace(running, status="done", answer={"barrier_ev": 1})
    first.put(done)
    first.put_deleted(rows[1].id, "alice")
    second = Spool(tmp_path, most_bytes=MIB)
    assert take_over(second) == ([], {}), "the first one lives"
    first.close()
    found, deleted = take_over(second)
    assert sorted(row.id for row in found if row) == sorted([done.id, rows[2].id])
    assert done in found
    assert deleted == {rows[1].id: "alice"}
    for row in rows:
        second.done(row.id)
    assert len(files(second)) == 1, "its own"
    second.close()
    assert files(second) == []


def test_a_killed_process_leaves_every_row_that_it_put(tmp_path: Path) -> None:
    script = f"""
import os, signal
from test_spool import make_row, Spool, MIB
from pathlib import Path
spool = Spool(Path({str(tmp_path)!r}), most_bytes=MIB)
for number in range(40):
    spool.put(make_row(formula=str(number)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {
        "PYTHONPATH": f"{Path(__file__).parent}:{Path(log_rows.__file__).parent}:{os.environ.get('PYTHONPATH', '')}"
    }
    ended = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert ended.returncode == -9
    spool = Spool(tmp_path, most_bytes=MIB)
    found, _ = take_over(spool)
    assert [row.formula for row in found if row] == [str(number) for number in range(40)]
    spool.close()


@pytest.mark.parametrize("cut", [1, 200, 700])
def test_a_last_record_that_was_cut_short_is_left_out_and_reported(tmp_path: Path, cut: int) -> None:
    first = Spool(tmp_path, most_bytes=MIB)
    rows = [make_row() for _ in range(3)]
    for row in rows:
        first.put(row)
    first.close()
    (path,) = files(first)
    os.truncate(path, path.stat().st_size - cut)
    second = Spool(tmp_path, most_bytes=MIB)
    with capture_logs() as lines:
        assert take_over(second)[0] == rows[:2]
    assert [line["event"] for line in lines] == ["spool_end_cut_short"]
    assert second.unreadable == 1
    second.close()


def test_zeros_at_the_end_are_no_record(tmp_path: Path) -> None:
    first = Spool(tmp_path, most_bytes=MIB)
    row = make_row()
    first.put(row)
    first.close()
    (path,) = files(first)
    os.truncate(path, path.stat().st_size + 4096)  # as a power cut leaves a file that had grown
    second = Spool(tmp_path, most_bytes=MIB)
    assert take_over(second)[0] == [row]
    second.close()


def test_a_damaged_record_costs_none_of_the_others(tmp_path: Path) -> None:
    first = Spool(tmp_path, most_bytes=MIB)
    rows = [make_row() for _ in range(3)]
    for row in rows:
        first.put(row)
    first.close()
    (path,) = files(first)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    second = Spool(tmp_path, most_bytes=MIB)
    with capture_logs() as lines:
        assert take_over(second)[0] == [rows[0], rows[2]]
    assert [line["event"] for line in lines] == ["spool_record_unreadable"]
    second.close()


def test_a_full_disk_refuses_the_row_and_harms_no_other(tmp_path: Path) -> None:
    spool = Spool(tmp_path, most_bytes=MIB)
    kept, lost = make_row(), make_row(input_blob=os.urandom(60_000))
    assert spool.put(kept)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # Python ignores SIGXFSZ: the write fails
    try:
        assert not spool.put(lost)
        assert spool.is_full
        assert spool.put(make_row())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert spool.get(kept.id) == kept
    assert spool.bytes == files(spool)[0].stat().st_size
    assert len(spool) == 2
    spool.close()


def test_only_what_is_still_to_be_written_is_brought_to_the_disk(spool: Spool) -> None:
    rows = [make_row() for _ in range(3)]
    for row in rows:
        spool.put(row)
    (descriptor,) = spool.unsynced()
    sync_and_close([descriptor])
    assert spool.unsynced() == []
    spool.put(rows[0])
    for row in rows:
        spool.done(row.id)
    assert spool.unsynced() == []


def test_only_its_owner_may_read_it(spool: Spool) -> None:
    assert spool.folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in files(spool))


def test_each_database_has_a_spool_of_its_own_and_its_password_is_not_in_the_name(tmp_path: Path) -> None:
    def folder(url: str) -> Path:
        spool = open_spool(Settings(database_url=SecretStr(url), spool_dir=tmp_path))
        assert spool is not None
        spool.close()
        return spool.folder

    one = folder("postgresql+psycopg://user:old@host/one")
    assert folder("postgresql+psycopg://user:new@host/one") == one
    assert folder("postgresql+psycopg://user:old@host/two") != one
    assert open_spool(Settings(spool_dir=None)) is None


def test_an_empty_folder_name_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IONPATH_SPOOL_DIR", "")
    assert open_spool(Settings()) is None


def left_by(folder: Path, *steps: Callable[[Spool], object]) -> None:
    """What a process left that was killed, each step in a segment of its own."""
    spool = Spool(folder, most_bytes=MIB)
    segments = []
    for step in steps:
        spool._active = spool._new_segment()
        segments.append(spool._active)
        step(spool)
        # What a newer record makes idle would be ended; here it stays, as if the process had been killed before that.
        for segment in segments:
            segment.live.add(uuid4())
    for segment in segments:
        os.close(segment.descriptor)


def test_the_last_record_of_an_id_counts_in_whatever_segment_it_is(tmp_path: Path) -> None:
    job, gone, other = make_row(status="queued", answer=None), make_row(), make_row()
    done = replace(job, status="done", answer={"barrier_ev": 1})
    left_by(
        tmp_path,
        lambda spool: [spool.put(row) for row in (job, gone, other)],
        lambda spool: [spool.put(done), spool.put_deleted(gone.id, "alice")],
    )
    spool = Spool(tmp_path, most_bytes=MIB)
    found, deleted = take_over(spool)
    assert sorted(row.id for row in found if row) == sorted([job.id, other.id])
    assert done in found
    assert deleted == {gone.id: "alice"}
    spool.close()


def test_a_deletion_that_another_process_left_counts_above_a_row_that_is_here(tmp_path: Path) -> None:
    row = make_row()
    mine = Spool(tmp_path, most_bytes=MIB)
    mine.put(row)
    left_by(tmp_path, lambda spool: spool.put_deleted(row.id, "alice"))
    assert take_over(mine) == ([], {row.id: "alice"})
    mine.done(row.id)
    assert row.id not in mine
    mine.close()


def test_a_file_that_cannot_be_opened_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    row = make_row()
    left_by(tmp_path, lambda spool: spool.put(row))
    for name in ("0-first.spool", "9-last.spool"):
        (tmp_path / name).mkdir()
    spool = Spool(tmp_path, most_bytes=MIB)
    with capture_logs() as logs:
        assert take_over(spool) == ([row], {})
    assert [entry["event"] for entry in logs].count("spool_unreadable") == 2
    spool.close()


def test_a_segment_that_no_descriptor_is_left_for_is_brought_to_the_disk_later(spool: Spool) -> None:
    spool.put(make_row())
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        assert spool.unsynced() == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    (descriptor,) = spool.unsynced()
    sync_and_close([descriptor])


def test_databases_that_only_the_query_tells_apart_have_spools_of_their_own(tmp_path: Path) -> None:
    urls = [f"postgresql+psycopg://me@/log?host={host}&connect_timeout=3" for host in ("/run/a", "/run/b")]
    folders = set()
    for url in urls:
        spool = open_spool(Settings(spool_dir=tmp_path, database_url=SecretStr(url)))
        assert spool is not None
        folders.add(spool.folder)
        spool.close()
    assert len(folders) == 2
