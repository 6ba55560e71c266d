"""Runs the service in one uvicorn process, until SIGTERM and then until accepted work is done."""

import asyncio
import math
import signal
import socket
import sys
import time

import structlog
import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.console.exposure import CannotServeError
from app.main import configure_logging, create_app
from app.models.cards.card import CheckpointError
from app.serving.worker_process import freeze_gc
from app.settings import Settings, ignored_settings

_log = structlog.get_logger("ionpath.serve")


class _Start:
    """Collects known causes of a failed start, for `run` to print; unknown ones stay a traceback.

    Attributes:
        fault: why it did not start.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.fault: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: list[Message] = []

        async def hold_failure(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                failed.append(message)  # holds the traceback, which is printed only if the cause is not a known one
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_failure)
        except (CheckpointError, SQLAlchemyError, ValueError, OSError) as error:
            if not failed:
                raise
            _log.debug("start-failed", exc_info=error)
            self.fault = error
            await send({"type": "lifespan.startup.failed", "message": ""})
        except BaseException:
            for message in failed:
                await send(message)
            raise


class _Server(uvicorn.Server):
    """Prints the address once the server is ready (with port 0 it is not known before), and reports a stop in advance.

    Args:
        config: uvicorn's.
        app: the application, whose readiness ends with the first signal.
        notice_s: how long it still answers after that, so that a proxy can choose another replica, seconds.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, notice_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._notice_s = notice_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.stopping = True
        until_s = time.monotonic() + self._notice_s
        while time.monotonic() < until_s and not self.force_exit:  # noqa: ASYNC110 # uvicorn's flag of a second Ctrl-C
            await asyncio.sleep(_NOTICE_STEP_S)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            return
        freeze_gc()
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"ionpath answers at http://{shown}:{port} (OpenAPI page: /docs)\n")
        sys.stdout.flush()


#: Every operation of a forward pass asks for the interpreter again, behind threads that read and answer; at the
#: interpreter's own 5 ms they waited so long that a tenth of the throughput was lost.
_SWITCH_INTERVAL_S = 0.0005
_NOTICE_STEP_S = 0.05


def run(settings: Settings) -> None:
    """Serve until a signal stops it; `check_exposure` has accepted the settings.

    Raises:
        CannotServeError: a checkpoint, the prediction log or an address cannot be used.
        SystemExit: it could not start; the log says why.
    """
    configure_logging(settings)
    for problem in ignored_settings():
        _log.warning("setting_ignored", problem=problem)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    application = create_app(settings)
    app = _Start(application)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
    )
    server = _Server(config, application, settings.drain_notice_s)
    bound = _bound(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises a signal again once it has stopped; a stop by signal is a normal exit, with status 0.
        signal.signal(number, lambda _number, _frame: None)
    try:
        server.run(sockets=[bound])
    except SystemExit:  # uvicorn's, where the app did not start
        if app.fault is None:
            raise
        raise CannotServeError(_words(app.fault)) from app.fault
    if not server.started:
        raise SystemExit(3)


def _bound(settings: Settings) -> socket.socket:
    """The address, taken before anything is loaded: loading takes long, and then it may turn out to be another's.

    Raises:
        CannotServeError: it cannot be had.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        raise CannotServeError(
            f"{settings.host} port {settings.port} cannot be had: {error.strerror}. --port (IONPATH_PORT) names "
            "another, and 0 takes a free one."
        ) from error
    bound.set_inheritable(True)
    return bound


def _words(fault: Exception) -> str:
    """A fault as one line; a database's without the statement and the links that SQLAlchemy adds."""
    if isinstance(fault, SQLAlchemyError):
        message = str(getattr(fault, "orig", None) or fault).strip().splitlines()[0]
        return f"The prediction log (IONPATH_DATABASE_URL) cannot be used: {message}"
    return str(fault) if isinstance(fault, CheckpointError) else f"The service cannot start: {fault}"
