"""`POST /predict/properties`: the bulk properties of a crystal."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from app.api.auth import Caller, Gate, caller
from app.api.context import context_of
from app.api.openapi import problems
from app.api.predict import while_connected
from app.api.property_schemas import BulkProperties, PropertiesQuery
from app.api.uploads import read_bulk_upload
from app.serving.bulk_properties import PropertiesRequest, properties_to_json
from app.serving.service import PredictionService

router = APIRouter(tags=["predict"])


@router.post(
    "/predict/properties",
    summary="Predict the bulk properties of a crystal",
    response_model=BulkProperties,
    responses=problems(400, 401, 403, 404, 408, 413, 415, 422, 429, 503),
)
async def predict_properties(
    request: Request, query: Annotated[PropertiesQuery, Query()], who: Annotated[Caller, Depends(caller)]
) -> Response:
    """Send a form with one ordered crystal; the answer is neither cached nor logged."""
    service: PredictionService = request.state.service
    gate: Gate = request.state.gate
    await gate.demand_rate(request, who)
    asked = PropertiesRequest(
        upload=await read_bulk_upload(request), model=query.model, request_id=context_of(request).request_id
    )
    answer = await while_connected(request, service.properties.predict(asked))
    return Response(orjson.dumps(properties_to_json(answer)), media_type="application/json")
