"""The application: settings in, an ASGI app out, everything closed in reverse."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import TypedDict

import structlog
from fastapi import FastAPI
from prometheus_client import start_http_server

from app.api import health, models, pages, predict, predictions, properties
from app.api.auth import Gate
from app.api.middleware import AccessLog, BodyLimit
from app.api.openapi import describe
from app.api.problems import add_problem_handlers
from app.serving.service import PredictionService, open_service
from app.settings import Settings


class State(TypedDict):
    """What every request finds in request.state."""

    settings: Settings
    service: PredictionService
    gate: Gate


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application; nothing is opened before it starts.

    Args:
        settings: what is set; read from IONPATH_* where left out.
    """
    chosen = settings or Settings()
    app = FastAPI(
        title="ionpath",
        version=version("ionpath"),
        lifespan=_lifespan(chosen),
        docs_url=None,  # the framework's own page loads from another host
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.stopping = False  # set by the server when it stops; /health/ready reports it
    app.openapi = lambda: describe(app)  # type: ignore[method-assign] # FastAPI's documented way to extend it
    for module in (predict, properties, models, predictions, health, pages):
        app.include_router(module.router)
    pages.add_static_files(app)
    add_problem_handlers(app)
    app.add_middleware(BodyLimit, max_body_bytes=chosen.max_body_bytes, body_timeout_s=chosen.body_timeout_s)
    app.add_middleware(AccessLog)  # added last, so outermost
    return app


def _lifespan(settings: Settings) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            gate = Gate(settings)
            stack.push_async_callback(gate.rates.aclose)
            service = await stack.enter_async_context(open_service(settings))
            service.metrics.rates_alone.set_function(lambda: gate.rates.counted_alone)
            if settings.metrics_port is not None:
                _serve_metrics(stack, service, settings.metrics_host, settings.metrics_port)
            yield State(settings=settings, service=service, gate=gate)

    return lifespan


def _serve_metrics(stack: AsyncExitStack, service: PredictionService, host: str, port: int) -> None:
    server, thread = start_http_server(port, host, service.metrics.registry)
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)


def configure_logging(settings: Settings) -> None:
    """Log to standard error: one JSON object a line, or text for a terminal."""
    level = getattr(logging, settings.log_level.upper())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        # Plain: the default prints every frame's variables, headers with keys among them.
        else [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("uvicorn.access").disabled = True  # the access log is the app's own
