"""`GET /models` and `GET /models/{name}`: the cards of what can answer."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.auth import caller
from app.api.openapi import problems
from app.api.queries import NoQuery
from app.api.schemas import ModelList
from app.serving.service import PredictionService

router = APIRouter(tags=["models"], dependencies=[Depends(caller)])


@router.get("/models", summary="List the checkpoints", response_model=ModelList, responses=problems(401, 403, 422))
async def list_models(request: Request, _query: Annotated[NoQuery, Query()]) -> Response:
    """Give the cards of every checkpoint, and which one answers where none is named."""
    service: PredictionService = request.state.service
    registry = service.registry
    return Response(
        orjson.dumps({"default": registry.default_name, "models": registry.cards()}), media_type="application/json"
    )


@router.get(
    "/models/{name}", summary="Show a checkpoint's card", response_model=dict[str, Any], responses=problems(401, 404)
)
async def show_model(request: Request, name: str, _query: Annotated[NoQuery, Query()]) -> Response:
    """Give one card: network, training data, folds' metrics with intervals, licence, citations, digest."""
    service: PredictionService = request.state.service
    return Response(orjson.dumps(service.registry.card(name)), media_type="application/json")
