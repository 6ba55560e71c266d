"""`GET /predictions`, `GET` and `DELETE /predictions/{id}`: what was logged, each key its own."""

from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.auth import Caller, Gate, caller
from app.api.openapi import problems
from app.api.schemas import ListQuery, NoQuery, PredictionPage, StoredPrediction
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
    responses=problems(401, 403, 404, 422, 503),
)
async def show_prediction(
    request: Request,
    prediction_id: UUID,
    _query: Annotated[NoQuery, Query()],
    who: Annotated[Caller, Depends(caller)],
) -> Response:
    """Find a prediction at once, even before its row is written."""
    service: PredictionService = request.state.service
    stored = await service.get(prediction_id, who.key_id)
    return Response(orjson.dumps(stored), media_type="application/json")


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
