"""Each request's id, its line in the log, and its place in the figures."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from suanli_market.metrics import Counters
from suanli_protocol.logs import request_id

HEADER = b"x-request-id"
_GIVEN = re.compile(rb"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger(__name__)


class RequestsMiddleware:
    """Outermost: what a client calls its request, or a new id, is in the answer and in all lines about it."""

    def __init__(self, app: ASGIApp, counters: Counters) -> None:
        self._app, self._counters = app, counters
        self._prefix, self._numbers = secrets.token_hex(4).encode(), itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(HEADER, b"")
        name = given if _GIVEN.fullmatch(given) else b"%s%08x" % (self._prefix, next(self._numbers))
        token = request_id.set(name.decode())
        began = time.perf_counter()

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, name)]
                self._note(scope, message["status"], time.perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive, named)
        finally:
            request_id.reset(token)

    def _note(self, scope: Scope, status: int, took_s: float) -> None:
        route = getattr(scope.get("route"), "path", "none")  # a template: the path itself is a stranger's text
        self._counters.add("requests_total", method=_method(scope), route=route, status=str(status))
        self._counters.add("request_seconds_total", took_s, route=route)
        level = logging.WARNING if status >= 500 else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, "%s %s %d %.1f ms", scope["method"], scope["path"], status, took_s * 1000)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE") else "other"
