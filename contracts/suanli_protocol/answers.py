"""How large the answer of a stranger's server may be, and how long it may take, however slowly it comes."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

ANSWER_BYTES_MAX = 64 * 1024 * 1024
BYTES_PER_S_MIN = 64 * 1024


class AnswerError(Exception):
    """There was no whole answer; the text says why."""


class Patience:
    """The time of one exchange: `timeout_s`, and its bytes, sent and received, at BYTES_PER_S_MIN."""

    def __init__(self, timeout_s: float, sent: int = 0) -> None:
        self._end = time.monotonic() + timeout_s + sent / BYTES_PER_S_MIN
        self.received = 0  # bytes of the answer's body so far

    def left_s(self, received: int = 0) -> float:
        """What is left of it; AnswerError if nothing."""
        left = self._end + received / BYTES_PER_S_MIN - time.monotonic()
        if left <= 0:
            raise AnswerError("timed out: the answer comes too slowly")
        return left


_PATIENCE: ContextVar[Patience | None] = ContextVar("patience", default=None)


@contextmanager
def _bounded(patience: Patience) -> Iterator[None]:
    """What PatientSockets do in this thread meanwhile takes no longer than the patience lasts."""
    token = _PATIENCE.set(patience)
    try:
        yield
    finally:
        _PATIENCE.reset(token)


class PatientSocket(ssl.SSLSocket):
    """Waits for each part as long as the exchange's patience lasts, where httpx would wait as long again for each."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """The next part; TimeoutError if it does not come in time, AnswerError if there is no time left."""
        self._limit()
        return super().recv(buflen, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        """Sends a part, in the same time."""
        self._limit()
        return super().send(data, flags)

    def _limit(self) -> None:
        patience, timeout = _PATIENCE.get(), self.gettimeout()
        if patience is not None:
            left = patience.left_s(patience.received)
            self.settimeout(left if timeout is None else min(timeout, left))


def too_large() -> AnswerError:
    """The error of an answer beyond ANSWER_BYTES_MAX."""
    return AnswerError(f"the answer has more than {ANSWER_BYTES_MAX} bytes")


@contextmanager
def streaming(
    client: httpx.Client, method: str, url: str, patience: Patience, **options: Any
) -> Iterator[httpx.Response]:
    """A response whose head is here; AnswerError if it comes too slowly. `options` are those of `client.stream`.

    Of https connections that are made with PatientSocket the patience bounds request and head as a whole, of others
    each part of them.
    """
    with ExitStack() as stack:
        with _bounded(patience):
            response = stack.enter_context(client.stream(method, url, **options))
        yield response


def whole(response: httpx.Response, patience: Patience) -> bytes:
    """The body of a streamed response; AnswerError if it is too large, or comes too slowly."""
    parts: list[bytes] = []
    with _bounded(patience):
        for part in response.iter_bytes():
            patience.received += len(part)
            if patience.received > ANSWER_BYTES_MAX:
                raise too_large()
            patience.left_s(patience.received)
            parts.append(part)
    return b"".join(parts)
