"""The writer with its spool: what was put is in the database once, whatever was away or killed."""

import asyncio
import resource
import signal
import threading
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from api_server import Service, running_service
from log_rows import DEADLINE_S, logged, make_row
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs
from untrained import write_untrained
from waiting import until, wait_until

from app.errors import NotReadyError
from app.storage.engine import open_engine
from app.storage.log import PredictionLog
from app.storage.migrate import migrate
from app.storage.rows import PredictionRow
from app.storage.spool import Spool
from app.storage.writer import LogWriter

MIB = 2**20
CLIENTS = 4

Outage = Callable[[str], AbstractContextManager[None]]


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
def url(new_postgres_database: Callable[[], str]) -> str:
    url = new_postgres_database()
    migrate(url)
    return url


@pytest.fixture
async def log(url: str) -> AsyncIterator[PredictionLog]:
    log = PredictionLog.open(url)
    yield log
    await log.aclose()


def make_writer(
    log: PredictionLog,
    folder: Path,
    *,
    rows: int = 8,
    most_bytes: int = MIB,
    wait_ms: float = 1.0,
    sync_ms: float = 1000.0,
) -> LogWriter:
    writer = LogWriter(
        log,
        batch_rows=4,
        batch_wait_ms=wait_ms,
        queue_rows=rows,
        queue_bytes=2**30,
        spool=Spool(folder, most_bytes=most_bytes),
        spool_sync_ms=sync_ms,
    )
    writer.start()
    return writer


