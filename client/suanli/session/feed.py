"""The market's event stream as a wake-up call: a thread that reads it, and reads it again when it breaks.

Events only say when to look; what is believed is read and checked afterwards. A lost event costs one poll.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Self

from suanli_protocol import wire
from suanli_protocol.errors import SuanliError
from suanli_protocol.market_client import MarketClient

BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Feed:
    """Events of one bid and its lease, from the first that is newer than `after`."""

    def __init__(self, market: MarketClient, is_mine: Callable[[wire.Event], bool], *, after: int = 0) -> None:
        self._market, self._is_mine, self.last, self._history = market, is_mine, after, ""
        self._queue: queue.Queue[wire.Event] = queue.Queue()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, name="events", daemon=True)
        self.trouble: SuanliError | None = None  # why the stream is broken at the moment

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def wait(self, seconds: float) -> list[wire.Event]:
        """The events since the last call; waits for one at most so long."""
        found: list[wire.Event] = []
        try:
            found.append(self._queue.get(timeout=max(0.0, seconds)))
            while True:
                found.append(self._queue.get_nowait())
        except queue.Empty:
            return found

    def _begin(self, after: int, history: str) -> None:
        """The numbers begin anew if the market's history is another; an event that was seen is only looked at again."""
        self.last, self._history = after, history

    def _read(self) -> None:
        failures = 0
        while not self._ended.is_set():
            try:
                for event in self._market.events(self.last, history=self._history, on_start=self._begin):
                    failures, self.trouble = 0, None
                    self.last = max(self.last, event.seq)
                    if self._ended.is_set():
                        return
                    if self._is_mine(event):
                        self._queue.put(event)
            except SuanliError as error:
                self.trouble = error
            self._ended.wait(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1
