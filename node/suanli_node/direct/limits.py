"""Limits on requests to the counter, enforced before its desk sees anything. All are stated in docs/operations.md.

How often an address may ask, and a key once its signature holds; how many bytes of bodies, and how many event streams
of one address, are held at once. Who speaks to the node from this machine itself is not counted by address.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from suanli_protocol.bodies import CHUNK_BYTES_MAX, JSON_BYTES_MAX, announced
from suanli_protocol.buckets import Buckets, is_this_machine, network
from suanli_protocol.errors import SuanliError
from suanli_protocol.gate import Gate
from suanli_protocol.problems import LimitError, problem
from suanli_protocol.room import Room

PER_S, BURST_S = 20, 8  # requests; who was silent may send what so many seconds give, at once
BODIES_BYTES_MAX = 64 * 1024 * 1024  # held at once, in all
BODIES_BYTES_PER_ADDRESS = 16 * 1024 * 1024
STREAMS_PER_ADDRESS = 16


class Rate:
    """How often each of many may ask."""

    def __init__(self, who: str) -> None:
        self._who, self._buckets = who, Buckets(burst=PER_S * BURST_S, per_second=PER_S)

    def take(self, holder: str) -> None:
        """LimitError if it asks too often."""
        wait_s = self._buckets.take(holder, time.monotonic())
        if wait_s:
            raise LimitError(
                f"this {self._who} asks more often than {PER_S} times a second",
                hint="wait as long as Retry-After says",
                limit=self._who,
                wait_s=wait_s,
            )


class RatedGate:
    """A gate that lets each key through so often."""

    def __init__(self, gate: Gate) -> None:
        self._gate, self._rate = gate, Rate("key")

    def check(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> str:
        """The signer's address; SignatureError, or LimitError."""
        signer = self._gate.check(method, target, body, headers)
        self._rate.take(signer)
        return signer


class LimitedApp:
    """An application, behind what does not need to know who signed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._rate = app, Rate("address")
        self._room = Room(BODIES_BYTES_MAX, BODIES_BYTES_PER_ADDRESS)
        self._streams: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            await self._limited(scope, receive, send)
        except SuanliError as error:
            await problem(error)(scope, receive, send)

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises before the application is called, which answers its own errors."""
        client = scope["client"][0] if scope["client"] else ""
        address, is_ours = network(client), is_this_machine(client)
        if not is_ours:
            self._rate.take(address)
        limit = CHUNK_BYTES_MAX if scope["method"] == "PUT" else JSON_BYTES_MAX
        size = announced(scope["headers"], limit)
        if scope["path"] == "/v1/events" and not is_ours:
            with self._stream(address):
                await self._app(scope, receive, send)
            return
        async with self._room.hold(address, size):
            await self._app(scope, receive, send)

    @contextmanager
    def _stream(self, address: str) -> Iterator[None]:
        if self._streams[address] >= STREAMS_PER_ADDRESS:
            raise LimitError(
                f"this address has {STREAMS_PER_ADDRESS} event streams open", hint="close some", limit="streams"
            )
        self._streams[address] += 1
        try:
            yield
        finally:
            self._streams[address] -= 1
            if not self._streams[address]:
                del self._streams[address]