class CountingLog(PredictionLog):
    """The log, and how many rows each insert that went well had."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.sizes: list[int] = []

    async def insert_many(self, rows: Sequence[PredictionRow]) -> None:
        await super().insert_many(rows)
        self.sizes += [len(rows)] if rows else []


async def kill(writer: LogWriter) -> None:
    """End a writer as SIGKILL does: nothing is written any more, and only the kernel lets its locks go."""
    for task in writer._tasks:
        task.cancel()
    await asyncio.gather(*writer._tasks, return_exceptions=True)
    assert writer.spool is not None
    writer.spool.close()


@contextmanager
def occupied_threads() -> Generator[threading.Event]:
    """Give the event loop a single thread for its work, which is busy until the event is set, or the context ends."""
    only_thread = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(only_thread)
    go_on = threading.Event()
    only_thread.submit(go_on.wait)
    try:
        yield go_on
    finally:
        go_on.set()


def rows_left_to_others(folder: Path) -> list[int]:
    """How many rows each spool holds that another process could take over."""
    return [len(orphan.entries) for orphan in Spool(folder, most_bytes=MIB).find_orphans()]


@pytest.mark.anyio
class TestWriter:
    async def test_more_rows_than_memory_holds_wait_on_disk(
        self, log: PredictionLog, url: str, postgres_outage: Outage, tmp_path: Path
    ) -> None:
        writer = make_writer(log, tmp_path)
        running = make_row(status="running", answer=None)
        rows = [make_row() for _ in range(99)]
        with postgres_outage(url):
            assert all(writer.put(row) for row in (*rows, running))
            assert writer.backlog == 100
            writer.check()
            done = replace(running, status="done", answer={"barrier_ev": 1})
            assert writer.put(done)
            for row in (*rows, done):
                assert writer.pending(row.id, "alice") == row
                assert writer.pending(row.id, "bob") is None
            await until(lambda: writer.failures >= 2)
        await until(lambda: writer.backlog == 0)
        assert sorted(logged(url)) == sorted(row.id for row in (*rows, running))
        assert await log.get(running.id, "alice") == done
        assert (writer.dropped, writer.unspooled) == (0, 0)
        assert writer.spool is not None
        assert (len(writer.spool), writer.spool.bytes) == (0, 0)
        await writer.aclose(DEADLINE_S)

    async def test_rows_on_disk_are_written_in_batches_once_the_database_is_back(
        self, url: str, postgres_outage: Outage, tmp_path: Path
    ) -> None:
        log = CountingLog(open_engine(url))
        writer = make_writer(log, tmp_path)
        rows = [make_row() for _ in range(100)]  # with no more than eight in memory
        with postgres_outage(url):
            assert all(writer.put(row) for row in rows)
            await until(lambda: writer.failures >= 2)
        await until(lambda: writer.backlog == 0)
        assert sorted(logged(url)) == sorted(row.id for row in rows)
        assert log.sizes.count(4) >= 24, log.sizes
        await writer.aclose(DEADLINE_S)
        await log.aclose()

    async def test_a_deletion_that_the_spool_does_not_take_is_counted(
        self, log: PredictionLog, url: str, postgres_outage: Outage, tmp_path: Path
    ) -> None:
        writer = make_writer(log, tmp_path)
        row = make_row()
        with postgres_outage(url):
            writer.put(row)
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
            try:
                with capture_logs():  # standard output may be a file
                    assert await writer.delete(row.id, "alice")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
                signal.signal(signal.SIGXFSZ, handler)
            assert writer.unspooled == 1
        await until(lambda: writer.backlog == 0 and writer.pending(row.id, "alice") is None)
        await writer.drain(DEADLINE_S)
        assert logged(url) == []
        await writer.aclose(DEADLINE_S)

    async def test_what_a_killed_writer_had_is_written_by_the_next(
        self, log: PredictionLog, url: str, postgres_outage: Outage, tmp_path: Path
    ) -> None:
        first = make_writer(log, tmp_path)
        rows = [make_row() for _ in range(30)]
        for row in rows[:10]:
            first.put(row)
        await until(lambda: first.backlog == 0)
        with postgres_outage(url):
            for row in rows[10:]:
                first.put(row)
            await kill(first)
            second = make_writer(log, tmp_path)
            await until(lambda: second.adopted == 20)
            assert second.pending(rows[-1].id, "alice") == rows[-1]
        await until(lambda: second.backlog == 0)
        assert sorted(logged(url)) == sorted(row.id for row in rows)
        await second.aclose(DEADLINE_S)
        assert files(tmp_path) == []

    async def test_a_writer_that_ends_while_a_flush_waits_for_a_thread_leaves_its_spool_to_others(
        self, log: PredictionLog, url: str, postgres_outage: Outage, tmp_path: Path
    ) -> None:
        with occupied_threads() as go_on, postgres_outage(url):
            writer = make_writer(log, tmp_path, sync_ms=1.0)
            spool = writer.spool
            assert spool is not None
            writer.put(make_row())
            await until(lambda: len(spool) and not spool._unsynced)  # its duplicate waits for the thread
            ending = asyncio.create_task(kill(writer))
            for _ in range(9):  # the cancellation reaches the flush
                await asyncio.sleep(0)
            go_on.set()
            await ending
            assert rows_left_to_others(tmp_path) == [1]

    async def test_a_writer_that_ends_while_it_looks_for_orphans_leaves_them_to_others(
        self, log: PredictionLog, tmp_path: Path
    ) -> None:
        dead = Spool(tmp_path, most_bytes=MIB)
        dead.put(make_row())
        dead.close()
        with occupied_threads() as go_on:
            writer = make_writer(log, tmp_path)
            await asyncio.sleep(0)  # its search waits for the thread
            ending = asyncio.create_task(kill(writer))
            await asyncio.sleep(0)
            go_on.set()
            await ending
            assert rows_left_to_others(tmp_path) == [1]

    async def test_rows_written_before_the_kill_are_not_written_again(
        self, log: PredictionLog, url: str, tmp_path: Path
    ) -> None:
        first = make_writer(log, tmp_path, wait_ms=3_600_000.0)
        rows = [make_row() for _ in range(3)]
        for row in rows:
            first.put(row)
        await log.insert_many(rows)  # the database had them and the process was killed before it knew
        await log.delete(rows[0].id, "alice")  # by another replica
        await kill(first)
        second = make_writer(log, tmp_path)
        await until(lambda: second.adopted == 3 and second.backlog == 0)
        assert sorted(logged(url)) == sorted(row.id for row in rows[1:])
        await second.aclose(DEADLINE_S)

    async def test_a_row_deleted_while_it_waits_on_disk_is_gone_after_a_kill_too(
        self, log: PredictionLog, url: str, postgres_outage: Outage, tmp_path: Path
    ) -> None:
        first = make_writer(log, tmp_path)
        rows = [make_row() for _ in range(12)]
        with postgres_outage(url):
            for row in rows:
                first.put(row)
            for row in (rows[0], rows[-1]):
                with pytest.raises(NotReadyError):
                    await first.delete(row.id, "bob")
                assert await first.delete(row.id, "alice")
                assert first.pending(row.id, "alice") is None
            await kill(first)
            second = make_writer(log, tmp_path)
            await until(lambda: second.adopted == 10)
            assert second.pending(rows[0].id, "alice") is None
            second.put(rows[0])  # the job did not hear of it
        await until(lambda: second.backlog == 0)
        await second.drain(DEADLINE_S)
        assert sorted(logged(url)) == sorted(row.id for row in rows[1:-1])
        assert await log.get(rows[0].id, "alice") is None
        await second.aclose(DEADLINE_S)

    async def test_a_newer_status_put_while_the_older_is_being_written_survives_a_kill(
        self, log: PredictionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writer = make_writer(log, tmp_path)
        running = make_row(status="running", answer=None)
        done = replace(running, status="done", answer={"barrier_ev": 1})
        insert, begun, go_on = log.insert_many, asyncio.Event(), asyncio.Event()

        async def insert_slowly(rows: Any) -> None:
            begun.set()
            await go_on.wait()
            await insert(rows)

        monkeypatch.setattr(log, "insert_many", insert_slowly)
        writer.put(running)
        await begun.wait()
        writer.put(done)
        begun.clear()
        go_on.set()
        await begun.wait()  # the older one is written, the newer is not
        go_on.clear()
        await kill(writer)
        monkeypatch.undo()
        second = make_writer(log, tmp_path)
        await until(lambda: second.adopted == 1 and second.backlog == 0)
        assert await log.get(running.id, "alice") == done
        await second.aclose(DEADLINE_S)

    async def test_without_room_in_memory_or_on_disk_a_row_is_refused_and_counted(
        self, log: PredictionLog, url: str, postgres_outage: Outage, tmp_path: Path
    ) -> None:
        writer = make_writer(log, tmp_path, rows=2, most_bytes=3_000)
        with postgres_outage(url):
            taken = [writer.put(make_row()) for _ in range(20)]
            assert not all(taken)
            assert writer.dropped == taken.count(False)
            with pytest.raises(NotReadyError, match="IONPATH_SPOOL_MIB"):
                writer.check()
        await until(lambda: writer.backlog == 0)
        assert len(logged(url)) == taken.count(True)
        await writer.aclose(DEADLINE_S)

    async def test_stopping_while_the_database_is_away_loses_nothing(
        self, log: PredictionLog, url: str, postgres_outage: Outage, tmp_path: Path
    ) -> None:
        first = make_writer(log, tmp_path)
        with postgres_outage(url):
            for _ in range(20):
                first.put(make_row())
            await first.aclose(0.1)
        assert first.dropped == 0
        second = make_writer(log, tmp_path)
        await until(lambda: second.adopted == 20 and second.backlog == 0)
        assert len(logged(url)) == 20
        await second.aclose(DEADLINE_S)


# A running service


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store")
    write_untrained(store)
    return store


class Load:
    """Clients that send bands one after the other; those answered are kept."""

    def __init__(self, service: Service, rows: list[dict[str, Any]]) -> None:
        self.answered: list[str] = []
        self._url = service.url
        self._rows = rows
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._threads = ThreadPoolExecutor(CLIENTS)
        self._futures = [self._threads.submit(self._send, number) for number in range(CLIENTS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._threads.shutdown()
        for future in self._futures:
            future.result()

    def wait_for_more(self, count: int) -> None:
        wanted = len(self.answered) + count
        wait_until(lambda: len(self.answered) >= wanted)

    def _send(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=60.0) as client:
            while not self._stop.is_set():
                row = self._rows[(number + len(self.answered)) % len(self._rows)]
                try:
                    response = client.post("/predict/barrier", json=row)
                except httpx.TransportError:
                    return  # it was killed
                assert response.status_code == 200, response.text
                self.answered.append(response.json()["prediction_id"])


def test_every_answer_is_logged_once_through_an_outage_and_a_kill(
    url: str,
    store: Path,
    postgres_outage: Outage,
    composed_rows: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rows = composed_rows[:40]
    settings = {
        "database_url": url,
        "model_store": store,
        "spool_dir": tmp_path_factory.mktemp("spool"),
        "log_queue_rows": 10,
        "cache": "off",
        "torch_threads": 1,
    }
    answered: list[str] = []
    with running_service(tmp_path_factory.mktemp("run"), **settings) as service, Load(service, rows) as load:
        load.wait_for_more(20)
        with postgres_outage(url):
            load.wait_for_more(40)  # more than memory may hold
            assert service.client.get(f"/predictions/{load.answered[-1]}").status_code == 200
        load.wait_for_more(20)
        with postgres_outage(url):
            load.wait_for_more(40)
            service.process.send_signal(signal.SIGKILL)
            service.process.wait()
        answered += load.answered
    before = len(logged(url))
    assert before < len(answered), "the kill came too late to show anything"
    with running_service(tmp_path_factory.mktemp("run"), **settings) as service, Load(service, rows) as load:
        load.wait_for_more(20)
        service.process.send_signal(signal.SIGKILL)  # with the database there, in the midst of its batches
        service.process.wait()
        answered += load.answered
    with running_service(tmp_path_factory.mktemp("run"), **settings) as service:
        wait_until(
            lambda: set(answered) <= {str(number) for number in logged(url)},
            lambda: f"{len(logged(url))} of {len(answered)}",
        )
        page = service.client.get("/metrics").text
        assert "ionpath_log_rows_dropped_total 0.0" in page
        assert "ionpath_spool_records_unreadable_total 0.0" in page
    rows_logged = [str(number) for number in logged(url)]
    assert len(set(rows_logged)) == len(rows_logged)
    assert len(set(answered)) == len(answered)
    # What was being answered when the process was killed may be in the log without its client having heard of it.
    assert len(rows_logged) <= len(answered) + 2 * CLIENTS
