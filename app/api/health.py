"""`/health/live`, `/health/ready` and `/metrics`."""

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from app.api.auth import Caller, Gate, caller
from app.api.openapi import problems
from app.api.queries import NoQuery
from app.api.schemas import Live, Ready
from app.serving.predictions import Check
from app.serving.service import PredictionService

router = APIRouter(tags=["operation"])


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live", summary="Is the process there?", response_model=Live)
async def live() -> Response:
    """Answer as long as the event loop turns."""
    return Response(b'{"status":"alive"}', media_type="application/json")


@router.head("/health/ready", include_in_schema=False)
@router.get(
    "/health/ready",
    summary="Can it answer?",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "A part that it needs is away; the checks say which."}},
)
async def ready(request: Request) -> Response:
    """Ask the model, the cache, the log and the writer, each really."""
    service: PredictionService = request.state.service
    checks = await service.ready()
    if request.app.state.stopping:
        checks["stopping"] = Check(ok=False, detail="the service is stopping; send requests to another replica")
    ok = all(check.ok or not check.required for check in checks.values())
    body = {"status": "ready" if ok else "not ready", "checks": checks}
    return Response(orjson.dumps(body), 200 if ok else 503, media_type="application/json")


@router.get(
    "/metrics", summary="Prometheus' text format", response_class=PlainTextResponse, responses=problems(401, 403)
)
async def metrics(
    request: Request, _query: Annotated[NoQuery, Query()], _who: Annotated[Caller, Depends(caller)]
) -> Response:
    """Give queue, batches, seconds by stage, cache hits, and errors by kind."""
    gate: Gate = request.state.gate
    gate.demand_metrics()
    service: PredictionService = request.state.service
    return Response(service.metrics.render(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
