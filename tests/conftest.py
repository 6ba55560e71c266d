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
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from benchmarks import stores
from benchmarks.stores import PostgresServer, RedisServer, running_postgres, running_redis

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


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return stores.free_port


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def new_postgres_database(postgres_server: PostgresServer) -> Callable[[], str]:
    return postgres_server.new_database


@pytest.fixture(scope="session")
def postgres_url(new_postgres_database: Callable[[], str]) -> str:
    return new_postgres_database()


@pytest.fixture(scope="session")
def postgres_outage(postgres_server: PostgresServer) -> Callable[[str], AbstractContextManager[None]]:
    return postgres_server.outage


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with running_redis() as server:
        yield server.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server
