"""Requests to one plain http:// address over kept connections: a third of the work of a whole HTTP client."""

from __future__ import annotations

import re
import select
import time
from collections import deque
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple, Self
from urllib.parse import urlsplit

KEPT_MAX = 20  # connections
KEPT_S = 5.0  # without use
_PLAIN = re.compile(r"http://([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(/[!-~]*)?")


class PlainHttpError(Exception):
    """There was no whole answer; the text says why."""


class _Kept(NamedTuple):
    connection: HTTPConnection
    since: float


class PlainHttp:
    """Thread-safe. `timeout_s` bounds each step: to connect, to send, to receive a part. No proxy, no redirect."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._base = parts.path.rstrip("/")
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout_s = timeout_s
        self._kept: deque[_Kept] = deque()

    @classmethod
    def of(cls, url: str, *, timeout_s: float) -> Self | None:
        """For an address that needs nothing more: no TLS, no password, no name beyond ASCII; else None."""
        return cls(url, timeout_s=timeout_s) if _PLAIN.fullmatch(url) and _has_port(url) else None

    def close(self) -> None:
        """Closes the connections that nobody uses."""
        while self._kept:
            self._kept.pop().connection.close()

    def post_json(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer of the address itself; PlainHttpError if there is none."""
        return self._request("POST", self._target, body, {"Content-Type": "application/json"})

    def request(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """The same of what lies below the address at `target` (path and query, in ASCII)."""
        return self._request(method, self._base + target, body, headers)

    def _request(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = self._connection()
        try:
            connection.request(method, target, body or None, headers)
            with connection.getresponse() as answer:
                found = answer.status, answer.read()
        except (OSError, HTTPException) as error:
            connection.close()
            raise PlainHttpError(str(error) or type(error).__name__) from error
        except BaseException:
            connection.close()  # half an answer would be taken for the next one's
            raise
        self._keep(connection)
        return found

    def _connection(self) -> HTTPConnection:
        """The last one that was used, if it still stands; what the server closed meanwhile is never written to."""
        while self._kept:
            try:
                connection, since = self._kept.pop()
            except IndexError:  # another thread took the last
                break
            if time.monotonic() - since < KEPT_S and not _is_readable(connection):
                return connection
            connection.close()
        return HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _keep(self, connection: HTTPConnection) -> None:
        if connection.sock is None:  # the server closes after this answer
            return
        if len(self._kept) >= KEPT_MAX:
            connection.close()
            return
        self._kept.append(_Kept(connection, time.monotonic()))


def _has_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _is_readable(connection: HTTPConnection) -> bool:
    """Whether something came without being asked for, such as the end."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
