"""Limits on requests, most of them enforced before a handler sees anything.

A body: its size by route, the depth of its JSON, the time that it takes, how many bytes of bodies are held at once. A
sender: requests over time by network address, and by key once the signature holds; streams at once by key. Who speaks
to the market from this machine itself is not counted by address. All maxima are stated in docs/operations.md.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send

from suanli_market.metrics import Counters
from suanli_protocol.bodies import CHUNK_BYTES_MAX, JSON_BYTES_MAX, Body, announced
from suanli_protocol.buckets import Buckets, is_this_machine, network
from suanli_protocol.errors import SuanliError
from suanli_protocol.problems import LimitError, problem
from suanli_protocol.room import Room

LOG_BYTES_MAX = 8 * 1024 * 1024
BODIES_BYTES_MAX = 128 * 1024 * 1024  # held at once, in all: uploads in flight
BODIES_BYTES_PER_ADDRESS = 32 * 1024 * 1024
STREAMS_MAX = 1_500
STREAMS_PER_KEY = 256
BURST_S = 8  # a sender who was silent may send what these seconds give, at once
OPERATION_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})  # also answered while the market is halted


def body_limit(method: str, path: str) -> int:
    """How many bytes a request may carry."""
    if method == "PUT" and "/blobs/" in path:
        return CHUNK_BYTES_MAX
    return LOG_BYTES_MAX if path.endswith("/logs") else JSON_BYTES_MAX


class Places:
    """How many things each holder, and all together, may have at once. Thread-safe."""

    def __init__(self, what: str, *, in_all: int, each: int) -> None:
        self._what, self._in_all, self._each = what, in_all, each
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, holder: str) -> Iterator[None]:
        """Holds one; LimitError if the holder has too many, or all together have."""
        with self._lock:
            if self._held[holder] >= self._each:
                raise LimitError(f"this key has {self._each} {self._what} open", hint="close some", limit=self._what)
            if self._held.total() >= self._in_all:
                raise LimitError(f"{self._in_all} {self._what} are open", hint="try again later", limit=self._what)
            self._held[holder] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[holder] -= 1
                if self._held[holder] <= 0:
                    del self._held[holder]

    def taken(self) -> int:
        """How many are held."""
        with self._lock:
            return self._held.total()


@dataclass(slots=True)
class RequestLimits:
    """The limits of one market; a rate of 0 is none."""

    counters: Counters
    per_key: int  # requests a second
    per_address: int
    streams: Places = field(default_factory=lambda: Places("streams", in_all=STREAMS_MAX, each=STREAMS_PER_KEY))
    _keys: Buckets | None = field(init=False, default=None)
    _addresses: Buckets | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._keys = buckets(self.per_key)
        self._addresses = buckets(self.per_address)

    def by_key(self, key: str) -> None:
        """LimitError if the key, whose signature holds, asks too often."""
        self._take(self._keys, key, "key")

    def by_address(self, address: str) -> None:
        """LimitError if the address asks too often."""
        if self._addresses is not None and not is_this_machine(address):
            self._take(self._addresses, network(address), "address")

    def _take(self, buckets: Buckets | None, holder: str, limit: str) -> None:
        wait_s = buckets.take(holder, time.monotonic()) if buckets is not None else 0.0
        if wait_s:
            rate = self.per_key if limit == "key" else self.per_address
            raise LimitError(
                f"this {limit} asks more often than {rate} times a second",
                hint="wait as long as Retry-After says",
                limit=limit,
                wait_s=wait_s,
            )


def buckets(per_second: int) -> Buckets | None:
    """Buckets for a rate; None if it is 0."""
    return Buckets(burst=per_second * BURST_S, per_second=per_second) if per_second else None


class LimitsMiddleware:
    """Refuses who asks too often, bodies that are too large, too deep or too slow, and everything during a halt."""

    def __init__(self, app: ASGIApp, limits: RequestLimits, halted: Callable[[], SuanliError | None]) -> None:
        self._app, self._limits, self._halted = app, limits, halted
        self._room = Room(BODIES_BYTES_MAX, BODIES_BYTES_PER_ADDRESS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._limited(scope, receive, send)
        except LimitError as error:
            self._limits.counters.add("limited_total", limit=error.limit)
            await problem(error)(scope, receive, send)
        except SuanliError as error:
            await problem(error)(scope, receive, send)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises before the application is called, which answers its own errors."""
        if (halt := self._halted()) is not None and scope["path"] not in OPERATION_PATHS:
            raise halt
        address = scope["client"][0] if scope["client"] else ""
        self._limits.by_address(address)
        limit = body_limit(scope["method"], scope["path"])
        size = announced(scope["headers"], limit)
        body = Body(receive, scope, limit, size, is_json=scope["method"] != "PUT")
        async with self._room.hold(network(address), size):
            await self._app(scope, body, send)
