"""Asks for predictions: the service's own line in this process, or a running service over HTTP."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import uuid4

import httpx
import orjson
from pydantic import SecretStr

from app.console.sources import Source
from app.crystals.readers.reading import File
from app.errors import BusyError, IonpathError, NotReadyError
from app.models.registry import Registry
from app.serving.service import PredictionRequest, PredictionService, open_service
from app.serving.uploads import BandFileUpload, CrystalUpload, EndPointsUpload, FileUpload
from app.serving.wire import answer_to_json
from app.settings import Settings

AT_ONCE = 8
MOST_TRIES = 6
TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of every file."""

    model: str | None
    threshold_ev: float
    mechanism: Literal["auto", "vacancy", "dilute"]
    max_hops: int | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answer to one source, or the problem in its place."""

    label: str
    answer: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None


class Caller(Protocol):
    """Who answers."""

    def open(self) -> Any:
        """An asynchronous context that gives a callable (source, question) -> answer."""


class Local:
    """Predicts in this process; the log is a file that is thrown away.

    Args:
        settings: the model store and the device count, the stores do not.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        """Load the model, and let it go at the end."""
        with tempfile.TemporaryDirectory(prefix="ionpath-") as folder:
            log = SecretStr(f"sqlite+aiosqlite:///{Path(folder) / 'log.sqlite3'}")
            changes = {"database_url": log, "redis_url": None, "store_inputs": False, "metrics_port": None}
            async with open_service(self._settings.model_copy(update=changes)) as service:

                async def call(source: Source, question: Question) -> dict[str, Any]:
                    return await _predict_here(service, source, question)

                yield call


async def _predict_here(service: PredictionService, source: Source, question: Question) -> dict[str, Any]:
    asked = PredictionRequest(
        upload=_upload(source),
        model=question.model,
        threshold_ev=question.threshold_ev,
        mechanism=question.mechanism,
        max_hops=question.max_hops,
        max_hop_angstrom=5.0,
        key_id=None,
        request_id=uuid4().hex,
    )
    return answer_to_json(await service.predict(asked))


def _upload(source: Source) -> FileUpload:
    files = {field: File(name=name, content=content) for field, (name, content) in source.files.items()}
    if "band" in files:
        return BandFileUpload(file=files["band"])
    if "structure" in files:
        return CrystalUpload(file=files["structure"], ion=source.ion)
    return EndPointsUpload(initial=files["initial"], final=files["final"], ion=source.ion, offset=None)


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
    """

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"X-API-Key": api_key} if api_key else {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        """Hold the connections."""
        async with httpx.AsyncClient(base_url=self._url, headers=self._headers, timeout=TIMEOUT_S) as client:

            async def call(source: Source, question: Question) -> dict[str, Any]:
                return await _predict_there(client, source, question)

            yield call


async def _predict_there(client: httpx.AsyncClient, source: Source, question: Question) -> dict[str, Any]:
    given = {
        "model": question.model,
        "threshold_ev": question.threshold_ev,
        "mechanism": question.mechanism,
        "max_hops": question.max_hops,
    }
    query = {name: value for name, value in given.items() if value is not None}
    data = {"ion": source.ion} if source.ion else {}
    for tries_left in reversed(range(MOST_TRIES)):
        response = await client.post("/predict/barrier", params=query, files=source.files, data=data)
        if response.status_code not in {BusyError.status, NotReadyError.status} or not tries_left:
            break
        await asyncio.sleep(float(response.headers.get("retry-after", "1")))
    return _answer(response)


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


async def ask(caller: Caller, sources: Sequence[Source], question: Question) -> list[Result]:
    """Ask for every source, some at once, results in their order; a problem stands in for its answer alone."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(call: Any, source: Source) -> Result:
        async with room:
            try:
                return Result(label=source.label, answer=await call(source, question))
            except IonpathError as error:
                return Result(label=source.label, problem=_problem(error))
            except httpx.HTTPError as error:
                detail = f"The service did not answer: {error or type(error).__name__}."
                return Result(label=source.label, problem={"detail": detail, "kind": "no-answer"})

    async with caller.open() as call:
        return await asyncio.gather(*(one(call, source) for source in sources))


def _problem(error: IonpathError) -> dict[str, Any]:
    fields = {"detail": error.detail, "kind": error.kind, "where": error.where, "expected": error.expected}
    return {name: value for name, value in fields.items() if value is not None}


def local_models(settings: Settings) -> dict[str, Any]:
    """The cards of the model store."""
    registry = Registry.open(
        settings.model_store, device="cpu", default=settings.default_model, threads=settings.torch_threads
    )
    return {"default": registry.default_name, "models": [registry.card(name) for name in registry.names()]}


def remote_models(url: str, api_key: str | None) -> dict[str, Any]:
    """The cards of a running service.

    Raises:
        IonpathError: it did not answer, or with a problem.
    """
    headers = {"X-API-Key": api_key} if api_key else {}
    try:
        return _answer(httpx.get(f"{url.rstrip('/')}/models", headers=headers, timeout=TIMEOUT_S))
    except httpx.HTTPError as error:
        raise RemoteError({"detail": f"{url} did not answer: {error}."}) from error
