"""Errors as application/problem+json (RFC 9457): what was wrong, where, and what would be right."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.api.context import context_of
from app.api.uploads import FORM_FIELDS
from app.errors import (
    BusyError,
    FormatError,
    InputError,
    IonpathError,
    NotFoundError,
    TooLargeError,
    TooSlowError,
    UnauthorizedError,
    UnsupportedError,
)

MEDIA_TYPE = "application/problem+json"
#: A name and no address: it stays the same wherever the service runs. docs/http.md lists the kinds.
KIND_PREFIX = "urn:ionpath:problem:"

#: HTTP's own errors that have an error of ours, so that each status has one title.
_OURS: Mapping[int, type[IonpathError]] = {
    400: FormatError,
    401: UnauthorizedError,
    404: NotFoundError,
    413: TooLargeError,
    415: UnsupportedError,
}


def problem_response(
    error: IonpathError, *, request_id: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Shape an error into a reply, with Retry-After where it says when to come back."""
    body: dict[str, object] = {
        "type": KIND_PREFIX + error.kind,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "kind": error.kind,
        "where": error.where,
        "expected": error.expected,
        "request_id": request_id,
    }
    present = {name: _scrubbed(value) for name, value in body.items() if value is not None}
    return Response(
        orjson.dumps(present), error.status, {**_own_headers(error), **(headers or {})}, media_type=MEDIA_TYPE
    )


def _scrubbed(value: object) -> object:
    """Text with lone surrogates written out: what was sent is quoted, and they have no UTF-8."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _own_headers(error: IonpathError) -> dict[str, str]:
    if isinstance(error, BusyError):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, UnauthorizedError):
        return {"WWW-Authenticate": 'Bearer realm="ionpath"'}
    if isinstance(error, TooSlowError):
        return {"Connection": "close"}  # or a client that sends a byte at a time keeps it open
    return {"Retry-After": "5"} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else {}


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of ours, of the framework and of validation as a problem."""
    app.add_exception_handler(IonpathError, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)


def _reply(request: Request, error: IonpathError, headers: Mapping[str, str] | None = None) -> Response:
    context = context_of(request)
    context.problem_kind = error.kind
    return problem_response(error, request_id=context.request_id, headers=headers)


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, IonpathError)
    return _reply(request, error)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _reply(request, _from_http(request, error), error.headers)


def _from_http(request: Request, error: HTTPException) -> IonpathError:
    path = request.scope["path"]  # request.url is built from the Host header, whatever stands there
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFoundError(f"There is nothing at {path}.", expected="One of the paths that /docs lists.")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        return MethodNotAllowedError(f"{request.method} cannot be used on {path}.", expected=allowed)
    ours = _OURS.get(error.status_code, InputError)
    return ours(str(error.detail))


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _reply(request, _from_validation(error.errors(), _known_names(request), _form_fields(request)))


def _known_names(request: Request) -> str:
    """The query parameters of the route that was called."""
    route = request.scope.get("route")
    fields = getattr(getattr(route, "dependant", None), "query_params", [])
    names = [
        name for field in fields for name in getattr(field.field_info.annotation, "model_fields", {field.alias: None})
    ]
    return ", ".join(sorted(names)) or "none"


def _form_fields(request: Request) -> frozenset[str]:
    """What the form may hold that the called route takes."""
    return FORM_FIELDS.get(getattr(request.scope.get("route"), "path", ""), frozenset())


def _from_validation(errors: Sequence[Mapping[str, object]], known: str, form_fields: frozenset[str]) -> InputError:
    first = errors[0]
    location = first.get("loc", ())
    assert isinstance(location, tuple | list)
    place, field = str(location[0]), ".".join(str(part) for part in location[1:])
    where = f"{place} parameter {field}" if place in {"query", "path"} else f"{place} {field}".strip()
    if first.get("type") == "extra_forbidden":
        of_form = f"{field!r} as a field of the form, not of the address. " if field in form_fields else ""
        return InputError(
            f"There is no query parameter {field!r}.",
            kind="unknown-parameter",
            where=where,
            expected=f"{of_form}The known query parameters are: {known}.",
        )
    return InputError(
        f"{field} = {_short(first.get('input'))} is not valid.",
        kind="invalid-parameter",
        where=where,
        expected=str(first.get("msg", "")) or None,
    )


def _short(value: object, most: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= most else text[:most] + "..."


class MethodNotAllowedError(IonpathError):
    """The path exists, the method does not."""

    status = 405
    title = "Method not allowed"
    default_kind = "method-not-allowed"


class InternalError(IonpathError):
    """A fault of the service itself: the detail names the request id and nothing inside."""


class NotAcceptableError(IonpathError):
    """A form of the answer that is not written here."""

    status = 406
    title = "Requested format not available"
    default_kind = "not-acceptable"
