"""Faults of PostgreSQL that are no outage, and clients that do not behave: the others go on, and no row is lost."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from api_server import START_TIMEOUT_S, Service, running_service
from log_rows import logged, make_row
from sqlalchemy import make_url
from untrained import write_untrained
from waiting import until, wait_until

from app.errors import NotReadyError
from app.storage.log import PredictionLog
from app.storage.migrate import migrate
from app.storage.spool import Spool
from app.storage.writer import LogWriter

MIB = 2**20
SLOW_CLIENTS = 40


def plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What breaks a database, and what mends it, as SQL."""

    breaks: tuple[str, ...]
    mends: tuple[str, ...]


def execute(url: str, statements: tuple[str, ...]) -> None:
    with psycopg.connect(plain(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@asynccontextmanager
async def broken(url: str, fault: Fault) -> AsyncIterator[None]:
    # In a thread: a statement may wait for a lock that a task of this event loop holds.
    await asyncio.to_thread(execute, url, fault.breaks)
    try:
        yield
    finally:
        await asyncio.to_thread(execute, url, fault.mends)


def raising(name: str, words: str, code: str) -> Fault:
    """Every insert fails with this code of PostgreSQL's."""
    function = (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{words}' USING ERRCODE = '{code}'; END $$"
    )
    trigger = f"CREATE TRIGGER {name} BEFORE INSERT ON predictions FOR EACH ROW EXECUTE FUNCTION {name}()"
    return Fault(breaks=(function, trigger), mends=(f"DROP TRIGGER {name} ON predictions",))


FAULTS = {
    "its disk is full": raising("full_disk", "No space left on device", "53100"),
    "it is read-only": raising("read_only", "cannot execute INSERT in a read-only transaction", "25006"),
    "a migration is behind": Fault(
        breaks=("ALTER TABLE predictions DROP COLUMN seconds",),
        mends=("ALTER TABLE predictions ADD COLUMN seconds double precision",),
    ),
}


@pytest.fixture
def url(new_postgres_database: Callable[[], str]) -> str:
    url = new_postgres_database()
    migrate(url)
    return url


@pytest.fixture
async def writer(url: str, tmp_path: Path) -> AsyncIterator[LogWriter]:
    log = PredictionLog.open(url)
    writer = open_writer(log, tmp_path)
    yield writer
    await writer.aclose(START_TIMEOUT_S)
    await log.aclose()


def open_writer(log: PredictionLog, folder: Path) -> LogWriter:
    spool = Spool(folder, most_bytes=MIB)
    writer = LogWriter(log, batch_rows=4, batch_wait_ms=1.0, queue_rows=8, queue_bytes=2**30, spool=spool)
    writer.start()
    return writer


@pytest.mark.anyio
@pytest.mark.parametrize("fault", FAULTS)
async def test_rows_wait_until_the_database_takes_them_again(fault: str, url: str, writer: LogWriter) -> None:
    rows = [make_row() for _ in range(20)]
    writer.put(rows[0])
    await until(lambda: writer.backlog == 0)
    async with broken(url, FAULTS[fault]):
        for row in rows[1:]:
            assert writer.put(row)
        await until(lambda: writer.failures >= 2)
        assert writer.pending(rows[-1].id, "alice") == rows[-1]
    await until(lambda: writer.backlog == 0)
    assert sorted(logged(url)) == sorted(row.id for row in rows)
    assert writer.dropped == 0


@pytest.mark.anyio
async def test_rows_wait_until_the_database_has_a_connection_free(url: str, tmp_path: Path) -> None:
    role = f"only_{make_url(url).database}"
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1".encode())
        connection.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON predictions TO {role}".encode())
    limited = make_url(url).set(username=role).render_as_string(hide_password=False)
    log = PredictionLog.open(limited)
    rows = [make_row() for _ in range(20)]
    with psycopg.connect(plain(limited)):  # takes the one that there is
        with pytest.raises(NotReadyError):
            await log.ping()
        writer = open_writer(log, tmp_path)
        for row in rows:
            assert writer.put(row)
        await until(lambda: writer.failures >= 2)
    await until(lambda: writer.backlog == 0)
    assert sorted(logged(url)) == sorted(row.id for row in rows)
    await writer.aclose(START_TIMEOUT_S)
    await log.aclose()


# Clients


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("small")
    write_untrained(folder / "store")
    settings = {"model_store": folder / "store", "torch_threads": 1, "body_timeout_s": 5, "drain_timeout_s": 5}
    with running_service(folder, **settings) as service:
        yield service


@contextmanager
def clients(service: Service, count: int, request: bytes) -> Generator[list[socket.socket]]:
    url = httpx.URL(service.url)
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection((url.host, url.port or 0), timeout=60.0))
            connection.sendall(request)
            connections.append(connection)
        yield connections


def until_closed(connection: socket.socket) -> bytes:
    content = b""
    while more := connection.recv(65_536):
        content += more
    return content


def open_sockets(service: Service) -> int:
    """Count its sockets; its files are the log's, which opens a second connection when it is asked while it writes."""
    count = 0
    for descriptor in Path(f"/proc/{service.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since
            count += str(descriptor.readlink()).startswith("socket:")
    return count


def wait_until_sockets_are_closed(service: Service, before: int) -> None:
    wait_until(lambda: open_sockets(service) <= before + 2, lambda: (before, open_sockets(service)))


def test_clients_whose_body_does_not_come_are_sent_away(small: Service, composed_rows: list[dict[str, Any]]) -> None:
    head = b"POST /predict/barrier HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Content-Length: 999\r\n\r\n"
    before = open_sockets(small)
    with clients(small, SLOW_CLIENTS, head + b"{") as connections:
        answer = small.client.post("/predict/barrier", json=composed_rows[0])
        assert answer.status_code == 200
        for connection in connections:
            connection.sendall(b" ")  # one more byte, and no end
        for connection in connections:
            reply = until_closed(connection)
            assert reply.startswith(b"HTTP/1.1 408"), reply
            assert b"IONPATH_BODY_TIMEOUT_S" in reply
    wait_until_sockets_are_closed(small, before)


def test_clients_that_never_read_hold_up_nobody(small: Service, composed_rows: list[dict[str, Any]]) -> None:
    before = open_sockets(small)
    page = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with clients(small, SLOW_CLIENTS, page * 200):  # tens of megabytes of replies, none taken
        for row in composed_rows[1:4]:
            answer = small.client.post("/predict/barrier", json=row)
            assert answer.status_code == 200, answer.text
        ready = small.client.get("/health/ready")
        assert ready.status_code == 200, ready.text
    wait_until_sockets_are_closed(small, before)
    assert "Traceback" not in small.log, small.log[small.log.index("Traceback") :][:3000]
