"""One service for every test that needs no settings of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import Service, fresh_service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service on SQLite and the in-process cache, as it runs on a laptop; started as its users start it."""
    with fresh_service(tmp_path_factory.mktemp("service"), log_level="debug", model_process=1) as service:
        yield service


@pytest.fixture(scope="session")
def examples(repository: Path) -> Path:
    return repository / "examples"
