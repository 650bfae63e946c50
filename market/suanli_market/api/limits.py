"""Limits on requests, enforced before a handler sees them: size by route, and the halt after a chain reset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from suanli_market.api.problems import TooLargeError, problem
from suanli_protocol.errors import SuanliError, TimedOutError

JSON_BYTES_MAX = 512 * 1024
LOG_BYTES_MAX = 8 * 1024 * 1024
CHUNK_BYTES_MAX = 4 * 1024 * 1024  # of a blob
BODY_TIMEOUT_S = 30.0  # between two pieces of a body


def body_limit(method: str, path: str) -> int:
    """How many bytes a request may carry."""
    if method == "PUT" and "/blobs/" in path:
        return CHUNK_BYTES_MAX
    return LOG_BYTES_MAX if path.endswith("/logs") else JSON_BYTES_MAX


class LimitsMiddleware:
    """Refuses too large bodies while they arrive, and everything while the market is halted."""

    def __init__(self, app: ASGIApp, halted: Callable[[], SuanliError | None]) -> None:
        self._app = app
        self._halted = halted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        halt = self._halted()
        if halt is not None:
            await problem(halt)(scope, receive, send)
            return
        limit = body_limit(scope["method"], scope["path"])
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or len(announced) > 18 or int(announced) > limit:
            await problem(_too_large(limit))(scope, receive, send)
            return
        await self._app(scope, _counted(receive, limit), send)


def _counted(receive: Receive, limit: int) -> Receive:
    """The same messages; raises when the body is too large or stalls."""
    seen, whole = 0, False

    async def counted() -> Message:
        nonlocal seen, whole
        if whole:
            return await receive()  # waits for the client to go, however long that takes
        try:
            message = await asyncio.wait_for(receive(), BODY_TIMEOUT_S)
        except TimeoutError:
            raise TimedOutError("the body did not arrive in time") from None
        seen += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if seen > limit:
            raise _too_large(limit)
        return message

    return counted


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the body has more than {limit} bytes", hint="send less at a time")
