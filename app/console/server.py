"""Runs the service in one uvicorn process, until SIGTERM and then until accepted work is done."""

import math
import signal
import socket
import sys

import uvicorn

from app.main import configure_logging, create_app
from app.settings import Settings


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
    """Serve until told to stop; the settings were let through by `check_exposure`.

    Raises:
        SystemExit: it could not start; the log says why.
    """
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
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises a signal again once it has stopped; being told to stop is a good end, with status 0.
        signal.signal(number, lambda _number, _frame: None)
    server.run()
    if not server.started:
        raise SystemExit(3)
