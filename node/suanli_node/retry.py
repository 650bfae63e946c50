"""Retries: a call is tried again for as long as trying can help, with growing pauses, until the node halts."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from suanli_protocol.errors import SuanliError

T = TypeVar("T")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 10.0
log = logging.getLogger(__name__)


class Halted(Exception):  # noqa: N818 - not an error: the node ends, and durable state says where to go on
    """The wait was given up because the node is halting or the lease is closed."""


def pauses() -> Iterator[float]:
    """Seconds to wait before each next try: doubling up to LONGEST_PAUSE_S, each shortened by up to a half."""
    pause = FIRST_PAUSE_S
    while True:
        yield pause * (1 - random.random() / 2)  # noqa: S311 - spreads the load, protects nothing
        pause = min(pause * 2, LONGEST_PAUSE_S)


class Halt(Protocol):
    """Says when to give up: an event, or an `Until`."""

    def is_set(self) -> bool:
        """Whether to give up."""

    def wait(self, timeout: float) -> bool:
        """The same after at most `timeout` seconds."""


class Until:
    """A halt that also comes by itself, `seconds` from now."""

    def __init__(self, halt: threading.Event, seconds: float) -> None:
        self._halt, self._end = halt, time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds until then; 0 afterwards."""
        return max(0.0, self._end - time.monotonic())

    def is_set(self) -> bool:
        """Whether the time is over, or the other halt has come."""
        return self._halt.is_set() or not self.left_s

    def wait(self, timeout: float) -> bool:
        """The same after at most `timeout` seconds."""
        self._halt.wait(min(timeout, self.left_s))
        return self.is_set()


def persist(call: Callable[[], T], halt: Halt, what: str) -> T:
    """The call's result; retryable errors are tried again until `halt` is set (Halted), others pass through."""
    for pause in pauses():
        if halt.is_set():
            raise Halted(what)
        try:
            return call()
        except SuanliError as error:
            if not error.retryable:
                raise
            log.warning("%s: %s; next try in %.1f s", what, error.detail, pause)
        if halt.wait(pause):
            raise Halted(what)
    raise AssertionError("pauses never end")
