"""What every request goes through, as plain ASGI: a request id, an access log, headers, a limit on the body."""

import asyncio
import contextlib
import re
import time
from collections.abc import MutableMapping
from uuid import uuid4

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import RequestContext, context_of
from app.api.problems import InternalError, problem_response
from app.errors import BusyError, NotReadyError, TooLargeError, TooSlowError
from app.serving.inference.admission import Arrival

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_QUIET_PATHS = frozenset({"/health/live", "/health/ready", "/metrics"})
#: A client that is still sending reads no reply: this many times the limit is read and thrown away first.
_DRAIN_FACTOR = 8
_DRAIN_SECONDS = 20.0

_log = structlog.get_logger("ionpath.access")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"


class AccessLog:
    """Gives each request an id, logs it once, sets the security headers, and turns uncaught errors into a reply.

    Every line that the request's tasks and threads log carries the id.
    Outermost, so that its reply to an unexpected error also has an id and headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_REQUEST_ID.fullmatch(given) else uuid4().hex
        context = context_of(scope)
        context.request_id = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):  # tasks and threads that it starts inherit
            await self._handle(context, scope, receive, send)

    async def _handle(self, context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _set_headers(message, context.request_id)
            try:
                await send(message)
            except (OSError, RuntimeError) as error:
                if isinstance(error, OSError) or "closed" in str(error):  # uvloop's word for a connection that is gone
                    raise ClientDisconnect from error
                raise

        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            context.problem_kind = "client-left"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if status or task is None or not task.cancelling():  # a reply that has begun cannot be taken back
                raise
            task.uncancel()
            await _answer_stop(context, scope, receive, send_with_headers)
        except Exception:  # noqa: BLE001 - the last net: logged whole, answered as a fault
            _log.exception("unexpected", path=scope["path"])
            if status == 0:
                await _answer_fault(context, scope, receive, send_with_headers)
        finally:
            _log_request(context, scope, status, time.perf_counter() - started)


def _set_headers(message: MutableMapping[str, object], request_id: str) -> None:
    headers = MutableHeaders(scope=message)
    headers["X-Request-ID"] = request_id
    headers.setdefault("Content-Security-Policy", _NO_CONTENT)
    headers.setdefault("Cache-Control", "no-store")
    for name, value in _HEADERS.items():
        headers[name] = value


async def _answer_fault(context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
    context.problem_kind = InternalError.default_kind
    fault = InternalError(
        "The service failed at this request. This is its fault, not the input's; its log has the request id."
    )
    await problem_response(fault, request_id=context.request_id)(scope, receive, send)


async def _answer_stop(context: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 503 where the server cancels a request that is still at work past the drain limit."""
    error = NotReadyError(
        "The service stopped before this was answered (IONPATH_DRAIN_TIMEOUT_S).",
        kind="stopping",
        expected="the same request again: another replica, or this one after its start, answers it",
    )
    context.problem_kind = error.kind  # for the access log and the metrics
    await problem_response(error, request_id=context.request_id)(scope, receive, send)


def _log_request(context: RequestContext, scope: Scope, status: int, seconds: float) -> None:
    kind = context.problem_kind
    service = scope.get("state", {}).get("service")
    if kind is not None and service is not None:
        service.metrics.failed(kind)
    write = _log.debug if scope["path"] in _QUIET_PATHS else _log.info
    write(
        "request",
        method=scope["method"],
        path=scope["path"],
        status=status or None,  # none where the client left before a reply
        milliseconds=round(1000 * seconds, 2),
        key_id=context.key_id,
        client=(scope.get("client") or ("",))[0],
        problem=kind,
    )


class BodyLimit:
    """Refuses a body over a number of bytes, whether its length was announced or not, and one that takes too long.

    The bytes of a body that comes in pieces are counted as they arrive, so that many that come slowly cannot fill the
    memory: admission turns away those that are too much.

    Args:
        app: what is called with bodies within the limit.
        max_body_bytes: the limit; the reply names the setting that holds it.
        body_timeout_s: from the request's head to the end of its body, seconds.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, body_timeout_s: float = 60.0) -> None:
        self._app = app
        self._max_bytes = max_body_bytes
        self._timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self._max_bytes:
            if "expect" not in headers:  # a client that asks first has sent nothing yet
                await self._drain(receive, 0)
            await self._refuse(scope, receive, send)
            return
        service = scope.get("state", {}).get("service")
        arrival = None if service is None else service.admission.arrival()
        try:
            await self._app(scope, self._counted(receive, arrival), send)
        finally:
            if arrival is not None:
                arrival.end()

    def _counted(self, receive: Receive, arrival: Arrival | None) -> Receive:
        """Receive a body's messages within its limits."""
        received, whole = 0, False
        until = asyncio.get_running_loop().time() + self._timeout_s

        async def counted() -> Message:
            """Receive a message, and count its bytes."""
            nonlocal received, whole
            if whole:  # what is awaited now is that the client leaves
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise self._too_slow() from None
            whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                await self._drain(receive, received)
                raise self._error()
            if arrival is not None:
                await self._count(arrival, message, receive, received)
            return message

        return counted

    async def _count(self, arrival: Arrival, message: Message, receive: Receive, received: int) -> None:
        if not message.get("more_body", False):
            arrival.end()
            return
        try:
            arrival.add(len(message.get("body", b"")))
        except BusyError:
            await self._drain(receive, received)
            raise

    async def _drain(self, receive: Receive, received: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while received <= _DRAIN_FACTOR * self._max_bytes:
                    message = await receive()
                    received += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def _error(self) -> TooLargeError:
        return TooLargeError(
            f"The request is larger than {self._max_bytes / 1e6:g} MB.",
            kind="body-too-large",
            where="request body",
            expected=f"At most {self._max_bytes} bytes (IONPATH_MAX_BODY_BYTES).",
        )

    def _too_slow(self) -> TooSlowError:
        return TooSlowError(
            f"The request's body took longer than {self._timeout_s:g} s to arrive (IONPATH_BODY_TIMEOUT_S).",
            where="request body",
            expected="the whole body without long pauses",
        )

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._error()
        context = context_of(scope)
        context.problem_kind = error.kind
        response = problem_response(error, request_id=context.request_id, headers={"Connection": "close"})
        await response(scope, receive, send)
