"""Real servers and real data for the tests: a PostgreSQL, a Redis and the data set's bands.

    repository              the root of this repository
    data_dir, data_rows     the data set (IONPATH_DATA_DIR, by default ../shared/data), one dict a band
    composed_rows           64 such dicts, of bands in crystals that the tests compose: for tests of anything else
    store                   a model store with one untrained checkpoint: for tests that do not care what is answered
    cif_dir                 its experimental crystals, which `ionpath data download` does not bring
    a_third                 a callable that chooses one in three cases, as `one_third` does
    free_port               a callable that gives a free loopback port
    postgres_url            an empty database for the whole run, as IONPATH_DATABASE_URL takes it
    new_postgres_database   a callable that makes one more empty database and gives its URL
    postgres_outage         a callable: `with postgres_outage(url):` the database refuses everyone
    redis_url               a Redis for the whole run, as IONPATH_REDIS_URL takes it
    own_redis               a Redis of one test's own, which it may stop and start again

Asynchronous tests are marked `pytest.mark.anyio` and run on asyncio. `selection.py` says which tests run.
"""

import gzip
import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import structlog
from selection import (
    REPOSITORY,
    data_folder,
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
    third_of,
)

from benchmarks import stores
from benchmarks.stores import PostgresServer, RedisServer, running_postgres, running_redis

__all__ = [  # hooks, found by their names
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
]

KEPT_VARIABLES = ("IONPATH_DATA_DIR", "IONPATH_TEST_")


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive() -> None:
    """A shell starts what runs in its background with Ctrl-C ignored, and so would be every process of a test."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _default_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget the shell's own IONPATH_* settings: a test sets what it means. The spool stays out of the repository."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("IONPATH_") and not name.startswith(KEPT_VARIABLES):
                patch.delenv(name)
        patch.setenv("IONPATH_SPOOL_DIR", str(tmp_path_factory.getbasetemp() / "spool"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _faults_without_variables() -> None:
    """Log as the service does: the default prints each frame's variables, also those that a thread is changing."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def data_dir() -> Path:
    return data_folder()


@pytest.fixture(scope="session")
def cif_dir() -> Path:
    return data_folder() / "cifs"


@pytest.fixture(scope="session")
def case_dir() -> Path:
    """Small inputs of kinds that fail easily, beside the data set."""
    return data_folder().parent / "cases"


@pytest.fixture(scope="session")
def data_rows(data_dir: Path) -> list[dict[str, object]]:
    """Every band of the data set, in the file's order; not to be changed by a test."""
    with gzip.open(data_dir / "barriers" / "bands.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def composed_rows() -> list[dict[str, Any]]:
    """64 bands with the fields of the data set, all sound; not to be changed by a test."""
    import composed  # noqa: PLC0415 - pymatgen, which most tests do not need

    return list(islice(composed.composed_rows(), 64))


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store with an untrained checkpoint; not to be changed by a test."""
    import untrained  # noqa: PLC0415 - torch, which most tests do not need

    folder = tmp_path_factory.mktemp("store")
    untrained.write_untrained(folder)
    return folder


@pytest.fixture(scope="session")
def a_third(pytestconfig: pytest.Config) -> Callable[[Iterable[Any]], list[Any]]:
    return partial(third_of, pytestconfig)


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
