"""The HTTP server: uvicorn on a socket that is bound before anything else, ready when it says so."""

from __future__ import annotations

import gc
import json
import resource
import signal
import socket
import sys
from types import FrameType

import uvicorn

from suanli_market.api.app import create_app
from suanli_market.services import Services
from suanli_protocol.connections import Connection
from suanli_protocol.errors import ConfigurationError

GRACE_S = 3
GC_OBJECTS = 10_000
CONNECTIONS_MAX = 2_000


class Server(uvicorn.Server):
    """Says `ready` on stdout when it accepts requests; ends event streams as soon as it is asked to end."""

    def __init__(self, config: uvicorn.Config, services: Services, url: str) -> None:
        super().__init__(config)
        self._services = services
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, then tells who is ready where."""
        await super().startup(sockets=sockets)
        if self.should_exit:
            return
        info = self._services.info
        facts = {"url": self._url, "address": info.address, "escrow": info.escrow, "chainId": info.chain_id}
        sys.stdout.write(f"ready {json.dumps(facts)}\n")
        sys.stdout.flush()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM, SIGINT."""
        self._services.hub.close()
        super().handle_exit(sig, frame)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; ConfigurationError if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"{host}:{port} cannot be listened on: {error.strerror}", hint="free the port, or name another with --port"
        ) from None
    return listener


def connections_max() -> int:
    """How many connections are taken, half of what the system lets this process open: the rest is for files and chain.

    The process asks for as much as the system would give it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return min(CONNECTIONS_MAX, soft // 2) if soft != resource.RLIM_INFINITY else CONNECTIONS_MAX


def serve(services: Services, listener: socket.socket) -> None:
    """Serves until SIGTERM or SIGINT; returns when everything is closed."""
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        create_app(services),
        http=Connection,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=75,
        limit_concurrency=connections_max(),
    )
    gc.collect()
    gc.freeze()  # what is loaded by now stays; walking it over and over would cost a quarter of all requests
    gc.set_threshold(GC_OBJECTS, 20, 20)
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, signal.SIG_IGN)  # uvicorn raises the signal again when it is done; we then end with 0
    Server(config, services, f"http://{host}:{port}").run(sockets=[listener])
