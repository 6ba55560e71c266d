"""`GET /predictions`, `GET` and `DELETE /predictions/{id}`: what was logged, each key its own."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from app.api import forms
from app.api.auth import Caller, Gate, caller
from app.api.log_schemas import PredictionPage, StoredPrediction
from app.api.openapi import problems
from app.api.queries import FormQuery, ListQuery, NoQuery
from app.serving.service import PredictionService

router = APIRouter(tags=["predictions"])


@router.get(
    "/predictions",
    summary="List what was predicted, newest first",
    response_model=PredictionPage,
    responses=problems(401, 403, 422, 503),
)
async def list_predictions(
    request: Request, query: Annotated[ListQuery, Query()], who: Annotated[Caller, Depends(caller)]
) -> Response:
    """Filter and page through the predictions of the caller's key."""
    gate: Gate = request.state.gate
    gate.demand_listing()
    service: PredictionService = request.state.service
    page = await service.list(who.key_id, query)
    return Response(orjson.dumps(page), media_type="application/json")


@router.get(
    "/predictions/{prediction_id}",
    summary="Show one prediction, or how far it is",
    response_model=StoredPrediction,
    responses={200: forms.OPENAPI, **problems(401, 403, 404, 406, 409, 413, 422, 429, 503)},
)
async def show_prediction(
    request: Request,
    prediction_id: UUID,
    query: Annotated[FormQuery, Query()],
    who: Annotated[Caller, Depends(caller)],
) -> Response:
    """Find a prediction at once, even before its row is written; done ones also as CSV, NEB folders or NEB frames.

    `?format=` says in which form, or else the Accept header does.
    """
    service: PredictionService = request.state.service
    form = forms.asked_form(query.format, request.headers.getlist("accept"))
    if form.export is None:
        content = orjson.dumps(await service.get(prediction_id, who.key_id))
    else:
        content = await service.export(prediction_id, who.key_id, form.export)
    return Response(content, headers=form.headers(prediction_id))


@router.delete(
    "/predictions/{prediction_id}",
    summary="Delete a prediction and its stored input",
    status_code=204,
    responses=problems(401, 403, 404, 422, 503),
)
async def delete_prediction(
    request: Request,
    prediction_id: UUID,
    _query: Annotated[NoQuery, Query()],
    who: Annotated[Caller, Depends(caller)],
) -> Response:
    """Forget it: the row, its answer and its input."""
    service: PredictionService = request.state.service
    await service.delete(prediction_id, who.key_id)
    return Response(status_code=204)
