"""`POST /predict/barrier`, `POST /classify/good-conductor` and `POST /predict/conductivity`."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, Literal, TypeVar

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.requests import ClientDisconnect

from app.api.auth import Caller, Gate, caller
from app.api.context import context_of
from app.api.log_schemas import AcceptedPrediction, PredictionStatus
from app.api.openapi import problems
from app.api.queries import ConductivityQuery, PredictQuery
from app.api.schemas import ClassificationAnswer, ConductivityAnswer, PredictionAnswer
from app.api.uploads import receive_upload
from app.serving.answers.as_json import conductivity_alone
from app.serving.service import JsonDocument, PredictionRequest, PredictionService

T = TypeVar("T")
#: How an answer is written in a reply.
Shape = Callable[[JsonDocument], bytes]


router = APIRouter(tags=["predict"])

_ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {
        "model": AcceptedPrediction,
        "description": "Accepted, since `Prefer: respond-async` was sent; `Location` shows status and progress.",
        "headers": {"Location": {"schema": {"type": "string"}, "description": "`/predictions/{id}`"}},
    }
}
_PROBLEMS = problems(400, 401, 403, 404, 408, 413, 415, 422, 429, 503)


@router.post(
    "/predict/barrier",
    summary="Predict the barrier of a hop, or of every hop of a crystal",
    response_model=PredictionAnswer,
    responses={**_ACCEPTED, **_PROBLEMS},
)
async def predict_barrier(
    request: Request, query: Annotated[PredictQuery, Query()], who: Annotated[Caller, Depends(caller)]
) -> Response:
    """Send a JSON band, or a form with one band file, two end points, or a crystal and its ion."""
    return await _answer(request, query, who, _whole)


@router.post(
    "/classify/good-conductor",
    summary="Say whether a hop, or a crystal, conducts well",
    response_model=ClassificationAnswer,
    responses={**_ACCEPTED, **_PROBLEMS},
)
async def classify_good_conductor(
    request: Request, query: Annotated[PredictQuery, Query()], who: Annotated[Caller, Depends(caller)]
) -> Response:
    """Take the same input and give the same answer, with the verdict at its top."""
    return await _answer(request, query, who, verdict_on_top, conductivity="where-known")


@router.post(
    "/predict/conductivity",
    summary="Predict how well a crystal conducts",
    response_model=ConductivityAnswer,
    responses={**_ACCEPTED, **_PROBLEMS},
)
async def predict_conductivity(
    request: Request, query: Annotated[ConductivityQuery, Query()], who: Annotated[Caller, Depends(caller)]
) -> Response:
    """Send a form with one crystal; its hops are predicted, and from how they percolate its conductivity."""
    asked = PredictQuery(model=query.model, max_hops=query.max_hops)
    return await _answer(request, asked, who, _conductivity_alone, conductivity="required")


async def _answer(
    request: Request,
    query: PredictQuery,
    who: Caller,
    shape: Shape,
    *,
    conductivity: Literal["required", "where-known"] | None = None,
) -> Response:
    service: PredictionService = request.state.service
    gate: Gate = request.state.gate
    await gate.demand_rate(request, who)
    body = await request.body()  # before it is parsed: under overload what a refusal costs the others lose
    with service.admit(
        query.model,
        kind=_kind(request),
        size_bytes=len(body),
        second_opinion=query.second_opinion is not None,
    ) as work:
        asked = PredictionRequest(
            upload=await receive_upload(request),
            model=query.model,
            threshold_ev=query.threshold_ev,
            hops=query.hops,
            second_opinion=query.second_opinion,
            conductivity=conductivity,
            key_id=who.key_id,
            request_id=context_of(request).request_id,
            work=work,
        )
        if wants_async(request):
            prediction_id = await service.submit(asked)
            return accepted(await service.get(prediction_id, who.key_id))
        document = await while_connected(request, service.reply(asked))
        return Response(
            shape(document),
            headers={"Server-Timing": f"wait;dur={1e3 * work.waited_s:.1f}"},
            media_type="application/json",
        )


def wants_async(request: Request) -> bool:
    """Whether `Prefer: respond-async` was sent (RFC 7240)."""
    preferences = ",".join(request.headers.getlist("prefer")).split(",")
    return any(preference.split(";")[0].strip().lower() == "respond-async" for preference in preferences)


def _kind(request: Request) -> str:
    """How an upload is sent; one of two, since a figure is kept for each."""
    return "form" if request.headers.get("content-type", "").lower().startswith("multipart/") else "json"


def accepted(stored: Mapping[str, object]) -> Response:
    """Say how far a stored prediction is and where its answer will be."""
    path = f"/predictions/{stored['prediction_id']}"
    body = {name: stored[name] for name in PredictionStatus.model_fields} | {"location": path}
    headers = {"Location": path, "Preference-Applied": "respond-async"}
    return Response(orjson.dumps(body), 202, headers, media_type="application/json")


def verdict_on_top(document: JsonDocument) -> bytes:
    """Write the verdict, its probability and its threshold before the rest of an answer, and how likely it conducts."""
    good = document["good_conductor"]
    assert isinstance(good, dict)
    conductivity = document.get("conductivity")
    above = conductivity["probability_above"]["1e-4"] if isinstance(conductivity, dict) else None
    top = {name: good[name] for name in ("verdict", "probability", "threshold_ev")}
    return orjson.dumps({**top, "probability_above_1e-4_s_per_cm": above})[:-1] + b"," + document.text[1:]


def _whole(document: JsonDocument) -> bytes:
    return document.text


def _conductivity_alone(document: JsonDocument) -> bytes:
    return orjson.dumps(conductivity_alone(document))


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await work, and cancel it when the client disconnects.

    Raises:
        ClientDisconnect: the client left.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass  # an empty rest of the body
