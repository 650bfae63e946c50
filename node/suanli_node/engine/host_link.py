"""Calls to the Ray host over its Unix socket: JSON lines, one call at a time on each connection."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any

from suanli_protocol.errors import ExecutionError, NotFoundError, TimedOutError


class HostLink:
    """A pool of connections to one socket; safe for threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()

    def call(self, name: str, limit_s: float, /, **arguments: Any) -> Any:
        """The call's result; its own error if it raised one, ExecutionError if the host cannot be reached."""
        line = json.dumps({"call": name, "arguments": arguments}).encode() + b"\n"
        connection, used = self._take()
        try:
            connection.settimeout(limit_s)
            connection.sendall(line)
            answer = json.loads(_line(connection))
        except TimeoutError:
            connection.close()
            raise TimedOutError(f"the Ray host did not answer {name} within {limit_s:.0f} s") from None
        except (OSError, ValueError) as error:
            connection.close()
            if used:  # it may be of a host that is gone; every call can be made twice
                self.close()
                return self.call(name, limit_s, **arguments)
            raise _unreachable(error) from None
        with self._lock:
            self._idle.append(connection)
        if "error" in answer:
            raise _error(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def _take(self) -> tuple[socket.socket, bool]:
        """A connection, and whether it was used before."""
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(5.0)
        try:
            folder = os.open(self._path.parent, os.O_PATH)
            try:
                connection.connect(f"/proc/self/fd/{folder}/{self._path.name}")  # short, however deep it lies
            finally:
                os.close(folder)
        except OSError as error:
            connection.close()
            raise _unreachable(error) from None
        return connection, False


def _line(connection: socket.socket) -> bytes:
    pieces: list[bytes] = []
    while not pieces or not pieces[-1].endswith(b"\n"):
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("the connection was closed")
        pieces.append(piece)
    return b"".join(pieces)


def _unreachable(error: Exception) -> ExecutionError:
    return ExecutionError(f"the Ray host cannot be reached: {error}", code="ray_host", hint="restart the node")


def _error(problem: dict[str, Any]) -> ExecutionError | NotFoundError:
    kind = NotFoundError if problem["code"] == NotFoundError.code else ExecutionError
    return kind(problem["detail"], hint=problem["hint"], code=problem["code"])
