"""The hub wakes those who wait in this process: event streams by party, log readers by lease."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from suanli_market.events import EVERYBODY


class Waiter:
    """One reader's bell in one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()

    def ring(self) -> None:
        """From any thread: something happened. Never blocks."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._bell.set)

    def reset(self) -> None:
        """Forgets earlier rings; call before looking, so that no ring between look and wait is lost."""
        self._bell.clear()

    async def wait(self, timeout_s: float) -> bool:
        """True when the bell rings, False after the time."""
        try:
            await asyncio.wait_for(self._bell.wait(), timeout_s)
        except TimeoutError:
            return False
        return True


class Hub:
    """Topics and their waiters."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: defaultdict[str, set[Waiter]] = defaultdict(set)
        self.closing = False

    @contextmanager
    def waiting(self, *topics: str) -> Iterator[Waiter]:
        """A waiter for the topics while the context is open."""
        waiter = Waiter()
        with self._lock:
            for topic in topics:
                self._waiters[topic].add(waiter)
        try:
            yield waiter
        finally:
            with self._lock:
                for topic in topics:
                    self._waiters[topic].discard(waiter)
                    if not self._waiters[topic]:
                        del self._waiters[topic]

    def wake(self, topics: set[str]) -> None:
        """Rings all who wait for one of the topics."""
        with self._lock:
            if EVERYBODY in topics:
                found = {waiter for waiters in self._waiters.values() for waiter in waiters}
            else:
                found = {waiter for topic in topics for waiter in self._waiters.get(topic, ())}
        for waiter in found:
            waiter.ring()

    def close(self) -> None:
        """The service ends: all streams end."""
        self.closing = True
        self.wake({EVERYBODY})
