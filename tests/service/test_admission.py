"""What is let in, and told, while the queue is full."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from api_server import START_TIMEOUT_S, Service, ionpath, running_service
from untrained import write_untrained

BODY_TIMEOUT_S = 5


class Guarded:
    """A service with keys that lets one band wait."""

    def __init__(self, service: Service, keys: list[str], rows: list[dict[str, Any]]) -> None:
        self.service = service
        self.keys = keys
        self.rows = rows

    def send(self, row: dict[str, Any], key: str | None) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{self.service.url}/predict/barrier", json=row, headers=headers, timeout=120.0)

    def flood(self, rows: list[dict[str, Any]]) -> list[httpx.Response]:
        with ThreadPoolExecutor(len(rows)) as threads:
            return list(threads.map(lambda row: self.send(row, self.keys[0]), rows))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, data_rows: list[dict[str, Any]]) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("admission")
    write_untrained(folder / "store")
    lines, keys = [], []
    for name in ("alice", "bob"):
        made = ionpath(folder, "keys", "new", name)
        lines.append(made.stdout.strip())
        keys.append(next(word for word in made.stderr.split() if word.startswith("ionpath_")))
    (folder / "keys").write_text("\n".join(lines) + "\n")
    settings: dict[str, object] = {
        "model_store": folder / "store",
        "api_keys_file": folder / "keys",
        "queue_cost": 1,
        "torch_threads": 1,
        "body_timeout_s": BODY_TIMEOUT_S,
    }
    with running_service(folder, **settings) as service:
        rows = [row for row in data_rows if row["sound"] and 40 < len(row["host_species"]) < 120]
        guarded = Guarded(service, keys, rows)
        for row in rows[:2]:
            assert guarded.send(row, keys[0]).status_code == 200  # its speed is known now
        yield guarded


def test_under_load_a_stranger_is_told_401_and_nothing_of_the_queue(guarded: Guarded) -> None:
    rows = guarded.rows[2:42]
    with ThreadPoolExecutor(len(rows) + 8) as threads:
        flood = [threads.submit(guarded.send, row, guarded.keys[0]) for row in rows]
        strangers = [threads.submit(guarded.send, rows[0], key) for key in (None, "ionpath_" + "x" * 43) * 4]
    assert {one.result().status_code for one in strangers} == {401}
    assert {one.result().status_code for one in flood} == {200, 429}


def test_under_load_what_was_answered_lately_is_answered_again(guarded: Guarded) -> None:
    known = guarded.rows[0]
    with ThreadPoolExecutor(60) as threads:
        flood = [threads.submit(guarded.send, row, guarded.keys[0]) for row in guarded.rows[42:82]]
        again = [threads.submit(guarded.send, known, guarded.keys[0]) for _ in range(16)]
    assert {one.result().status_code for one in again} == {200}
    assert all(one.result().json()["cached"] for one in again)
    assert 429 in {one.result().status_code for one in flood}


def test_bodies_that_do_not_come_take_no_places(guarded: Guarded) -> None:
    url = httpx.URL(guarded.service.url)
    head = b"POST /predict/barrier HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n"
    head += f"Content-Type: application/json\r\nAuthorization: Bearer {guarded.keys[1]}\r\n\r\n".encode()
    guarded.flood(guarded.rows[82:122])
    with ExitStack() as stack:
        for _ in range(60):
            connection = stack.enter_context(socket.create_connection((url.host, url.port or 0), timeout=60.0))
            connection.sendall(head + b"{")
        deadline = time.monotonic() + START_TIMEOUT_S
        while guarded.send(guarded.rows[122], guarded.keys[0]).status_code != 200:  # what the flood was promised ends
            assert time.monotonic() < deadline
        for row in guarded.rows[123:128]:
            assert guarded.send(row, guarded.keys[0]).status_code == 200
        headers = {"Authorization": f"Bearer {guarded.keys[0]}"}
        assert "ionpath_queue_cost 0.0" in httpx.get(f"{guarded.service.url}/metrics", headers=headers).text
        reply = connection.recv(65_536)
        assert reply.startswith(b"HTTP/1.1 408"), reply


def test_the_body_that_was_looked_at_is_the_body_that_is_read(guarded: Guarded) -> None:
    guarded.flood(guarded.rows[128:168])
    answers = []
    for row in guarded.rows[168:172]:
        while (answer := guarded.send(row, guarded.keys[1])).status_code == 429:
            time.sleep(int(answer.headers["retry-after"]))  # what is tested: it does as it was told
        answers.append(answer)
    assert [answer.json()["formula"] is not None for answer in answers] == [True] * 4
    bad = httpx.post(
        f"{guarded.service.url}/predict/barrier",
        content=iter([b'{"ion": ', b'"Li"}']),  # in chunks
        headers={"Authorization": f"Bearer {guarded.keys[1]}", "Content-Type": "application/json"},
    )
    assert bad.status_code == 422
    assert bad.json()["kind"] == "missing-field"


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory, data_rows: list[dict[str, Any]]) -> Iterator[Service]:
    """A service whose speed is known, and where three seconds' work may wait."""
    folder = tmp_path_factory.mktemp("brief")
    write_untrained(folder / "store")
    settings: dict[str, object] = {"queue_wait_s": 3.0, "batch_cost": 1, "torch_threads": 1}
    with running_service(folder, model_store=folder / "store", **settings) as service:
        for row in data_rows[:2]:
            assert httpx.post(f"{service.url}/predict/barrier", json=row, timeout=60.0).status_code == 200
        yield service


def at_once(service: Service, rows: list[dict[str, Any]]) -> list[int]:
    """The statuses of requests that are all there before the first is answered."""
    url = httpx.URL(service.url)
    with ExitStack() as stack:
        address = (url.host, url.port or 0)
        crowd = [stack.enter_context(socket.create_connection(address, timeout=60.0)) for _ in rows]
        for connection, row in zip(crowd, rows, strict=True):
            body = json.dumps(row).encode()
            head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            connection.sendall(f"POST /predict/barrier HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
        return [int(connection.recv(65_536).split(b" ", 2)[1]) for connection in crowd]


def reads(service: Service) -> float:
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith('ionpath_stage_seconds_count{stage="read"'))


def test_of_a_crowd_only_those_are_read_who_are_answered(brief: Service, data_rows: list[dict[str, Any]]) -> None:
    before = reads(brief)
    statuses = at_once(brief, data_rows[2:402])
    assert set(statuses) == {200, 429}
    # On a busy machine a few are read for longer than a place is lent.
    assert statuses.count(200) <= reads(brief) - before <= 1.25 * statuses.count(200) + 5


def test_the_same_from_many_at_once_needs_one_place(brief: Service, data_rows: list[dict[str, Any]]) -> None:
    assert set(at_once(brief, [data_rows[402]] * 500)) == {200}
