"""Requests to one plain http:// address over kept connections: a third of the work of a whole HTTP client."""

from __future__ import annotations

import re
import select
import socket
import time
from collections import deque
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

from suanli_protocol import answers
from suanli_protocol.answers import AnswerError, Patience

KEPT_MAX = 20  # connections
KEPT_S = 5.0  # without use
_PLAIN = re.compile(r"http://([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?(/[!-~]*)?")


class PlainHttpError(AnswerError):
    """There was no whole answer; the text says why."""


class _Socket(socket.socket):
    """Waits as long as the exchange's patience lasts, not as long for each part as for all."""

    patience: Patience
    received = 0

    def recv_into(self, *args: Any) -> int:
        """The next part; TimeoutError if it does not come in time."""
        self.settimeout(self.patience.left_s(self.received))
        size = super().recv_into(*args)
        self.received += size
        return size


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock: Any = _Socket(fileno=self.sock.detach())

    def begin(self, patience: Patience) -> None:
        """One exchange begins."""
        self.timeout = patience.left_s()
        if self.sock is None:
            self.connect()
        self.sock.patience, self.sock.received = patience, 0
        self.sock.settimeout(patience.left_s())


class _Kept(NamedTuple):
    connection: _Connection
    since: float


class PlainHttp:
    """Thread-safe. `timeout_s`, and the bytes at some least speed, bound an exchange; so does the size of an answer.

    No proxy, no redirect.
    """

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
            connection.begin(Patience(self._timeout_s, len(body)))
            connection.request(method, target, body or None, headers)
            with connection.getresponse() as answer:
                found = answer.status, _whole(answer)
        except (OSError, HTTPException, AnswerError) as error:
            connection.close()
            raise PlainHttpError(str(error) or type(error).__name__) from error
        except BaseException:
            connection.close()  # half an answer would be taken for the next one's
            raise
        self._keep(connection)
        return found

    def _connection(self) -> _Connection:
        """The last one that was used, if it still stands; what the server closed meanwhile is never written to."""
        while self._kept:
            try:
                connection, since = self._kept.pop()
            except IndexError:  # another thread took the last
                break
            if time.monotonic() - since < KEPT_S and not _is_readable(connection):
                return connection
            connection.close()
        return _Connection(self._host, self._port, timeout=self._timeout_s)

    def _keep(self, connection: _Connection) -> None:
        if connection.sock is None:  # the server closes after this answer
            return
        if len(self._kept) >= KEPT_MAX:
            connection.close()
            return
        self._kept.append(_Kept(connection, time.monotonic()))


def _whole(answer: HTTPResponse) -> bytes:
    if answer.length is not None and answer.length <= answers.ANSWER_BYTES_MAX:
        return answer.read()
    content = b"" if answer.length is not None else answer.read(answers.ANSWER_BYTES_MAX + 1)
    if answer.length is not None or len(content) > answers.ANSWER_BYTES_MAX:
        raise answers.too_large()
    return content


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
