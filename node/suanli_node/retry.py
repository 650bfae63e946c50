"""Retries: a call is tried again for as long as trying can help, with growing pauses, until the node halts."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

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


def persist(call: Callable[[], T], halt: threading.Event, what: str) -> T:
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
