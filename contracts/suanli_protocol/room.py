"""Room for the bodies of requests that a service holds at once. Only a service imports this, as `bodies`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from suanli_protocol.problems import LimitError

BODY_WAIT_S = 10.0  # for room
SMALL_BYTES = 16 * 1024  # bodies up to here are not counted: connections are limited already


class Room:
    """Bytes of bodies that are held at once, in all and by address; of one event loop. Who finds none waits."""

    def __init__(self, in_all: int, each: int) -> None:
        self._in_all, self._each = in_all, each
        self._held: Counter[str] = Counter()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, address: str, size: int) -> AsyncIterator[None]:
        """Room for `size` bytes; LimitError if there is none for BODY_WAIT_S."""
        if size <= SMALL_BYTES:
            yield
            return
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: self._fits(address, size)), BODY_WAIT_S)
            except TimeoutError:
                raise LimitError(
                    "too many uploads are in flight", hint="send fewer at once, or try again", limit="bodies"
                ) from None
            self._held[address] += size
        try:
            yield
        finally:
            async with self._changed:
                self._held[address] -= size
                if self._held[address] <= 0:
                    del self._held[address]
                self._changed.notify_all()

    def _fits(self, address: str, size: int) -> bool:
        return self._held[address] + size <= self._each and self._held.total() + size <= self._in_all
