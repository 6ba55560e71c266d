"""The servers that other tests lean on are there, real, and can fail on demand."""

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from sqlalchemy.engine import make_url


def _connect(url: str) -> psycopg.Connection[Any]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain)


def test_data_set_has_its_559_bands(data_rows: list[dict[str, object]]) -> None:
    assert len(data_rows) == 559
    assert {"ion", "lattice_angstrom", "host_species", "image_frac_coords"} <= set(data_rows[0])


def test_postgres_is_version_18_and_empty(postgres_url: str) -> None:
    with _connect(postgres_url) as connection:
        assert connection.info.server_version // 10_000 == 18


def test_postgres_databases_are_separate_and_can_go_away(
    new_postgres_database: Callable[[], str],
    postgres_outage: Callable[[str], AbstractContextManager[None]],
    postgres_url: str,
) -> None:
    url = new_postgres_database()
    assert url != postgres_url
    with postgres_outage(url), pytest.raises(psycopg.OperationalError, match="not currently accepting"):
        _connect(url)
    with _connect(url):
        pass


def test_redis_answers(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.ping()


def test_redis_of_its_own_stops_and_starts_on_the_same_port(own_redis: Any) -> None:
    url = own_redis.url
    own_redis.stop()
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    own_redis.start()
    with redis.Redis.from_url(url) as client:
        assert client.ping()


def test_free_port_can_be_bound(free_port: Callable[[], int]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


def test_repository_is_the_root(repository: Path) -> None:
    assert (repository / "pyproject.toml").is_file()
