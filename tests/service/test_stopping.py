"""A service that stops reports it to the proxy in advance; requests that exceed the drain limit get 503."""

import os
import signal
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
from api_server import STOP_TIMEOUT_S, Service, running_service
from waiting import wait_until

from benchmarks.servers import family

DEADLINE_S = 60.0


@contextmanager
def suspended(service: Service) -> Generator[None]:
    """Every process that reads, prepares or predicts for it stands still: what it is at takes for ever."""
    workers = family(service.process.pid).keys() - {service.process.pid}
    assert workers
    try:
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        yield
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)


def test_readiness_ends_before_the_service_stops(store: Path, tmp_path: Path, data_rows: list[dict[str, Any]]) -> None:
    row = next(row for row in data_rows if row["sound"])
    with running_service(tmp_path, model_store=store, drain_notice_s=DEADLINE_S) as service:
        assert service.client.get("/health/ready").status_code == 200
        service.process.send_signal(signal.SIGTERM)
        wait_until(lambda: service.client.get("/health/ready").status_code == 503)
        body = service.client.get("/health/ready").json()
        assert body["status"] == "not ready"
        assert [name for name, check in body["checks"].items() if not check["ok"]] == ["stopping"]
        assert service.client.get("/health/live").status_code == 200
        with httpx.Client(base_url=service.url) as newcomer:  # until the proxy has noticed, calls still come
            assert newcomer.post("/predict/barrier", json=row).status_code == 200
        service.process.send_signal(signal.SIGINT)  # an operator who does not wait
        assert service.process.wait(STOP_TIMEOUT_S) == 0


def test_requests_past_the_drain_limit_get_503_and_are_logged_once(
    store: Path, tmp_path: Path, data_rows: list[dict[str, Any]]
) -> None:
    rows = [row for row in data_rows if row["sound"]][:8]
    settings = {"model_store": store, "model_process": 1, "drain_timeout_s": 1}
    with running_service(tmp_path, **settings) as service, ThreadPoolExecutor(len(rows)) as threads:
        with suspended(service):
            answers = [
                threads.submit(httpx.post, f"{service.url}/predict/barrier", json=row, timeout=DEADLINE_S)
                for row in rows
            ]
            wait_until(lambda: f"\nionpath_queue_requests {len(rows)}.0" in service.client.get("/metrics").text)
            service.client.close()
            service.process.send_signal(signal.SIGTERM)
            late = [answer.result() for answer in answers]
        assert service.process.wait(STOP_TIMEOUT_S) == 0
    lines = [orjson.loads(line) for line in service.log.splitlines() if line.startswith("{")]
    for answer in late:
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["kind"] == "stopping"
        (line,) = [line for line in lines if line.get("request_id") == answer.headers["x-request-id"]]
        assert (line["status"], line["problem"]) == (503, "stopping")
    assert "Traceback" not in service.log
