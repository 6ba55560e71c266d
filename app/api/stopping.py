"""Answers requests that are cut short when the service stops."""

import asyncio
from collections.abc import MutableMapping

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.context import context_of
from app.api.problems import problem_response
from app.errors import NotReadyError


class Stopping:
    """Answers 503 with Retry-After where the server cancels a request that is still at work past the drain limit.

    A reply that has begun cannot be taken back: its connection is closed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def noted(message: MutableMapping[str, object]) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if has_begun or task is None or not task.cancelling():
                raise
            task.uncancel()
            await _answer(scope, receive, send)


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    error = NotReadyError(
        "The service stopped before this was answered (IONPATH_DRAIN_TIMEOUT_S).",
        kind="stopping",
        expected="the same request again: another replica, or this one after its start, answers it",
    )
    context = context_of(scope)
    context.problem_kind = error.kind  # for the access log and the metrics
    await problem_response(error, request_id=context.request_id)(scope, receive, send)
