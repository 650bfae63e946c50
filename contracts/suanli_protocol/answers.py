"""How large the answer of a stranger's server may be, and how long it may take, however slowly it comes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

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

    def left_s(self, received: int = 0) -> float:
        """What is left of it; AnswerError if nothing."""
        left = self._end + received / BYTES_PER_S_MIN - time.monotonic()
        if left <= 0:
            raise AnswerError("timed out: the answer comes too slowly")
        return left


def too_large() -> AnswerError:
    """The error of an answer beyond ANSWER_BYTES_MAX."""
    return AnswerError(f"the answer has more than {ANSWER_BYTES_MAX} bytes")


def whole(response: httpx.Response, patience: Patience) -> bytes:
    """The body of a streamed response; AnswerError if it is too large, or comes too slowly."""
    parts: list[bytes] = []
    received = 0
    for part in response.iter_bytes():
        received += len(part)
        if received > ANSWER_BYTES_MAX:
            raise too_large()
        patience.left_s(received)
        parts.append(part)
    return b"".join(parts)
