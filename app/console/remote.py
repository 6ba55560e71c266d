"""Asks a running service over HTTP; needs no model here."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson

from app.console.asking import Call, Question, Reply, StoppedError
from app.console.sources import Source
from app.errors import BusyError, IonpathError, NotReadyError
from app.serving.answers.as_json import conductivity_alone

#: Files sent at the same time.
AT_ONCE = 8
#: An answer is waited for as long; services give up before (IONPATH_REQUEST_TIMEOUT_S).
TIMEOUT_S = 300.0
LONGEST_WAIT_S = 60.0
#: A service that refuses everything for so long for load, or is not ready, is given up.
PATIENCE_S = 600.0
#: The same of a service that answered once and cannot be reached any more: it may be starting again.
GONE_AFTER_S = 60.0
_RECONNECT_S = 1.0
#: One file whose connection ends as often without an answer is given up: it may be what ends the service.
MOST_BROKEN = 5
HIGHEST_PORT = 65_535
#: 429 and 503, and what a proxy says whose service is starting again.
_TRY_AGAIN = frozenset({BusyError.status, NotReadyError.status, httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT})
#: What a service refuses to answer at once and takes as a job.
_FOR_JOBS = frozenset({"too-many-hops", "takes-too-long", "took-too-long"})
#: Refusals that the same request would meet again.
_LASTING = frozenset({"took-too-long"})
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


class GoneError(StoppedError):
    """The service is not there, or not any more."""


class Remote:
    """Asks a running service, and again where it is busy.

    Args:
        url: its address.
        api_key: its key, if it needs one.
        gone_after_s: a service that answered once is given up where it cannot be reached for so long.

    Raises:
        RemoteError: the address is not one.
    """

    def __init__(self, url: str, api_key: str | None, *, gone_after_s: float = GONE_AFTER_S) -> None:
        self._url = _address(url)
        self._headers = {"X-API-Key": api_key} if api_key else {}
        self._gone_after_s = gone_after_s

    @property
    def at_once(self) -> int:
        """Bounded: the service has other callers."""
        return AT_ONCE

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Call]:
        """Hold the connections."""
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=TIMEOUT_S) as client:
            service = _PatientClient(client, self._gone_after_s)

            async def call(source: Source, question: Question) -> Reply:
                if question.properties:
                    return Reply(answer=await _properties_there(service, source, question.model))
                if question.conductivity:
                    return Reply(answer=await _conductivity_there(service, source, question))
                answer = await _predict_there(service, source, question)
                return Reply(answer=answer, bands_zip=await _bands(service, answer) if question.with_bands else None)

            yield call


class _PatientClient:
    """Sends requests, each again while the service is busy or cannot be reached.

    Whether it is still there is known from all requests together.
    """

    def __init__(self, client: httpx.AsyncClient, gone_after_s: float) -> None:
        self._client = client
        self._gone_after_s = gone_after_s
        self._heard_s: float | None = None  # when it last answered anything
        self._served_s = time.monotonic()  # when it last did what was asked, or said what is wrong with it

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self._send(lambda: self._client.get(path, **options))

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self._send(lambda: self._client.post(path, **options))

    async def _send(self, send: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        """Send, again while the service is busy.

        Raises:
            GoneError: it cannot be reached, or has not answered any request for long.
            RemoteError: this request alone is never answered.
        """
        broken = 0
        while True:
            try:
                response = await send()
            except httpx.HTTPError as error:
                broken += not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                await self._wait_for_it(error, broken)
                continue
            self._heard_s = time.monotonic()
            if response.status_code not in _TRY_AGAIN or _kind(response) in _LASTING:
                self._served_s = time.monotonic()
                return response
            if time.monotonic() - self._served_s > PATIENCE_S:
                raise GoneError(
                    f"{self._client.base_url} has answered nothing for {PATIENCE_S / 60:g} minutes: "
                    f"{_detail(response)}",
                    kind="no-answer",
                )
            await asyncio.sleep(wait_s(response.headers.get("retry-after", "")))

    async def _wait_for_it(self, error: httpx.HTTPError, broken: int) -> None:
        """Wait before another try, where there should be one."""
        url = str(self._client.base_url)
        if isinstance(error, httpx.ReadTimeout):
            raise RemoteError(
                {
                    "detail": f"{url} did not answer within {TIMEOUT_S:g} s.",
                    "kind": "no-answer",
                    "expected": "fewer hops (--max-hops), or the same once the service is less busy",
                }
            )
        if broken >= MOST_BROKEN:
            raise _silence(url, error)
        if self._heard_s is None or time.monotonic() - self._heard_s > self._gone_after_s:
            gone = _silence(url, error)
            raise GoneError(gone.detail, kind=gone.kind, expected=gone.expected) from error
        await asyncio.sleep(_RECONNECT_S)


def _kind(response: httpx.Response) -> str | None:
    """The kind of a problem; None where the reply has none."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return None
    return body.get("kind") if isinstance(body, dict) else None


