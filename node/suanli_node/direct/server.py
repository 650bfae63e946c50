"""The direct desk's server: uvicorn on its own thread, on a socket that is bound before all else."""

from __future__ import annotations

import socket
import threading

import uvicorn
from starlette.types import ASGIApp

from suanli_protocol.connections import Connection
from suanli_protocol.errors import ConfigurationError, UsageError

CONNECTIONS_MAX = 128
GRACE_S = 2


def bind(address: str) -> socket.socket:
    """A listening socket for HOST:PORT; UsageError if that is no address, ConfigurationError if it cannot be had."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise UsageError(f"--listen: {address!r:.80} is no HOST:PORT", hint="write, for example, 127.0.0.1:7750")
    host = host.strip("[]")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, int(port)))
        listener.listen(CONNECTIONS_MAX)  # who comes before the server runs waits for it
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"{address} cannot be listened on: {error.strerror}", hint="name another") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """The address that a client is given."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class DirectServer:
    """Serves an application until it is closed."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_S,
            limit_concurrency=CONNECTIONS_MAX,
        )
        self._server, self._listener = uvicorn.Server(config), listener
        self._thread = threading.Thread(target=self._run, name="direct", daemon=True)

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def close(self) -> None:
        """Ends; open requests have a moment."""
        self._server.should_exit = True
        self._thread.join(GRACE_S + 3)

    def _run(self) -> None:
        self._server.run(sockets=[self._listener])
