"""What is known of one request, from its first byte to its line in the access log."""

from dataclasses import dataclass, field
from uuid import uuid4

from fastapi import Request
from starlette.types import Scope

_KEY = "context"


@dataclass(kw_only=True)
class RequestContext:
    """What middleware, routes and the access log share about one request.

    Attributes:
        request_id: the client's own, or a new one.
        key_id: of the API key that it was sent with; None before that is known, and without keys.
        problem_kind: of the problem that it was answered with; None where it succeeded.
    """

    request_id: str = field(default_factory=lambda: uuid4().hex)
    key_id: str | None = None
    problem_kind: str | None = None


def context_of(connection: Request | Scope) -> RequestContext:
    """The context of a request, the same each time."""
    scope = connection.scope if isinstance(connection, Request) else connection
    state = scope.setdefault("state", {})
    context: RequestContext = state.setdefault(_KEY, RequestContext())
    return context
