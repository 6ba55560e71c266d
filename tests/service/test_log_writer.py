"""The log's writer: never in the way of a request, never without a row that it took, honest where it must be."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from log_rows import DEADLINE_S, make_row
from pydantic import SecretStr
from sqlalchemy import make_url
from waiting import until

from app.errors import NotReadyError
from app.settings import Settings
from app.storage.held import bytes_of
from app.storage.log import PredictionLog
from app.storage.migrate import migrate
from app.storage.writer import LogWriter, open_writer

pytestmark = pytest.mark.anyio


@contextmanager
def sqlite_outage(path: Path) -> Generator[None, None, None]:
    """Rename the table away: to the log, the database is there but of no use."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE predictions RENAME TO away")
        try:
            yield
        finally:
            connection.execute("ALTER TABLE away RENAME TO predictions")


@contextmanager
def sqlite_lock(path: Path) -> Generator[None, None, None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def postgres_lock(url: str) -> Generator[None, None, None]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        connection.execute("LOCK TABLE predictions IN EXCLUSIVE MODE")
        yield
        connection.rollback()


Context = Callable[[], AbstractContextManager[None]]


class Database:
    """A migrated database, how to take it away, and how to hold up what writes to it."""

    def __init__(self, url: str, *, outage: Context, lock: Context) -> None:
        self.url = url
        self.outage = outage
        self.lock = lock


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        path = tmp_path / "log.sqlite3"
        url = f"sqlite+aiosqlite:///{path}"
        migrate(url)
        return Database(url, outage=lambda: sqlite_outage(path), lock=lambda: sqlite_lock(path))
    url = request.getfixturevalue("new_postgres_database")()
    outage: Callable[[str], AbstractContextManager[None]] = request.getfixturevalue("postgres_outage")
    migrate(url)
    return Database(url, outage=lambda: outage(url), lock=lambda: postgres_lock(url))


@pytest.fixture
async def log(database: Database) -> AsyncIterator[PredictionLog]:
    log = PredictionLog.open(database.url)
    yield log
    await log.aclose()


@pytest.fixture
async def writer(log: PredictionLog) -> AsyncIterator[LogWriter]:
    writer = LogWriter(log, batch_rows=16, batch_wait_ms=5.0, queue_rows=64, queue_bytes=2**30)
    writer.start()
    yield writer
    await writer.aclose(timeout_s=DEADLINE_S)


async def test_rows_are_found_at_once_and_then_in_the_database(writer: LogWriter, log: PredictionLog) -> None:
    rows = [make_row() for _ in range(40)]
    for row in rows:
        assert writer.put(row)
        assert writer.pending(row.id, "alice") is row
        assert writer.pending(row.id, "bob") is None
        assert await writer.get(row.id, "alice") == row
        assert await writer.get(row.id, "bob") is None
    await until(lambda: writer.backlog == 0)
    assert writer.written == 40
    for row in rows:
        assert writer.pending(row.id, "alice") is None
        assert await log.get(row.id, "alice") == row
        assert await writer.get(row.id, "alice") == row


async def test_a_full_batch_does_not_wait(log: PredictionLog) -> None:
    writer = LogWriter(log, batch_rows=4, batch_wait_ms=3_600_000.0, queue_rows=64, queue_bytes=2**30)
    writer.start()
    for _ in range(4):
        writer.put(make_row())
    await until(lambda: writer.written == 4)
    writer.put(make_row())  # alone: it waits for others, until the service stops
    assert await writer.drain(DEADLINE_S) == 0
    assert writer.written == 5
    await writer.aclose()


async def test_the_newest_status_is_the_one_written(writer: LogWriter, log: PredictionLog) -> None:
    queued = make_row(status="queued", answer=None)
    done = make_row(id=queued.id)
    writer.put(queued)
    writer.put(done)
    assert writer.pending(queued.id, "alice") is done
    assert await writer.drain(DEADLINE_S) == 0
    assert await log.get(queued.id, "alice") == done


async def test_rows_wait_for_a_database_that_is_away(writer: LogWriter, log: PredictionLog, database: Database) -> None:
    rows = [make_row() for _ in range(20)]
    later = make_row(status="running")
    with database.outage():
        for row in (*rows, later):
            writer.put(row)
        await until(lambda: writer.failures >= 2)
        writer.put(replace(later, status="done"))
        await until(lambda: writer.failures >= 3)
        assert writer.backlog == 21
        assert await writer.get(rows[0].id, "alice") == rows[0]
        with pytest.raises(NotReadyError):
            await writer.get(uuid4(), "alice")
        writer.check()
    await until(lambda: writer.backlog == 0)
    assert writer.written == 21
    assert writer.dropped == 0
    found = await log.get(later.id, "alice")
    assert found is not None
    assert found.status == "done"
    assert [await log.get(row.id, "alice") for row in rows] == rows


async def test_what_does_not_fit_is_counted_and_reported(writer: LogWriter, database: Database) -> None:
    with database.outage():
        rows = [make_row() for _ in range(70)]
        taken = [writer.put(row) for row in rows]
        assert taken == [True] * 64 + [False] * 6
        assert writer.put(replace(rows[0], status="done"))  # its place is its own
        assert writer.dropped == 6
        with pytest.raises(NotReadyError, match="IONPATH_LOG_QUEUE_ROWS"):
            writer.check()
    await until(lambda: writer.backlog == 0)
    writer.check()
    assert writer.written == 64


async def test_rows_that_take_too_much_memory_do_not_fit(log: PredictionLog, database: Database) -> None:
    large = make_row(input_blob=bytes(100_000))
    writer = LogWriter(log, batch_rows=16, batch_wait_ms=5.0, queue_rows=64, queue_bytes=2 * bytes_of(large))
    writer.start()
    with database.outage():
        rows = [replace(large, id=uuid4()) for _ in range(3)]
        assert [writer.put(row) for row in rows] == [True, True, False]
        await until(lambda: writer.failures >= 2)  # they went to be written and came back
        assert not writer.put(rows[2])
        assert await writer.delete(rows[0].id, "alice")
        assert writer.put(rows[2])
        with pytest.raises(NotReadyError, match="IONPATH_LOG_QUEUE_MIB"):
            writer.check()
    await until(lambda: writer.backlog == 0)
    assert [writer.put(replace(large, id=uuid4())) for _ in range(2)] == [True, True], "its room was not given back"
    await writer.aclose(timeout_s=DEADLINE_S)


async def test_one_row_that_cannot_be_written_does_not_hold_up_the_others(
    writer: LogWriter, log: PredictionLog
) -> None:
    rows = [make_row() for _ in range(10)]
    bad = make_row(answer={"structure": object()})
    for row in (*rows[:5], bad, *rows[5:]):
        writer.put(row)
    assert await writer.drain(DEADLINE_S) == 0
    assert (writer.written, writer.dropped) == (10, 1)
    assert len((await log.list("alice")).rows) == 10


async def test_a_row_deleted_before_it_is_written_is_gone_for_good(writer: LogWriter, log: PredictionLog) -> None:
    row = make_row(status="running")
    writer.put(row)
    assert not await writer.delete(row.id, "bob")
    assert await writer.delete(row.id, "alice")
    assert not await writer.delete(row.id, "alice")
    assert await writer.get(row.id, "alice") is None
    writer.put(replace(row, status="done"))
    assert await writer.drain(DEADLINE_S) == 0
    writer.put(replace(row, status="done"))  # the job did not hear of it
    assert await writer.drain(DEADLINE_S) == 0
    assert await writer.get(row.id, "alice") is None
    assert (await log.list("alice")).rows == ()


async def test_a_row_deleted_while_it_is_being_written_is_gone_for_good(
    writer: LogWriter, log: PredictionLog, database: Database
) -> None:
    rows = [make_row() for _ in range(3)]
    with database.lock():
        for row in rows:
            writer.put(row)
        await until(lambda: len(writer._writing) == 3)
        assert await writer.get(rows[0].id, "alice") == rows[0]
        assert await writer.delete(rows[1].id, "alice")
        assert await writer.get(rows[1].id, "alice") is None
    assert await writer.drain(DEADLINE_S) == 0
    assert {row.id for row in (await log.list("alice")).rows} == {rows[0].id, rows[2].id}


async def test_a_written_row_is_deleted_in_the_database(writer: LogWriter, log: PredictionLog) -> None:
    row = make_row()
    await log.insert_many([row])
    assert not await writer.delete(row.id, "bob")
    assert await writer.delete(row.id, "alice")
    assert await writer.get(row.id, "alice") is None
    assert not await writer.delete(uuid4(), "alice")


async def test_a_row_that_another_replica_still_holds_can_be_deleted(writer: LogWriter, log: PredictionLog) -> None:
    theirs = make_row()
    assert await writer.delete(theirs.id, "alice", known=True)
    assert await writer.drain(DEADLINE_S) == 0
    await log.insert_many([theirs])
    assert await log.get(theirs.id, "alice") is None


async def test_stopping_writes_what_waits_and_counts_what_it_cannot(log: PredictionLog, database: Database) -> None:
    writer = LogWriter(log, batch_rows=16, batch_wait_ms=3_600_000.0, queue_rows=64, queue_bytes=2**30)
    with pytest.raises(NotReadyError, match="does not run"):
        writer.check()
    writer.start()
    writer.put(make_row())
    await writer.aclose(timeout_s=DEADLINE_S)
    assert (writer.written, writer.dropped) == (1, 0)
    with pytest.raises(NotReadyError, match="does not run"):
        writer.check()

    writer = LogWriter(log, batch_rows=16, batch_wait_ms=1.0, queue_rows=64, queue_bytes=2**30)
    writer.start()
    with database.outage():
        writer.put(make_row())
        assert await writer.drain(0.3) == 1
        await writer.aclose()
    assert (writer.written, writer.dropped) == (0, 1)


async def test_a_crash_of_the_loop_shows(
    writer: LogWriter, log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(_rows: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(log, "insert_many", crash)
    writer.put(make_row())

    def shows() -> bool:
        try:
            writer.check()
        except NotReadyError:
            return True
        return False

    await until(shows)
    monkeypatch.undo()
    await writer.aclose()


async def test_rows_past_their_retention_are_deleted(log: PredictionLog, database: Database) -> None:
    old, young = make_row(created_at=datetime.now(UTC) - timedelta(days=31)), make_row()
    await log.insert_many([old, young])
    settings = Settings(database_url=SecretStr(database.url), retention_days=30)
    writer = open_writer(settings, log)
    writer.start()

    async def gone() -> bool:
        return await log.get(old.id, "alice") is None

    await until(gone)
    assert await log.get(young.id, "alice") == young
    await writer.aclose()


async def test_a_newer_status_survives_the_failure_of_the_older_ones_batch(
    writer: LogWriter, log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = make_row(status="running", answer=None)
    done = make_row(id=running.id)
    begun, fail = asyncio.Event(), asyncio.Event()

    async def fail_when_asked(_rows: object) -> None:
        begun.set()
        await fail.wait()
        raise NotReadyError("the connection broke")

    monkeypatch.setattr(log, "insert_many", fail_when_asked)
    writer.put(running)
    await begun.wait()
    writer.put(done)
    assert writer.pending(running.id, "alice") is done
    monkeypatch.undo()
    fail.set()
    assert await writer.drain(DEADLINE_S) == 0
    assert await log.get(running.id, "alice") == done
    assert writer.written == 1
