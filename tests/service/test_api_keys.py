"""Who may call: keys, nobody's keys, the loopback."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from api_server import IONPATH, START_TIMEOUT_S, Service, ionpath, running_service
from untrained import write_untrained, write_untrained_properties

from benchmarks.stores import RedisServer

OPEN = (
    "/",
    "/docs",
    "/openapi.json",
    "/health/live",
    "/health/ready",
    "/static/page.css",
    "/static/examples/LiCoO2.cif",
)


@dataclass(frozen=True, kw_only=True)
class Guarded:
    service: Service
    keys_file: Path
    alice: dict[str, str]
    bob: dict[str, str]
    metrics_url: str


def new_key(name: str, file: Path) -> str:
    made = subprocess.run([IONPATH, "keys", "new", name, "--file", file], capture_output=True, text=True, check=True)
    return next(word for word in made.stderr.split() if len(word) > 40)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int], store: Path) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    keys = folder / "keys"
    alice, bob = new_key("alice", keys), new_key("bob", keys)
    assert alice not in keys.read_text()
    port = free_port()
    with running_service(folder, model_store=store, api_keys_file=keys, metrics_port=port) as service:
        yield Guarded(
            service=service,
            keys_file=keys,
            alice={"X-API-Key": alice},
            bob={"Authorization": f"Bearer {bob}"},
            metrics_url=f"http://127.0.0.1:{port}/metrics",
        )


def predict(guarded: Guarded, examples: Path, key: dict[str, str]) -> httpx.Response:
    content = (examples / "LiFePO4_band.json").read_bytes()
    headers = {"Content-Type": "application/json", **key}
    return guarded.service.client.post("/predict/barrier", content=content, headers=headers)


def test_without_a_known_key_only_the_open_paths_answer(guarded: Guarded, examples: Path) -> None:
    client = guarded.service.client
    for path in OPEN:
        assert client.get(path).status_code == 200, path
    for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}):
        for path in ("/models", "/models/default", "/predictions", f"/predictions/{'0' * 32}", "/metrics"):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert predict(guarded, examples, headers).status_code == 401


def test_each_key_sees_its_own_predictions_and_its_own_cache(guarded: Guarded, examples: Path) -> None:
    client = guarded.service.client
    alices = predict(guarded, examples, guarded.alice).json()
    bobs = predict(guarded, examples, guarded.bob).json()
    assert bobs["cached"] is False
    assert predict(guarded, examples, guarded.bob).json()["cached"] is True
    path = f"/predictions/{alices['prediction_id']}"
    assert client.get(path, headers=guarded.alice).status_code == 200
    assert client.get(path, headers=guarded.bob).status_code == 404
    for form in ("csv", "zip", "neb-json"):
        assert client.get(path, params={"format": form}, headers=guarded.alice).status_code == 200
        assert client.get(path, params={"format": form}, headers=guarded.bob).status_code == 404
        assert client.get(path, params={"format": form}).status_code == 401
    assert client.delete(path, headers=guarded.bob).status_code == 404
    guarded.service.wait_for("/predictions", lambda page: len(page["predictions"]) == 1, **guarded.alice)
    guarded.service.wait_for("/predictions", lambda page: len(page["predictions"]) == 2, **guarded.bob)


def test_a_new_key_is_accepted_without_a_restart(guarded: Guarded) -> None:
    carol = {"X-API-Key": new_key("carol", guarded.keys_file)}
    assert guarded.service.client.get("/models", headers=carol).status_code == 200


def test_a_broken_keys_file_keeps_the_keys_and_is_reported(guarded: Guarded) -> None:
    good = guarded.keys_file.read_text()
    guarded.keys_file.write_text(f"{good}mallory:{guarded.alice['X-API-Key']}\n")
    assert guarded.service.client.get("/models", headers=guarded.alice).status_code == 200
    assert "api_keys_unreadable" in guarded.service.log
    guarded.keys_file.write_text(good)
    assert guarded.service.client.get("/models", headers=guarded.alice).status_code == 200
    assert guarded.alice["X-API-Key"] not in guarded.service.log


def test_metrics_have_a_key_or_an_address_of_their_own(guarded: Guarded) -> None:
    assert "ionpath_queue_requests" in guarded.service.client.get("/metrics", headers=guarded.alice).text
    assert "ionpath_queue_requests" in httpx.get(guarded.metrics_url).text


def test_the_log_names_the_key_s_id_and_never_the_key(guarded: Guarded) -> None:
    guarded.service.client.get("/models", headers=guarded.alice)
    assert '"key_id": "alice"' in guarded.service.log
    assert guarded.alice["X-API-Key"] not in guarded.service.log


def test_no_reply_and_no_metric_repeats_a_key(guarded: Guarded) -> None:
    client, secret = guarded.service.client, "ionpath_not-a-known-key"
    for headers in ({"X-API-Key": secret}, {"Authorization": f"Bearer {secret}"}, {"Authorization": secret}):
        for path in ("/models", "/predictions", "/metrics", "/nothing"):
            answer = client.get(path, headers=headers)
            assert secret not in answer.text + str(answer.headers)
    known = guarded.alice["X-API-Key"]
    digests = [line.split(":")[1] for line in guarded.keys_file.read_text().splitlines()]
    for path in ("/metrics", "/models", "/predictions", "/nothing"):
        text = client.get(path, headers=guarded.alice).text
        assert known not in text
        assert not any(digest in text for digest in digests)
    assert secret not in guarded.service.log


def test_a_key_over_its_rate_is_reported_when_to_come_back(tmp_path: Path, examples: Path) -> None:
    keys, store = tmp_path / "keys", tmp_path / "store"
    write_untrained(store)
    write_untrained_properties(store)
    alice, bob = ({"X-API-Key": new_key(name, keys)} for name in ("alice", "bob"))
    content = (examples / "LiFePO4_band.json").read_bytes()
    settings = {"api_keys_file": keys, "model_store": store, "rate_per_minute": 1, "rate_burst": 2}
    with running_service(tmp_path, **settings) as service:

        def ask(path: str, key: dict[str, str]) -> httpx.Response:
            return service.client.post(path, content=content, headers={"Content-Type": "application/json", **key})

        assert [ask(path, alice).status_code for path in ("/predict/barrier", "/classify/good-conductor")] == [200, 200]
        refused = ask("/predict/barrier", alice)
        assert (refused.status_code, refused.json()["kind"]) == (429, "rate-exceeded")
        assert refused.json()["type"] == "urn:ionpath:problem:rate-exceeded"
        assert refused.json()["title"] == "Rate exceeded"
        assert "IONPATH_RATE_PER_MINUTE" in refused.json()["detail"]
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        crystal = {"structure": (examples / "LiCoO2.cif").read_bytes()}
        of_bulk = service.client.post("/predict/properties", files=crystal, headers=alice)
        assert of_bulk.json()["kind"] == "rate-exceeded"
        assert service.client.post("/predict/properties", files=crystal, headers=bob).status_code == 200
        assert ask("/predict/barrier", bob).status_code == 200
        assert ask("/predict/barrier", bob).status_code == 429
        assert service.client.get("/predictions", headers=alice).status_code == 200
        assert 'ionpath_errors_total{kind="rate-exceeded"} 3.0' in service.client.get("/metrics", headers=alice).text


def test_replicas_on_one_redis_are_one_rate_and_count_alone_while_it_is_away(
    tmp_path: Path, examples: Path, store: Path, own_redis: RedisServer
) -> None:
    keys = tmp_path / "keys"
    alice, bob = ({"X-API-Key": new_key(name, keys)} for name in ("alice", "bob"))
    content = (examples / "LiFePO4_band.json").read_bytes()
    settings = {
        "api_keys_file": keys,
        "model_store": store,
        "rate_per_minute": 1,
        "rate_burst": 4,
        "redis_url": own_redis.url,
        "redis_timeout_ms": 2_000,  # on a busy machine Redis may answer late, and is not to be skipped for it
        "cache": "off",
    }
    with ExitStack() as stack:
        replicas = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            replicas.append(stack.enter_context(running_service(tmp_path / name, **settings)))

        def statuses(key: dict[str, str], requests: int) -> list[list[int]]:
            """Of each replica, those of some requests; a request goes to either in turn."""
            headers = {"Content-Type": "application/json", **key}
            answers = [
                [replica.client.post("/predict/barrier", content=content, headers=headers) for replica in replicas]
                for _ in range(requests)
            ]
            return [[answer.status_code for answer in of_one] for of_one in zip(*answers, strict=True)]

        assert statuses(alice, 3) == [[200, 200, 429]] * 2
        own_redis.stop()
        assert statuses(alice, 5) == [[200, 200, 200, 200, 429]] * 2, "each by itself: nobody pays for the outage"
        for replica in replicas:
            assert "ionpath_rates_counted_alone_total 5.0" in replica.client.get("/metrics", headers=alice).text
            assert replica.log.count('"rates_away"') == 1
            assert "each replica counts the rates of its callers for itself" in replica.log
        own_redis.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not all('"rates_back"' in replica.log for replica in replicas):
            assert time.monotonic() < deadline
            statuses(alice, 1)
            time.sleep(0.1)
        assert statuses(bob, 3) == [[200, 200, 429]] * 2


def test_anonymous_callers_predict_and_do_not_list(tmp_path: Path, examples: Path, store: Path) -> None:
    with running_service(tmp_path, allow_anonymous=1, model_store=store) as service:
        content = (examples / "LiFePO4_band.json").read_bytes()
        headers = {"Content-Type": "application/json", "Host": "ionpath.example.org"}
        answer = service.client.post("/predict/barrier", content=content, headers=headers)
        assert answer.status_code == 200
        listing = service.client.get("/predictions")
        assert (listing.status_code, listing.json()["kind"]) == (403, "listing-off")
        assert service.client.get("/metrics").json()["kind"] == "metrics-off"
        assert service.client.get(f"/predictions/{answer.json()['prediction_id']}").status_code == 200


def test_without_keys_only_loopback_names_are_answered(service: Service) -> None:
    for name in ("localhost", "127.0.0.1:80", "[::1]"):
        assert service.client.get("/models", headers={"Host": name}).status_code == 200
    elsewhere = service.client.get("/predictions", headers={"Host": "rebound.example.org"})
    assert (elsewhere.status_code, elsewhere.json()["kind"]) == (403, "not-loopback")
    for address in ("203.0.113.9", "localhost.example.org", ""):
        forwarded = service.client.get("/models", headers={"X-Forwarded-For": address})
        assert forwarded.status_code == (403 if address else 200)


@pytest.mark.parametrize(
    "host",
    [
        b"[",
        b"[::1",
        b"localhost@evil.com",
        b"evil.com@localhost",
        b"127.0.0.1:abc",
        b"127.0.0.1:80:80",
        b"127.0.0.1:8000/x",
        b"a{b.evil.com",
        b"localhost, evil.com",
        b"localhost.",
        b"[evil.com]",
        b"",
        b"\xff",
    ],
)
def test_a_host_that_does_not_parse_is_no_loopback_name(service: Service, host: bytes) -> None:
    answer = raw(service, b"GET /models HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host)
    assert answer.split()[1] in {b"400", b"403"}, answer
    assert b'"models"' not in answer


def test_a_request_names_one_host(service: Service) -> None:
    two = b"GET /models HTTP/1.1\r\nHost: evil.com\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for request in (two, b"GET /models HTTP/1.0\r\n\r\n"):
        assert raw(service, request).split()[1] in {b"400", b"403"}


def raw(service: Service, request: bytes) -> bytes:
    """Send bytes as they are: httpx sends no such header."""
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port or 0), timeout=30.0) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_setting_without_effect_is_reported_at_the_start(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("IONPATH_HOST=0.0.0.0\n")
    migrated = ionpath(tmp_path, "migrate", REDIS_URI="redis://:hidden@127.0.0.1:9/0")
    assert migrated.returncode == 0, migrated.stderr
    assert [line for line in migrated.stderr.splitlines() if line.startswith("ionpath: ")] == [
        "ionpath: IONPATH_REDIS_URI is not a setting and has no effect. Did you mean IONPATH_REDIS_URL?",
        "ionpath: IONPATH_HOST in .env is not read. Set it in the environment, or in ionpath.env for docker compose.",
    ]
    served = ionpath(tmp_path, "serve", DATABASE_URL="nonsense", REDIS_URI="redis://:hidden@127.0.0.1:9/0")
    warned = [json.loads(line) for line in served.stderr.splitlines() if "setting_ignored" in line]
    assert [line["level"] for line in warned] == ["warning"] * 2
    assert "Did you mean IONPATH_REDIS_URL?" in warned[0]["problem"]
    assert "hidden" not in served.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"HOST": "0.0.0.0"}, ["IONPATH_API_KEYS_FILE", "IONPATH_ALLOW_ANONYMOUS"]),
        ({"HOST": ""}, ["empty IONPATH_HOST", "IONPATH_API_KEYS_FILE", "IONPATH_ALLOW_ANONYMOUS"]),
        ({"PORT": "[/b]"}, ["IONPATH_PORT", "[/b]"]),
        ({"DATABASE_URL": "nonsense"}, ["IONPATH_DATABASE_URL", "sqlite+aiosqlite:///FILE"]),
        ({"DATABASE_URL": "postgresql+psycopg://me:hidden@127.0.0.1:9/x"}, ["IONPATH_DATABASE_URL", "refused"]),
        ({"PORT": "many"}, ["IONPATH_PORT", "many"]),
        ({"API_KEYS_FILE": "nowhere"}, ["nowhere"]),
        ({"REDIS_URL": "redis://:hidden#more@127.0.0.1:9/0"}, ["IONPATH_REDIS_URL", "host:port"]),
    ],
)
def test_settings_that_cannot_be_served_are_refused(tmp_path: Path, settings: dict[str, str], words: list[str]) -> None:
    refused = ionpath(tmp_path, "serve", **settings)
    assert refused.returncode == 2
    assert all(word in refused.stderr for word in words), refused.stderr
    assert "Traceback" not in refused.stderr
    assert "hidden" not in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} <= ({"log.sqlite3"} if "REDIS_URL" in settings else set())
