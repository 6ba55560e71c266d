"""Runs the service in one uvicorn process, until SIGTERM and then until accepted work is done."""

import math
import socket
import sys

import uvicorn

from app.api.auth import is_loopback
from app.main import configure_logging, create_app
from app.serving.keys import ApiKeys, KeysFileError
from app.settings import Settings


class CannotServeError(Exception):
    """What is set does not allow to serve; the message says what would."""


class _Server(uvicorn.Server):
    """Prints where it answers once it does: with port 0 nobody knows before."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            return
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"ionpath answers at http://{shown}:{port} (OpenAPI page: /docs)\n")
        sys.stdout.flush()


def run(settings: Settings) -> None:
    """Serve until told to stop.

    Raises:
        CannotServeError: no keys, an address that others reach, and IONPATH_ALLOW_ANONYMOUS is not set; or a
            keys file that cannot be read.
        SystemExit: it could not start; the log says why.
    """
    if not (settings.api_keys_file or settings.allow_anonymous or is_loopback(settings.host)):
        message = (
            f"{settings.host} can be reached by others and no API keys are set. Set IONPATH_API_KEYS_FILE "
            "(`ionpath keys new NAME --file FILE` makes one), or IONPATH_ALLOW_ANONYMOUS=1 to let everybody predict."
        )
        raise CannotServeError(message)
    if settings.api_keys_file:
        try:
            ApiKeys.load(settings.api_keys_file)
        except KeysFileError as error:
            raise CannotServeError(str(error)) from error
    configure_logging(settings)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
    )
    server = _Server(config)
    server.run()
    if not server.started:
        raise SystemExit(3)
