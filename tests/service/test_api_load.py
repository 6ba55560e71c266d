"""A running service under load, without its clients, at its start, and on a GPU."""

import itertools
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import torch
from api_server import Service, ionpath, running_service
from waiting import wait_until

from app.api.schemas import Problem

START_CPU_S = 45.0
DEVICES_EV = 1e-4
PATIENCE_S = 120.0
READ = 'ionpath_stage_seconds_count{stage="read"}'

LICL = """LiCl
1.0
{a:.3f} 0 0
0 {a:.3f} 0
0 0 {a:.3f}
Li Cl
4 4
Direct
0 0 0
0 .5 .5
.5 0 .5
.5 .5 0
.5 .5 .5
.5 0 0
0 .5 0
0 0 .5
"""


def cpu_seconds(process_id: int) -> float:
    """Of the processor, used by a process so far: what else runs on the machine does not count."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def metrics(service: Service) -> str:
    return service.client.get("/metrics").text


def gauge(service: Service, name: str) -> float:
    return float(next(line.split()[-1] for line in metrics(service).splitlines() if line.startswith(f"{name} ")))


def send_band(service: Service, row: dict[str, Any], **headers: str) -> httpx.Response:
    return httpx.post(f"{service.url}/predict/barrier", json=row, headers=headers, timeout=PATIENCE_S)


def send_crystal(service: Service, number: int, **query: str) -> httpx.Response:
    """One of many small crystals that are not the same."""
    files = {"structure": ("POSCAR", LICL.format(a=4.8 + 0.01 * number))}
    url = f"{service.url}/predict/barrier"
    return httpx.post(url, files=files, data={"ion": "Li"}, params=query, timeout=PATIENCE_S)


def all_at_once(callers: int, send: Callable[[Any], httpx.Response], asked: Sequence[Any]) -> list[httpx.Response]:
    """What so many callers are answered, who never ask twice."""
    with ThreadPoolExecutor(callers) as threads:
        return list(threads.map(send, asked))


def check_nothing_waits(service: Service) -> None:
    wait_until(lambda: gauge(service, "ionpath_queue_requests") == 0)
    for name in ("ionpath_queue_items", "ionpath_queue_bytes"):
        assert gauge(service, name) == 0.0
    for lane in ("main", "slow-model", "second-opinion"):
        assert gauge(service, f'ionpath_queue_wait_seconds{{lane="{lane}"}}') == pytest.approx(0.0, abs=1e-9)


def check_busy(response: httpx.Response) -> int:
    """Seconds until one may ask again."""
    assert response.status_code == 429
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(response.content, strict=True, extra="forbid")
    assert problem.kind == "busy"
    return int(response.headers["retry-after"])


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Service]:
    """A service as it is set by default, without a cache."""
    with running_service(tmp_path_factory.mktemp("usual"), model_store=store, cache="off") as service:
        yield service


def test_a_start_takes_few_seconds_of_cpu(service: Service) -> None:
    assert cpu_seconds(service.process.pid) < START_CPU_S


def test_sixty_four_bands_by_thirty_two_callers_who_never_ask_twice_are_all_answered(
    usual: Service, composed_rows: list[dict[str, Any]]
) -> None:
    rows = list(itertools.islice(itertools.cycle(composed_rows), 64))
    responses = all_at_once(32, lambda row: send_band(usual, row), rows)
    assert [response.status_code for response in responses] == [200] * 64
    assert len({response.json()["prediction_id"] for response in responses}) == 64
    check_nothing_waits(usual)


def test_sixty_four_crystals_by_sixteen_callers_who_never_ask_twice_are_all_answered(usual: Service) -> None:
    responses = all_at_once(16, lambda number: send_crystal(usual, number, max_hops="1"), range(64))
    assert [response.status_code for response in responses] == [200] * 64
    assert all(response.json()["hops"] for response in responses)
    check_nothing_waits(usual)


def test_bands_and_crystals_with_second_opinions_are_answered_beside_each_other(
    usual: Service, composed_rows: list[dict[str, Any]]
) -> None:
    def send(number: int) -> httpx.Response:
        if number % 4:
            return send_band(usual, composed_rows[number])
        return send_crystal(usual, number, max_hops="1", second_opinion="bvse")

    responses = all_at_once(12, send, range(12))
    assert [response.status_code for response in responses] == [200] * 12
    for response in responses[::4]:
        assert response.json()["second_opinion"]["answered"], response.text
    check_nothing_waits(usual)


def test_an_answer_says_how_long_it_waited(usual: Service, examples: Path, composed_rows: list[dict[str, Any]]) -> None:
    band = send_band(usual, composed_rows[3])
    with (examples / "LiFePO4.cif").open("rb") as file:
        crystal = usual.client.post("/predict/barrier", files={"structure": file}, data={"ion": "Li"})
    for answer in (band, crystal):
        waited = re.fullmatch(r"wait;dur=(\d+\.\d)", answer.headers["server-timing"])
        assert waited, answer.headers
        assert 0.0 < float(waited[1]) < 1e3 * answer.elapsed.total_seconds()


def test_what_is_replied_is_what_is_found_and_a_classification_has_its_verdict_first(
    usual: Service, composed_rows: list[dict[str, Any]]
) -> None:
    answer = send_band(usual, composed_rows[0]).json()
    found = usual.client.get(f"/predictions/{answer['prediction_id']}").json()
    assert found == {**found, **answer}
    classified = usual.client.post("/classify/good-conductor", json=composed_rows[0]).json()
    good = classified["good_conductor"]
    assert list(classified)[:3] == ["verdict", "probability", "threshold_ev"]
    assert {name: classified[name] for name in good} == good
    assert list(classified)[3] == "probability_above_1e-4_s_per_cm"
    assert list(classified)[4:] == list(answer)


def test_past_the_most_bytes_callers_are_refused_and_one_upload_is_always_taken(
    tmp_path: Path, store: Path, composed_rows: list[dict[str, Any]]
) -> None:
    with running_service(tmp_path, model_store=store, queue_max_mib=1, cache="off") as service:
        padded = {**composed_rows[0], "comment": "x" * 2 * 2**20}
        responses = all_at_once(12, lambda row: send_band(service, row), [padded] * 12)
        busy = [response for response in responses if response.status_code != 200]
        assert len(busy) < len(responses)
        assert busy
        for response in busy:
            assert check_busy(response) >= 1
            assert "IONPATH_QUEUE_MAX_MIB" in response.json()["detail"]
        check_nothing_waits(service)
        assert send_band(service, padded).status_code == 200


def test_a_client_that_leaves_takes_its_work_along(usual: Service, composed_rows: list[dict[str, Any]]) -> None:
    rows = composed_rows[:48]
    url = httpx.URL(usual.url)
    with ExitStack() as connections:
        for row in rows:
            body = orjson.dumps(row)
            connection = connections.enter_context(
                socket.create_connection((url.host, url.port or 0), timeout=PATIENCE_S)
            )
            head = f"POST /predict/barrier HTTP/1.1\r\nHost: {url.netloc.decode()}\r\nContent-Length: {len(body)}"
            connection.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
        wait_until(lambda: gauge(usual, "ionpath_queue_requests") >= 4)
    check_nothing_waits(usual)
    wait_until(lambda: 'ionpath_errors_total{kind="client-left"}' in metrics(usual))
    answer = send_band(usual, rows[0])
    assert answer.status_code == 200, answer.text
    assert usual.client.get("/health/ready").status_code == 200


@dataclass(frozen=True, kw_only=True)
class Guarded:
    """A service with keys, where any work that waits is past the bound; its client has alice's key."""

    service: Service
    keys: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    lines, keys = [], {}
    for name in ("alice", "bob"):
        made = ionpath(folder, "keys", "new", name)
        lines.append(made.stdout.strip())
        key = next(word for word in made.stderr.split() if word.startswith("ionpath_"))
        keys[name] = {"Authorization": f"Bearer {key}"}
    (folder / "keys").write_text("\n".join(lines) + "\n")
    settings: dict[str, object] = {
        "api_keys_file": folder / "keys",
        "queue_max_wait_s": 1e-6,
        "queue_min_requests": 0,
        "body_timeout_s": 5,
    }
    with running_service(folder, model_store=store, cache="off", **settings) as service:
        service.client.headers.update(keys["alice"])
        yield Guarded(service=service, keys=keys)


