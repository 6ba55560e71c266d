"""Requests at the level of ASGI: clients that leave, faults that nobody caught, bodies in pieces."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import httpx
import orjson
import pytest
import structlog
from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.types import Message, Scope, Send
from waiting import until

from app.api.auth import Gate, is_loopback
from app.api.context import context_of
from app.api.middleware import AccessLog, BodyLimit
from app.api.predict import wants_async, while_connected
from app.api.problems import add_problem_handlers, problem_response
from app.errors import ForbiddenError, InputError
from app.serving.inference.admission import SMALL_BODY_BYTES, Admission
from app.serving.metrics import Metrics
from app.settings import Settings

pytestmark = pytest.mark.anyio

MIB = 2**20
Receive = Callable[[], Awaitable[Message]]


def request_that(receive: Receive, headers: list[tuple[bytes, bytes]] | None = None) -> Request:
    return Request({"type": "http", "method": "POST", "path": "/", "headers": headers or []}, receive)


async def test_work_is_cancelled_when_its_client_leaves() -> None:
    cancelled, started = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def receive() -> Message:
        await started.wait()
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        await while_connected(request_that(receive), work())
    async with asyncio.timeout(5):
        await cancelled.wait()


async def test_work_is_answered_when_its_client_stays() -> None:
    async def work() -> int:
        return 7

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    assert await while_connected(request_that(receive), work()) == 7


async def test_an_error_of_the_work_is_the_caller_s() -> None:
    async def work() -> int:
        raise ZeroDivisionError

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(ZeroDivisionError):
        await while_connected(request_that(receive), work())


async def never() -> Message:
    raise AssertionError


@pytest.mark.parametrize(
    ("prefer", "wanted"),
    [("respond-async", True), ("wait=10, RESPOND-ASYNC", True), ("respond-asynchronously", False), ("", False)],
)
async def test_respond_async_is_one_preference_among_others(prefer: str, wanted: bool) -> None:
    assert wants_async(request_that(never, [(b"prefer", prefer.encode())])) is wanted


def small_app(*, max_body_bytes: int = 10, body_timeout_s: float = 0.2) -> FastAPI:
    app = FastAPI()
    add_problem_handlers(app)
    app.add_middleware(BodyLimit, max_body_bytes=max_body_bytes, body_timeout_s=body_timeout_s)
    app.add_middleware(AccessLog)

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @app.get("/fault")
    async def fault() -> None:
        raise ZeroDivisionError("a secret")

    return app


async def test_a_fault_is_a_problem_that_tells_nothing_of_the_inside() -> None:
    transport = httpx.ASGITransport(small_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.get("/fault", headers={"X-Request-ID": "seven"})
    assert response.status_code == 500
    assert response.json()["request_id"] == response.headers["x-request-id"] == "seven"
    assert "secret" not in response.text


async def test_what_a_request_starts_knows_its_id_and_what_comes_after_does_not() -> None:
    seen: list[object] = []

    def look() -> None:
        seen.append(structlog.contextvars.get_contextvars().get("request_id"))

    async def look_later() -> None:
        look()

    async def app(scope: Scope, receive: object, send: Send) -> None:
        look()
        await asyncio.create_task(look_later())
        await asyncio.to_thread(look)
        await PlainTextResponse("")(scope, never, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(AccessLog(app)), base_url="http://localhost") as client:
        await client.get("/", headers={"X-Request-ID": "seven"})
    look()
    assert seen == ["seven", "seven", "seven", None]


def test_text_that_has_no_utf_8_is_reported_all_the_same() -> None:
    response = problem_response(InputError("no \ud800", where="\udfff.cif", expected="é"))
    body = orjson.loads(response.body)
    assert (body["detail"], body["where"], body["expected"]) == ("no \\ud800", "\\udfff.cif", "é")


@pytest.mark.parametrize(
    ("host", "near"),
    [("127.0.0.1", True), ("[::1]", True), ("LOCALHOST", True), ("", False), ("0.0.0.0", False), ("::", False)],
)
def test_no_address_is_every_address(host: str, near: bool) -> None:
    assert is_loopback(host) is near


@pytest.mark.parametrize(("client", "accepted"), [(None, True), (("127.0.0.1", 1), True), (("", 0), False)])
async def test_a_client_without_an_address_is_one_on_a_unix_socket(
    client: tuple[str, int] | None, accepted: bool
) -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "client": client, "headers": [(b"host", b"localhost")]}
    with nullcontext() if accepted else pytest.raises(ForbiddenError):
        await Gate(Settings()).caller(Request(scope))


@pytest.mark.parametrize(("pieces", "status"), [([10], 200), ([5, 5], 200), ([11], 413), ([5, 5, 1], 413), ([], 200)])
async def test_a_body_is_counted_whatever_its_pieces(pieces: list[int], status: int) -> None:
    async def body() -> object:
        for size in pieces:
            yield b"x" * size

    transport = httpx.ASGITransport(small_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.post("/length", content=body())  # type: ignore[arg-type] # an async generator is taken
    assert response.status_code == status


@dataclass
class Counting:
    """A service, as far as it is asked of while a body arrives."""

    admission: Admission
    metrics: Metrics = field(default_factory=Metrics)


async def test_bodies_are_counted_as_they_arrive_and_no_longer_than_that() -> None:
    """Two slow bodies fill the room: a third is turned away, and a small one is taken."""
    admission = Admission(max_wait_s=10.0, max_mib=1, max_jobs_mib=1, cores=1)
    app = small_app(max_body_bytes=2 * MIB, body_timeout_s=60.0)
    more = asyncio.Event()
    counts: list[int] = []

    async def slow() -> object:
        yield b"x" * (MIB // 2 - 1)
        await more.wait()
        yield b"x"
        counts.append(admission.arriving_bytes)

    async def large() -> object:
        for _ in range(3):
            yield b"x" * SMALL_BODY_BYTES

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"service": Counting(admission)}}, receive, send)

    transport = httpx.ASGITransport(with_state)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        arriving = [asyncio.create_task(client.post("/length", content=slow())) for _ in range(2)]  # type: ignore[arg-type] # an async generator is taken
        await until(lambda: admission.arriving_bytes == MIB - 2)
        third = await client.post("/length", content=large())  # type: ignore[arg-type] # an async generator is taken
        assert (third.status_code, third.json()["kind"]) == (429, "busy")
        assert (await client.post("/length", content=b"small")).json() == 5
        more.set()
        assert [(await one).json() for one in arriving] == [MIB // 2] * 2
    assert admission.arriving_bytes == 0
    assert max(counts) > MIB // 2


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def body() -> object:
        yield b"x"
        await asyncio.Event().wait()

    transport = httpx.ASGITransport(small_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.post("/length", content=body())  # type: ignore[arg-type] # an async generator is taken
    assert (response.status_code, response.json()["kind"]) == (408, "body-too-slow")
    assert "IONPATH_BODY_TIMEOUT_S" in response.json()["detail"]


@pytest.mark.parametrize("gone", [ConnectionResetError(), RuntimeError("unable to perform; the handler is closed")])
async def test_a_client_that_is_gone_when_it_is_answered_is_no_fault(gone: Exception) -> None:
    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(_message: Message) -> None:
        raise gone

    scope: Scope = {"type": "http", "method": "GET", "path": "/health/live", "headers": [], "state": {}}
    await AccessLog(PlainTextResponse("here"))(scope, receive, send)
    assert context_of(scope).problem_kind == "client-left"