def _detail(response: httpx.Response) -> str:
    try:
        _answer(response)
    except RemoteError as error:
        return error.detail
    return f"status {response.status_code}"


async def _predict_there(service: _PatientClient, source: Source, question: Question) -> dict[str, Any]:
    return await _patiently(service, source, "/predict/barrier", _query(source, question))


async def _conductivity_there(service: _PatientClient, source: Source, question: Question) -> dict[str, Any]:
    given: dict[str, str | float | None] = {"model": question.model, "max_hops": question.hops.max_hops}
    query = {name: value for name, value in given.items() if value is not None}
    answer = await _patiently(service, source, "/predict/conductivity", query)
    return conductivity_alone(answer) if "conductivity" in answer else answer


async def _patiently(
    service: _PatientClient, source: Source, path: str, query: dict[str, str | float]
) -> dict[str, Any]:
    """Predict, as a job where that would take too long; a job's answer has every hop."""
    data = source.texts

    async def post(headers: dict[str, str]) -> httpx.Response:
        return await service.post(path, params=query, files=source.files, data=data, headers=headers)

    try:
        return _answer(await post({}))
    except RemoteError as error:
        if error.kind not in _FOR_JOBS or "respond-async" not in f"{error.detail} {error.expected}":
            raise
    accepted = _answer(await post({"Prefer": "respond-async"}))
    return await _when_done(service, f"/predictions/{accepted['prediction_id']}")


def _query(source: Source, question: Question) -> dict[str, str | float]:
    """What stands behind the question mark; a band takes nothing that only a crystal has."""
    query: dict[str, str | float] = {"threshold_ev": question.threshold_ev, "mechanism": question.hops.mechanism}
    given: dict[str, str | float | None] = {"model": question.model, "max_hops": question.hops.max_hops}
    if "structure" in source.files:
        given |= {"max_hop_angstrom": question.hops.max_hop_angstrom, "second_opinion": question.second_opinion}
        query |= {name: "true" for name in ("interstitials", "include_close_hops") if getattr(question.hops, name)}
    return query | {name: value for name, value in given.items() if value is not None}


async def _when_done(service: _PatientClient, path: str) -> dict[str, Any]:
    """Wait for a job's answer."""
    while True:
        stored = _answer(await service.get(path))
        if stored["status"] == "failed":
            raise RemoteError(stored["error"])
        if stored["status"] == "done":
            return {name: value for name, value in stored.items() if name not in _OF_JOBS}
        await asyncio.sleep(_ASK_AGAIN_S)


async def _properties_there(service: _PatientClient, source: Source, model: str | None) -> dict[str, Any]:
    query = {"model": model} if model is not None else {}
    return _answer(await service.post("/predict/properties", params=query, files=source.files, data=source.texts))


async def _bands(service: _PatientClient, answer: dict[str, Any]) -> bytes:
    path = f"/predictions/{answer['prediction_id']}"
    response = await service.get(path, params={"format": "zip"})
    if response.is_error:
        _answer(response)  # raises the problem
    return response.content


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