def test_past_the_longest_wait_callers_are_refused_at_once_and_those_before_them_answered(
    guarded: Guarded, composed_rows: list[dict[str, Any]]
) -> None:
    service, alice = guarded.service, guarded.keys["alice"]
    read = gauge(service, READ)
    responses = all_at_once(32, lambda row: send_band(service, row, **alice), composed_rows[:32])
    answered = [response for response in responses if response.status_code == 200]
    busy = [response for response in responses if response.status_code != 200]
    assert answered
    assert busy
    for response in busy:
        assert check_busy(response) >= 1
        assert "IONPATH_QUEUE_MAX_WAIT_S" in response.json()["detail"]
    check_nothing_waits(service)
    assert gauge(service, READ) - read == len(answered), "what was refused was read"
    assert send_band(service, composed_rows[0], **alice).status_code == 200


def test_under_load_a_caller_without_a_key_gets_401_and_nothing_about_the_queue(
    guarded: Guarded, composed_rows: list[dict[str, Any]]
) -> None:
    unknown_key = {"Authorization": "Bearer ionpath_" + "x" * 43}
    callers = [guarded.keys["alice"]] * 32 + [{}, unknown_key] * 4

    def send(number: int) -> httpx.Response:
        return send_band(guarded.service, composed_rows[number], **callers[number])

    responses = all_at_once(len(callers), send, range(len(callers)))
    assert {response.status_code for response in responses[32:]} == {401}
    assert {response.status_code for response in responses[:32]} == {200, 429}


def test_bodies_that_do_not_come_take_no_room(guarded: Guarded, composed_rows: list[dict[str, Any]]) -> None:
    url = httpx.URL(guarded.service.url)
    (name, value) = next(iter(guarded.keys["bob"].items()))
    head = f"POST /predict/barrier HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n{name}: {value}\r\n"
    with ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(socket.create_connection((url.host, url.port or 0), timeout=PATIENCE_S))
            connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
        for row in composed_rows[:5]:
            assert send_band(guarded.service, row, **guarded.keys["alice"]).status_code == 200
        assert "ionpath_queue_requests 0.0" in metrics(guarded.service)
        reply = connection.recv(65_536)
        assert reply.startswith(b"HTTP/1.1 408"), reply


def test_a_body_in_chunks_is_counted_and_read_like_any_other(
    guarded: Guarded, composed_rows: list[dict[str, Any]]
) -> None:
    text = orjson.dumps(composed_rows[6])
    for pieces, status, kind in (
        ([text[:100], text[100:]], 200, None),
        ([b'{"ion": ', b'"Li"}'], 422, "missing-field"),
    ):
        answer = httpx.post(
            f"{guarded.service.url}/predict/barrier",
            content=iter(pieces),
            headers={**guarded.keys["bob"], "Content-Type": "application/json"},
            timeout=PATIENCE_S,
        )
        assert (answer.status_code, answer.json().get("kind")) == (status, kind)


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
