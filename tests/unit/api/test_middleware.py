"""Requests at the level of ASGI: clients that leave, faults that nobody caught, bodies in pieces."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.api.middleware import BodyLimit, RequestContext
from app.api.predict import wants_async, while_connected
from app.api.problems import add_problem_handlers

pytestmark = pytest.mark.anyio

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


def small_app() -> FastAPI:
    app = FastAPI()
    add_problem_handlers(app)
    app.add_middleware(BodyLimit, max_body_bytes=10)
    app.add_middleware(RequestContext)

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


@pytest.mark.parametrize(("pieces", "status"), [([10], 200), ([5, 5], 200), ([11], 413), ([5, 5, 1], 413), ([], 200)])
async def test_a_body_is_counted_whatever_its_pieces(pieces: list[int], status: int) -> None:
    async def body() -> object:
        for size in pieces:
            yield b"x" * size

    transport = httpx.ASGITransport(small_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.post("/length", content=body())  # type: ignore[arg-type] # an async generator is taken
    assert response.status_code == status
