"""Whoever trickles, hangs or fails is waited for so long and no longer."""

from __future__ import annotations

import threading

import pytest

from suanli_node.bounds import Bounded
from suanli_node.retry import Halted
from suanli_protocol.errors import NotFoundError, TimedOutError


def test_a_call_in_time_gives_its_result_or_its_error() -> None:
    bounded = Bounded(1, threading.Event())
    assert bounded.within(5, lambda: 42, "a sum") == 42

    def missing() -> None:
        raise NotFoundError("not here")

    with pytest.raises(NotFoundError):
        bounded.within(5, missing, "a look")


def test_a_call_that_hangs_is_left_behind_and_only_so_many_are() -> None:
    bounded, answer = Bounded(2, threading.Event()), threading.Event()
    for _ in range(2):
        with pytest.raises(TimedOutError, match="more than"):
            bounded.within(0.01, answer.wait, "an answer")
    with pytest.raises(TimedOutError, match="earlier calls hang"):
        bounded.within(0.01, answer.wait, "an answer")
    answer.set()
    while threading.active_count() > 1 and any("an answer" in thread.name for thread in threading.enumerate()):
        pass
    assert bounded.within(5, lambda: True, "another")


def test_a_halt_ends_the_wait() -> None:
    halt = threading.Event()
    halt.set()
    with pytest.raises(Halted):
        Bounded(1, halt).within(60, threading.Event().wait, "an answer")
