"""A running service under load, without its clients, at its start, and on a GPU."""

import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import torch
from api_server import Service, running_service
from waiting import wait_until

from app.api.schemas import Problem

START_CPU_S = 45.0
DEVICES_EV = 1e-4
READ = 'ionpath_stage_seconds_count{stage="read"}'


def cpu_seconds(process_id: int) -> float:
    """Of the processor, used by a process so far: what else runs on the machine does not count."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def gauge(service: Service, name: str) -> float:
    text = service.client.get("/metrics").text
    return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")))


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that lets one band wait."""
    folder = tmp_path_factory.mktemp("narrow")
    with running_service(folder, queue_cost=1, cache="off", torch_threads=1) as service:
        yield service


def test_a_start_takes_few_seconds_of_cpu(service: Service) -> None:
    assert cpu_seconds(service.process.pid) < START_CPU_S


def test_past_the_queue_callers_are_told_when_to_come_back(
    narrow: Service, composed_rows: list[dict[str, Any]]
) -> None:
    rows = composed_rows[:32]

    def send(row: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"{narrow.url}/predict/barrier", json=row, timeout=120.0)

    with ThreadPoolExecutor(len(rows)) as threads:
        responses = list(threads.map(send, rows))
    busy = [response for response in responses if response.status_code == 429]
    assert {response.status_code for response in responses} == {200, 429}
    for response in busy:
        assert int(response.headers["retry-after"]) >= 1
        assert response.headers["content-type"] == "application/problem+json"
        assert Problem.model_validate_json(response.content, strict=True, extra="forbid").kind == "busy"
    assert send(rows[0]).status_code == 200


def test_one_who_comes_back_with_the_same_when_told_is_let_in(
    narrow: Service, composed_rows: list[dict[str, Any]]
) -> None:
    """JSON and forms, whose parts are divided by something new each time."""
    rows = composed_rows[:40]
    for row in rows[:2]:
        narrow.client.post("/predict/barrier", json=row)  # its speed is known now
    before = gauge(narrow, READ)

    def send_until_answered(number: int) -> list[httpx.Response]:
        row = rows[number]
        responses: list[httpx.Response] = []
        while not responses or responses[-1].status_code == 429:
            if responses:
                time.sleep(int(responses[-1].headers["retry-after"]))  # what is tested: it does as it was told
            form = {"files": {"band": ("band.json", orjson.dumps(row))}}
            body: dict[str, Any] = {"json": row} if number % 2 else form
            responses.append(httpx.post(f"{narrow.url}/predict/barrier", timeout=120.0, **body))
        return responses

    with ThreadPoolExecutor(len(rows)) as threads:
        all_responses = list(threads.map(send_until_answered, range(len(rows))))
    assert {responses[-1].status_code for responses in all_responses} == {200}
    told = [len(responses) - 1 for responses in all_responses if len(responses) > 1]
    assert told, "nobody was refused"
    read = gauge(narrow, READ) - before
    assert read < sum(map(len, all_responses)), "most that were refused were not read"


def test_a_client_that_leaves_takes_its_work_along(tmp_path: Path, composed_rows: list[dict[str, Any]]) -> None:
    rows = composed_rows[:24]
    with running_service(tmp_path, cache="off") as service:
        url = httpx.URL(service.url)
        connections = []
        for row in rows:
            body = orjson.dumps(row)
            connection = socket.create_connection((url.host, url.port or 0), timeout=30.0)
            head = f"POST /predict/barrier HTTP/1.1\r\nHost: {url.netloc.decode()}\r\nContent-Length: {len(body)}"
            connection.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
            connections.append(connection)
        wait_until(lambda: gauge(service, "ionpath_queue_items") >= 4)
        for connection in connections:
            connection.close()
        wait_until(lambda: gauge(service, "ionpath_queue_items") == gauge(service, "ionpath_queue_cost") == 0)
        wait_until(lambda: 'ionpath_errors_total{kind="client-left"}' in service.client.get("/metrics").text)
        answer = service.client.post("/predict/barrier", json=rows[0])
        assert answer.status_code == 200, answer.text
        assert service.client.get("/health/ready").status_code == 200


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
def test_a_gpu_answers_what_a_cpu_answers(
    service: Service, tmp_path: Path, composed_rows: list[dict[str, Any]], examples: Path
) -> None:
    rows = composed_rows[:20]
    files = {"structure": ("LiCoO2.cif", (examples / "LiCoO2.cif").read_bytes())}
    with running_service(tmp_path, device="cuda", cache="off") as on_gpu:
        assert '"device": "cuda' in on_gpu.log
        for row in rows:
            here, there = (each.client.post("/predict/barrier", json=row).json() for each in (on_gpu, service))
            assert here["barrier_ev"] == pytest.approx(there["barrier_ev"], abs=DEVICES_EV)
        crystals = [
            each.client.post("/predict/barrier", files=files, data={"ion": "Li"}).json() for each in (on_gpu, service)
        ]
        for mine, its in zip(*(crystal["hops"] for crystal in crystals), strict=True):
            assert mine["barrier_ev"] == pytest.approx(its["barrier_ev"], abs=DEVICES_EV)
