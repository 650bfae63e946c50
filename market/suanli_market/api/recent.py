"""A value that costs something, computed once for all who ask within a moment: asking often costs nothing more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from starlette.concurrency import run_in_threadpool

T = TypeVar("T")
AGE_S_MAX = 0.2


class Recent(Generic[T]):
    """Computes in one thread at a time; who asks meanwhile waits without holding another. Of one event loop."""

    def __init__(self, compute: Callable[[], T], *, age_s_max: float = AGE_S_MAX) -> None:
        self._compute, self._age_s_max = compute, age_s_max
        self._lock = asyncio.Lock()
        self._held: tuple[float, T] | None = None

    async def get(self) -> T:
        """The value, at most `age_s_max` old."""
        async with self._lock:
            if self._held is None or time.monotonic() - self._held[0] > self._age_s_max:
                value = await run_in_threadpool(self._compute)
                self._held = (time.monotonic(), value)
            return self._held[1]
