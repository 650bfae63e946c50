"""Background work on threads that never keep a process from ending: what they leave undone, the next start does."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

Work = Callable[[], object]
log = logging.getLogger(__name__)


class Background:
    """A queue of work and the threads that do it; with one thread, in the order of submission."""

    def __init__(self, threads: int, name: str) -> None:
        self._queue: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._closed = threading.Event()
        for number in range(threads):
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True).start()

    def submit(self, work: Work) -> None:
        """Have the work done soon; nothing after `close`."""
        if not self._closed.is_set():
            self._queue.put(work)

    def close(self) -> None:
        """Begin nothing more."""
        self._closed.set()

    def _work(self) -> None:
        while True:
            work = self._queue.get()
            if self._closed.is_set():
                return
            try:
                work()
            except Exception:
                log.exception("background work failed")
