"""A call on a lease that moves while it is on its way, forth and perhaps back again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from suanli import lease_change
from suanli.lease_change import TRIES, change_lease
from suanli_protocol.errors import ChainError, ChainRevertedError


class Escrow:
    """Answers each call with the next word; None: it is mined."""

    def __init__(self, *words: str | None) -> None:
        self.words, self.sent = list(words), list[str]()

    def events_of(self, _: object) -> list[Any]:
        """Nothing was left out."""
        return []

    def call(self, state: str) -> Any:
        """One call on that state."""
        self.sent.append(state)
        word = self.words.pop(0)
        if word is not None:
            raise ChainRevertedError(word)
        return object()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_change, "PAUSE_S", 0.0)


def change(escrow: Escrow, read: Callable[[], str], wants: Callable[[str], bool] = lambda _: True) -> Any:
    return change_lease(escrow, "running", read=read, wants=wants, send=escrow.call)  # type: ignore[arg-type]


def test_a_lease_that_moved_is_looked_at_again() -> None:
    escrow = Escrow("LeaseEscrow_UnknownLease", None)
    states = iter(["claimed", "disputed"])
    assert change(escrow, lambda: next(states))[0] == "disputed"
    assert escrow.sent == ["running", "claimed"]


def test_what_is_wanted_no_more_is_not_sent() -> None:
    escrow = Escrow("LeaseEscrow_UnknownLease")
    assert change(escrow, lambda: "claimed", lambda state: state == "running") == ("claimed", None)
    assert escrow.sent == ["running"]


@pytest.mark.parametrize("word", ["LeaseEscrow_UnknownLease", "Reverted"])
def test_a_lease_that_a_reorganisation_moved_back_meanwhile_is_asked_for_again(word: str) -> None:
    escrow = Escrow(word, None)
    states = iter(["running", "stopped"])
    assert change(escrow, lambda: next(states))[0] == "stopped"
    assert escrow.sent == ["running", "running"]


def test_a_refusal_about_something_else_is_raised_at_once() -> None:
    escrow = Escrow("LeaseEscrow_NotAuthorized")
    with pytest.raises(ChainRevertedError, match="NotAuthorized"):
        change(escrow, lambda: "running")
    assert escrow.sent == ["running"]


def test_a_lease_that_never_stands_still_is_given_up() -> None:
    escrow = Escrow(*["LeaseEscrow_UnknownLease"] * TRIES)
    with pytest.raises(ChainError, match="moved") as caught:
        change(escrow, lambda: "running")
    assert (caught.value.code, caught.value.retryable, len(escrow.sent)) == ("lease_moves", True, TRIES)
