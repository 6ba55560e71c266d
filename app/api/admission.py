"""Lets predictions in before anything of them is parsed, and refuses those that have no place in the queue.

Under overload most requests are refused, and what a refusal costs the others lose: here it is a fraction of what it is
behind the framework's routing, forms and readers.
"""

import hashlib
import re
from contextlib import ExitStack

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.auth import Caller, Gate
from app.api.preferences import wants_async
from app.api.problems import problem_response
from app.errors import ForbiddenError, IonpathError, UnauthorizedError
from app.serving.predictions import PredictionService
from app.serving.promises import Ticket

#: Calls that are answered at once by the model of barriers.
_PATHS = {"/predict/barrier", "/classify/good-conductor"}
#: A larger body is not hashed in the event loop, and so has no claim to a place.
_MOST_HASHED_BYTES = 2_000_000
#: Bodies answered last: they cost the model nothing while the cache has them.
_MOST_ANSWERED = 20_000
_BOUNDARY = re.compile(r'boundary="?([^";]+)', re.IGNORECASE)


class Admission:
    """Gives each prediction a place in the model's queue (`scope["place"]`), or 429.

    Also while there is room: those of a sudden crowd would otherwise all be read before one of them counts.

    One who was told to come back, and does with the same bytes, has a claim to it. What was answered lately goes by,
    since the cache has it, and so does a JSON band that is being answered: one answer is enough for both. So do other
    requests, and those whose caller is not let in: the routes tell them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._answered: dict[Ticket, None] = {}
        self._at_work: set[Ticket] = set()

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
                caller = await _caller(request)
                ticket = None
                if caller is not None:
                    body = await request.body()
                    receive = _again(body, receive)
                    ticket = scope["ticket"] = _ticket(request, caller, body)
                    if service.settings.cache == "off" or not self._costs_nothing(ticket):
                        scope["place"] = stack.enter_context(service.place(ticket))
                        self._at_work_until_left(request, ticket, stack)
            except IonpathError as error:
                scope["problem_kind"] = error.kind
                response = problem_response(error, request_id=scope.get("request_id"))
                await response(scope, receive, send)
                return
            await self._app(scope, receive, send)
        if ticket is not None and scope.get("answered"):
            self._remember(ticket)

    def _costs_nothing(self, ticket: Ticket | None) -> bool:
        return ticket in self._answered or ticket in self._at_work

    def _at_work_until_left(self, request: Request, ticket: Ticket | None, stack: ExitStack) -> None:
        # Of a file nobody knows yet whether it is a crystal, whose hops are computed for each who asks.
        if ticket is not None and request.headers.get("content-type", "").startswith("application/json"):
            self._at_work.add(ticket)
            stack.callback(self._at_work.discard, ticket)

    def _remember(self, ticket: Ticket) -> None:
        self._answered[ticket] = None
        if len(self._answered) > _MOST_ANSWERED:
            del self._answered[next(iter(self._answered))]


async def _caller(request: Request) -> Caller | None:
    """Who calls, its rate counted; None for one whom the routes will not let in.

    Raises:
        BusyError: it asks too often.
    """
    gate: Gate = request.state.gate
    try:
        caller = await gate.caller(request)
    except (UnauthorizedError, ForbiddenError):
        return None
    gate.demand_rate(request, caller)
    return caller


def _ticket(request: Request, caller: Caller, body: bytes) -> Ticket | None:
    """Who asks for what."""
    if len(body) > _MOST_HASHED_BYTES:
        return None
    kind = request.headers.get("content-type", "")
    match = _BOUNDARY.search(kind)
    if match is not None:  # what divides the parts of a form is made up anew by each sending
        kind, body = kind[: match.start()], body.replace(b"--" + match[1].encode("latin-1"), b"--")
    digest = hashlib.blake2b(body)
    for part in (request.scope["path"].encode(), request.scope["query_string"], kind.encode()):
        digest.update(b"\0" + part)
    return Ticket(caller=caller.key_id or (request.client.host if request.client else ""), digest=digest.digest())


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
