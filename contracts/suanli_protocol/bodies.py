"""Limits on the bodies of requests, the same for every HTTP service: how large, how deep, how slow.

Only a service imports this, as `problems`. Its limits are stated in docs/operations.md.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable

from starlette.types import Message, Receive, Scope

from suanli_protocol.problems import SlowBodyError, TooDeepError, TooLargeError

JSON_BYTES_MAX = 512 * 1024
CHUNK_BYTES_MAX = 4 * 1024 * 1024  # of a blob
DEPTH_MAX = 32  # of JSON
BODY_TIMEOUT_S = 30.0  # between two pieces of a body
BODY_IS_HERE = "suanli.body_is_here"  # in the scope of a request once its body is whole: then nobody waits for it
BODY_BYTES_PER_S_MIN = 16 * 1024  # of the whole body, after the first BODY_TIMEOUT_S
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


def announced(headers: Iterable[tuple[bytes, bytes]], limit: int) -> int:
    """How many bytes are to come at most; TooLargeError."""
    size = b"0"
    for name, value in headers:
        if name == b"transfer-encoding":
            return limit
        if name == b"content-length":
            size = value
    if not size.isdigit() or len(size) > 18 or int(size) > limit:
        raise _too_large(limit)
    return int(size)


class Body:
    """A request's messages as they come; raises when the body is too large, too deep or too slow."""

    def __init__(self, receive: Receive, scope: Scope, limit: int, size: int, *, is_json: bool) -> None:
        self._receive, self._scope, self._limit, self._is_json = receive, scope, limit, is_json
        self._deadline = time.monotonic() + BODY_TIMEOUT_S + size / BODY_BYTES_PER_S_MIN
        self._seen, self._brackets, self._whole = 0, 0, False
        self._pieces: list[bytes] = []

    async def __call__(self) -> Message:
        """The next message."""
        if self._whole:
            return await self._receive()  # waits for the client to go, however long that takes
        message = await (self._receive() if BODY_IS_HERE in self._scope else self._in_time())
        self._take(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._whole and self._brackets > DEPTH_MAX:
            _check_depth(b"".join(self._pieces))
        if self._whole:
            self._pieces.clear()
        return message

    async def _in_time(self) -> Message:
        patience = min(BODY_TIMEOUT_S, self._deadline - time.monotonic())
        try:
            async with asyncio.timeout(max(0.0, patience)):
                return await self._receive()
        except TimeoutError:
            raise SlowBodyError("the body did not arrive in time", hint="send it faster, or less of it") from None

    def _take(self, piece: bytes) -> None:
        self._seen += len(piece)
        if self._seen > self._limit:
            raise _too_large(self._limit)
        if self._is_json and piece:
            self._brackets += piece.count(b"[") + piece.count(b"{")
            self._pieces.append(piece)


async def whole(receive: Receive) -> bytes | None:
    """All of a body; None if the client went before its end."""
    pieces: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


def _check_depth(body: bytes) -> None:
    """TooDeepError unless all brackets close within DEPTH_MAX levels; each round takes the innermost level away."""
    left = _STRINGS.sub(b"", body).translate(None, _NOT_BRACKETS)
    for _ in range(DEPTH_MAX):
        left = left.replace(b"[]", b"").replace(b"{}", b"")
        if not left:
            return
    raise TooDeepError(f"the body is nested deeper than {DEPTH_MAX} levels, or not closed", hint="send it flatter")


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the body has more than {limit} bytes", hint="send less at a time")
