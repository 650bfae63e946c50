"""Bounds: a call to somebody who may never answer, or only byte by byte, is waited for so long and no longer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from suanli_node.retry import Halt, Halted
from suanli_protocol.errors import TimedOutError

T = TypeVar("T")
LOOK_S = 0.5  # how soon a halt is noticed


class Bounded:
    """Makes calls on threads of their own. Those that do not come back are left behind, at most `calls_max` at a time.

    A timeout of a connection is one for each piece that comes; only this bounds the whole.
    """

    def __init__(self, calls_max: int, halt: Halt) -> None:
        self._free, self._halt = threading.BoundedSemaphore(calls_max), halt

    def within(self, seconds: float, call: Callable[[], T], what: str) -> T:
        """The call's result, or its error. TimedOutError if it takes longer, Halted if the halt comes before."""
        if not self._free.acquire(blocking=False):
            raise TimedOutError(f"{what}: too many earlier calls hang")
        pending = _Pending(call, self._free.release)
        threading.Thread(target=pending.run, name=f"bounded {what}", daemon=True).start()
        deadline = time.monotonic() + seconds
        while not pending.done.wait(max(0.0, min(LOOK_S, deadline - time.monotonic()))):
            if self._halt.is_set():
                raise Halted(what)
            if time.monotonic() >= deadline:
                raise TimedOutError(f"{what} took more than {seconds:.0f} s")
        return pending.result()


class _Pending(Generic[T]):
    """A call that is under way on another thread."""

    def __init__(self, call: Callable[[], T], free: Callable[[], None]) -> None:
        self._call, self._free = call, free
        self.done = threading.Event()
        self._value: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value.append(self._call())
        except BaseException as error:
            self._error = error
        finally:
            self._free()
            self.done.set()

    def result(self) -> T:
        """What came of it, once it is done."""
        if self._error is not None:
            raise self._error
        return self._value[0]
