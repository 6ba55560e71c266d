"""The OpenAPI document: built once, with the problems each call may answer."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.examples import PREFER_HEADER, bulk_body, upload_body
from app.api.problems import MEDIA_TYPE
from app.api.schemas import Problem

UPLOAD_PATHS = ("/predict/barrier", "/classify/good-conductor")
BULK_PATH = "/predict/properties"
DESCRIPTION = """\
How high a barrier must an ion climb to hop through a crystal? Send a band, two end points or a crystal; a barrier in eV
comes back in milliseconds, with an interval, whether it is below a threshold, and whether the input resembles what the
model was fitted on.

Lengths are in angstrom, energies in eV, coordinates fractional. Every example below can be sent as it stands; its files
are at [/static/examples/](/static/examples/README.md).
"""

_MEANINGS = {
    400: "The bytes are not what they claim to be.",
    401: "An API key is needed.",
    403: "Not allowed here.",
    404: "There is no such thing, or it is another key's.",
    406: "A form that is not given here; the problem lists those that are.",
    408: "The body took too long to arrive.",
    409: "It has no answer: it waits, it runs, or it failed.",
    413: "Too many bytes, atoms, images or files; the detail names the setting.",
    415: "Neither JSON nor a form.",
    422: "The input can be read but makes no sense.",
    429: "Too much is waiting already, or you ask too often; come back after `Retry-After` seconds.",
    503: "The service is starting, stopping, or a part that it needs is away.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What to put among a route's responses for the problems it may answer."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _MEANINGS[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }


def describe(app: FastAPI) -> dict[str, Any]:
    """Write the document of an app, and keep it."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form of an error is never sent
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
        document["security"] = [{}, {"key": []}, {"bearer": []}]
        app.openapi_schema = document
    return app.openapi_schema
