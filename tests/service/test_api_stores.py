"""The same contract on PostgreSQL and Redis: what one replica knows the next one finds."""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from api_server import STOP_TIMEOUT_S, Service, running_service
from sqlalchemy.engine import make_url
from waiting import wait_until


@pytest.fixture(scope="module")
def stores(new_postgres_database: Callable[[], str], redis_url: str, store: Path) -> dict[str, str]:
    slow = "10000"  # on a busy machine the cache may answer late, and is not to be skipped for it
    urls = {"database_url": new_postgres_database(), "redis_url": redis_url}
    return {**urls, "redis_timeout_ms": slow, "model_store": str(store)}


def logged(stores: dict[str, str]) -> set[str]:
    """Ids of every row that PostgreSQL holds."""
    url = make_url(stores["database_url"]).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        return {str(row[0]) for row in connection.execute("SELECT id FROM predictions")}


def wait_until_read(service: Service, requests: int) -> None:
    """Wait until the service has taken so many requests; it answers them later."""
    wanted = f'ionpath_stage_seconds_count{{stage="read"}} {requests:.1f}'
    wait_until(lambda: wanted in service.client.get("/metrics").text)


def test_replicas_share_cache_and_log(
    stores: dict[str, str], examples: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    band = (examples / "LiFePO4_band.json").read_bytes()
    frames = {"band": ("band.extxyz", (examples / "LiFePO4_band.extxyz").read_bytes())}
    json_headers = {"Content-Type": "application/json"}
    with (
        running_service(tmp_path_factory.mktemp("one"), **stores) as one,
        running_service(tmp_path_factory.mktemp("two"), **stores) as two,
    ):
        first = one.client.post("/predict/barrier", content=band, headers=json_headers).json()
        assert first["cached"] is False
        found = two.client.get(f"/predictions/{first['prediction_id']}")  # before or after its row is written
        assert found.json()["barrier_ev"] == first["barrier_ev"]
        second = two.client.post("/predict/barrier", files=frames).json()
        assert second["cached"] is True
        assert second["barrier_ev"] == first["barrier_ev"]
        rows = {first["prediction_id"], second["prediction_id"]}
        page = one.wait_for("/predictions", lambda page: len(page["predictions"]) == 2)
        assert {row["prediction_id"] for row in page["predictions"]} == rows
        assert one.client.delete(f"/predictions/{second['prediction_id']}").status_code == 204
        assert two.client.get(f"/predictions/{second['prediction_id']}").status_code == 404
    assert first["prediction_id"] in logged(stores)


def test_what_was_accepted_is_answered_after_sigterm(
    stores: dict[str, str], tmp_path: Path, composed_rows: list[dict[str, Any]]
) -> None:
    rows = composed_rows[:24]
    with running_service(tmp_path, **stores, cache="off") as service:

        def send(row: dict[str, Any]) -> httpx.Response:
            return httpx.post(f"{service.url}/predict/barrier", json=row, timeout=120.0)

        with ThreadPoolExecutor(len(rows)) as threads:
            futures = [threads.submit(send, row) for row in rows]
            wait_until_read(service, len(rows))
            service.process.send_signal(signal.SIGTERM)
            answers = [future.result() for future in futures]
        assert service.process.wait(STOP_TIMEOUT_S) == 0
    assert [answer.status_code for answer in answers] == [200] * len(rows)
    assert {answer.json()["prediction_id"] for answer in answers} <= logged(stores)
