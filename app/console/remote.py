"""Asks a running service over HTTP; needs no model here."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson

from app.console.asking import Call, Question, Reply
from app.console.sources import Source
from app.errors import BusyError, IonpathError, NotReadyError

MOST_TRIES = 6
TIMEOUT_S = 300.0
LONGEST_WAIT_S = 60.0
HIGHEST_PORT = 65_535
#: What a service refuses to answer at once and takes as a job.
_FOR_JOBS = frozenset({"too-many-hops", "takes-too-long"})
#: What a stored prediction has beside its answer.
_OF_JOBS = frozenset({"status", "progress", "kind", "input"})
_ASK_AGAIN_S = 1.0


class RemoteError(IonpathError):
    """A running service answered with a problem, or did not answer."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(
            str(problem.get("detail", "no detail")),
            kind=problem.get("kind"),
            where=problem.get("where"),
            expected=problem.get("expected"),
        )


class Remote:
    """Asks a running service.

    Args:
        url: its address.
        api_key: its key, if it needs one.

    Raises:
        RemoteError: the address is none.
    """

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = _address(url)
        self._headers = {"X-API-Key": api_key} if api_key else {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Call]:
        """Hold the connections."""
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=TIMEOUT_S) as client:

            async def call(source: Source, question: Question) -> Reply:
                if question.properties:
                    return Reply(answer=await _properties_there(client, source, question.model))
                answer = await _predict_there(client, source, question)
                return Reply(answer=answer, bands_zip=await _bands(client, answer) if question.with_bands else None)

            yield call


async def _predict_there(client: httpx.AsyncClient, source: Source, question: Question) -> dict[str, Any]:
    data = {"ion": source.ion} if source.ion else {}
    query = _query(source, question)

    async def post(headers: dict[str, str]) -> httpx.Response:
        return await client.post("/predict/barrier", params=query, files=source.files, data=data, headers=headers)

    try:
        return _answer(await _patiently(client, lambda: post({})))
    except RemoteError as error:
        if error.kind not in _FOR_JOBS or "respond-async" not in f"{error.detail} {error.expected}":
            raise
    accepted = _answer(await _patiently(client, lambda: post({"Prefer": "respond-async"})))
    return await _when_done(client, f"/predictions/{accepted['prediction_id']}")


def _query(source: Source, question: Question) -> dict[str, str | float]:
    """What stands behind the question mark; a band takes nothing that only a crystal has."""
    query: dict[str, str | float] = {"threshold_ev": question.threshold_ev, "mechanism": question.mechanism}
    given: dict[str, str | float | None] = {"model": question.model, "max_hops": question.max_hops}
    if "structure" in source.files:
        given |= {"max_hop_angstrom": question.max_hop_angstrom, "second_opinion": question.second_opinion}
        query |= {name: "true" for name in ("interstitials", "include_close_hops") if getattr(question, name)}
    return query | {name: value for name, value in given.items() if value is not None}


async def _when_done(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """Wait for a job's answer."""
    while True:
        stored = _answer(await _patiently(client, lambda: client.get(path)))
        if stored["status"] == "failed":
            raise RemoteError(stored["error"])
        if stored["status"] == "done":
            return {name: value for name, value in stored.items() if name not in _OF_JOBS}
        await asyncio.sleep(_ASK_AGAIN_S)


async def _properties_there(client: httpx.AsyncClient, source: Source, model: str | None) -> dict[str, Any]:
    query = {"model": model} if model is not None else {}
    return _answer(
        await _patiently(client, lambda: client.post("/predict/properties", params=query, files=source.files))
    )


async def _bands(client: httpx.AsyncClient, answer: dict[str, Any]) -> bytes:
    path = f"/predictions/{answer['prediction_id']}"
    response = await _patiently(client, lambda: client.get(path, params={"format": "zip"}))
    if response.is_error:
        _answer(response)  # raises the problem in words
    return response.content


async def _patiently(client: httpx.AsyncClient, send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Send, again while the service is busy."""
    for tries_left in reversed(range(MOST_TRIES)):
        try:
            response = await send()
        except httpx.HTTPError as error:
            raise _silence(str(client.base_url), error) from error
        if response.status_code not in {BusyError.status, NotReadyError.status} or not tries_left:
            break
        await asyncio.sleep(wait_s(response.headers.get("retry-after", "")))
    return response


def wait_s(retry_after: str) -> float:
    """Seconds that a Retry-After header asks for; one where it is a date or nothing, since clocks differ."""
    try:
        seconds = float(retry_after)
    except ValueError:
        return 1.0
    return min(max(seconds, 0.0), LONGEST_WAIT_S) if math.isfinite(seconds) else 1.0


def _address(url: str) -> str:
    try:
        port = httpx.URL(url).port
    except (httpx.InvalidURL, ValueError) as error:
        raise _silence(url, error) from error
    if port is not None and port > HIGHEST_PORT:  # sockets raise an OverflowError, hidden in a group
        raise _silence(url, ValueError(f"there is no port {port}"))
    return url.rstrip("/")


def _answer(response: httpx.Response) -> dict[str, Any]:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        body = {"detail": f"{response.url} answered {response.status_code} and no JSON: is it an ionpath service?"}
        raise RemoteError(body)
    if response.is_error:
        raise RemoteError(body)
    return body


def _silence(url: str, error: Exception) -> RemoteError:
    detail = f"{url} did not answer: {str(error) or type(error).__name__}."
    return RemoteError({"detail": detail, "kind": "no-answer", "expected": "the address of a running ionpath service"})


def models(url: str, api_key: str | None) -> dict[str, Any]:
    """The cards of a running service.

    Raises:
        IonpathError: it did not answer, or with a problem.
    """
    headers = {"X-API-Key": api_key} if api_key else {}
    try:
        return _answer(httpx.get(f"{_address(url)}/models", headers=headers, timeout=TIMEOUT_S))
    except httpx.HTTPError as error:
        raise _silence(url, error) from error
