"""The web page, the OpenAPI page, and the static files of both; nothing is loaded from another host."""

from pathlib import Path

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from app.api.examples import FOLDER as EXAMPLES
from app.api.openapi import describe

WEB = Path(__file__).resolve().parent.parent / "web"

_SELF_ALONE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SWAGGER = _SELF_ALONE.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")  # it styles its icons inline

router = APIRouter(include_in_schema=False)


@router.head("/")
@router.get("/")
async def page() -> Response:
    """Serve the web page."""
    return _html("index.html", _SELF_ALONE)


@router.head("/docs")
@router.get("/docs")
async def docs() -> Response:
    """Serve the OpenAPI page."""
    return _html("docs.html", _SWAGGER)


@router.get("/favicon.ico")
async def icon() -> Response:
    """Serve the icon that browsers request."""
    return FileResponse(WEB / "static" / "icon.svg", headers={"Cache-Control": "no-cache"})


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """Serve the OpenAPI document."""
    app: FastAPI = request.app
    return Response(orjson.dumps(describe(app)), media_type="application/json")


def add_static_files(app: FastAPI) -> None:
    """Mount the pages' static files and the examples."""
    app.mount("/static/examples", _Files(directory=EXAMPLES))
    app.mount("/static", _Files(directory=WEB / "static"))


def _html(name: str, policy: str) -> Response:
    return FileResponse(WEB / name, headers={"Content-Security-Policy": policy, "Cache-Control": "no-cache"})


class _Files(StaticFiles):
    """Static files that browsers cache and revalidate on each use."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"cache-control", b"no-cache")]
            await send(message)

        await super().__call__(scope, receive, send_with_header)
