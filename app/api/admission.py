"""Lets predictions in before anything of them is parsed, and refuses those that have no place in the queue.

Under overload most requests are refused, and what a refusal costs the others lose: here it is a fraction of what it is
behind the framework's routing, forms and readers.
"""

import hashlib
import re
from collections.abc import Hashable
from contextlib import ExitStack

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.auth import Gate
from app.api.preferences import wants_async
from app.api.problems import problem_response
from app.errors import IonpathError
from app.serving.predictions import PredictionService

#: Calls that are answered at once by the model of barriers.
_PATHS = {"/predict/barrier", "/classify/good-conductor"}
_BOUNDARY = re.compile(r'boundary="?([^";]+)')


class Admission:
    """Gives each prediction a place in the model's queue (`scope["place"]`), or 429.

    One who was told to come back, and does with the same bytes, has a claim to it. Other requests, and those whose
    caller is not let in, go by: the routes tell them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] not in _PATHS:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        if wants_async(request):  # a job waits in its own queue
            await self._app(scope, receive, send)
            return
        service: PredictionService = request.state.service
        with ExitStack() as stack:
            try:
                ticket = None
                if service.is_busy:
                    ticket, receive = await _ticket(request)
                scope["ticket"], scope["place"] = ticket, stack.enter_context(service.place(ticket))
            except IonpathError as error:
                scope["problem_kind"] = error.kind
                response = problem_response(error, request_id=scope.get("request_id"))
                await response(scope, receive, send)
                return
            await self._app(scope, receive, send)


async def _ticket(request: Request) -> tuple[Hashable | None, Receive]:
    """Who asks for what, and the body that was read for it once more; None for one whom the routes will not let in.

    Raises:
        IonpathError: the body is too large or too slow.
    """
    gate: Gate = request.state.gate
    try:
        caller = await gate.caller(request)
    except IonpathError:
        return None, request.receive
    try:
        body = await request.body()
    except ClientDisconnect:
        return None, request.receive
    digest = hashlib.blake2b(body if (boundary := _boundary(request)) is None else body.replace(boundary, b""))
    digest.update(request.scope["query_string"])
    return (caller.key_id, digest.digest()), _again(body, request.receive)


def _boundary(request: Request) -> bytes | None:
    """What divides the parts of a form: made up anew by each sending."""
    match = _BOUNDARY.search(request.headers.get("content-type", ""))
    return None if match is None else match[1].encode("latin-1")


def _again(body: bytes, receive: Receive) -> Receive:
    """The body in one message, then what comes after it."""
    told = False

    async def replayed() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
