"""The OpenAPI document: built once, with the problems that each call may return."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.examples import PREFER_HEADER, bulk_body, crystal_body, upload_body
from app.api.problems import MEDIA_TYPE
from app.api.schemas import Problem

CONDUCTIVITY_PATH = "/predict/conductivity"
UPLOAD_PATHS = ("/predict/barrier", "/classify/good-conductor")
BULK_PATH = "/predict/properties"
DESCRIPTION = """\
How high a barrier must an ion climb to hop through a crystal? Send a band, two end points or a crystal; a barrier in eV
comes back in milliseconds, with an interval, whether it is below a threshold, and whether the input is in the domain of
the model.

Lengths are in angstrom, energies in eV, coordinates fractional. Every example below can be sent unchanged; its files
are at [/static/examples/](/static/examples/README.md).
"""

_MEANINGS = {
    400: "The bytes are not what they claim to be.",
    401: "An API key is required.",
    403: "Not allowed here.",
    404: "It does not exist, or belongs to another key.",
    406: "The requested format is not available; the problem lists those that are.",
    408: "The body took too long to arrive.",
    409: "It has no answer: it is queued, running or failed.",
    413: "Too many bytes, atoms, images or files; the detail names the setting.",
    415: "Neither JSON nor a form.",
    422: "The input can be read but is invalid.",
    429: "The service is at capacity, or the caller is over its rate; retry after `Retry-After` seconds.",
    503: "The service is starting or stopping, or a component that it needs is unavailable.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for the problems that it may return."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _MEANINGS[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """The document of an app, built once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own error format is never sent
            schemas.pop(unused, None)
        components["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        for path in UPLOAD_PATHS:
            call = document["paths"][path]["post"]
            call["requestBody"] = upload_body()
            call["parameters"].append(PREFER_HEADER)
        document["paths"][BULK_PATH]["post"]["requestBody"] = bulk_body()
        conductivity = document["paths"][CONDUCTIVITY_PATH]["post"]
        conductivity["requestBody"] = crystal_body()
        conductivity["parameters"].append(PREFER_HEADER)
        document["security"] = [{}, {"key": []}, {"bearer": []}]
        app.openapi_schema = document
    return app.openapi_schema
