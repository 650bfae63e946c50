"""Closing: in every state and at every time, the node's next move is one that the escrow takes, and never late."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suanli_node.leases.closing import (
    PATIENCE_S,
    SILENCE_S,
    Due,
    Move,
    claimable,
    is_too_late,
    margin_s,
    next_move,
    patience_s,
    silence_s,
)
from suanli_protocol.lease import Phase, Progress, State
from suanli_protocol.ways_out import allowed
from support import builders

WINDOWS = (5, 10, 30, 600, 3600, 86_400)
SECONDS = (1, 60, 3600)
ARBITER = builders.a_signer(7).address
KIND_DONE = 1 << 1


def a_lease(window: int, seconds: int = 3600) -> State:
    """One that was just opened, whose claims an arbiter could judge."""
    bid = builders.a_bid(window=window, max_seconds=seconds, arbiter=ARBITER)
    offer = builders.an_offer(arbiter=ARBITER, min_seconds=1, max_window=86_400)
    return builders.a_state(bid=bid, offer=offer)


def at(state: State, phase: Phase, clock: int) -> State:
    return replace(state, progress=Progress(clock=clock, phase=phase, flags=KIND_DONE))


def names(state: State, now: int) -> set[str]:
    return {way.change for way in allowed(state, now)}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("seconds", SECONDS)
def test_a_claim_is_due_while_the_escrow_takes_one_whenever_the_receipt_was_signed(window: int, seconds: int) -> None:
    opened = a_lease(window, seconds)
    states = [opened] + [at(opened, Phase.STOPPED, builders.NOW + after) for after in {0, seconds // 2, seconds}]
    for state in states:
        last = state.ends_at + window
        for signed_at in {builders.NOW, state.ends_at, last - margin_s(window) - 1, last + 100}:
            due = next_move(state, signed_at=signed_at)
            assert due.move is Move.CLAIM
            assert due.at < last
            assert "claim" in names(state, max(due.at, builders.NOW))
            assert due.at <= signed_at + silence_s(window)
            assert is_too_late(state, last)
            assert not is_too_late(state, last - 1)


@pytest.mark.parametrize("window", WINDOWS)
def test_a_consumer_that_answers_in_time_is_not_claimed_from(window: int) -> None:
    """Where there is room, the silence lasts a third of the window, at most ten minutes."""
    state = a_lease(window)
    due = next_move(state, signed_at=builders.NOW + 10)
    assert due.at - (builders.NOW + 10) == min(SILENCE_S, window // 3)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("phase", [Phase.CLAIMED, Phase.DISPUTED])
def test_what_is_claimed_is_finalized_only_once_the_escrow_takes_it(window: int, phase: Phase) -> None:
    state = at(a_lease(window), phase, builders.NOW + 70)
    due = next_move(state, signed_at=builders.NOW + 60)
    windows = 1 if phase is Phase.CLAIMED else 3
    assert due == Due(Move.FINALIZE, builders.NOW + 70 + windows * window)
    assert "finalize" in names(state, due.at)
    assert "finalize" not in names(state, due.at - 1)
    assert not is_too_late(state, due.at)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("phase", list(Phase))
def test_with_both_signatures_the_receipt_is_settled_before_anything_else_can_end_the_lease(
    window: int, phase: Phase
) -> None:
    state = at(a_lease(window), phase, builders.NOW + 70) if phase is not Phase.RUNNING else a_lease(window)
    signed = builders.NOW + 75
    due = next_move(state, signed_at=signed, countersigned_at=signed)
    assert due.move is Move.SETTLE
    assert due.at <= signed + patience_s(window)
    assert patience_s(window) <= PATIENCE_S
    assert "settle" in names(state, max(signed, due.at))
    end = state.ends_at + window if phase in (Phase.RUNNING, Phase.STOPPED) else None
    assert end is None or due.at < end, "before anyone can send everything back"


@pytest.mark.parametrize("window", WINDOWS)
def test_what_never_began_is_given_back_at_once_unless_it_was_claimed(window: int) -> None:
    state = a_lease(window)
    assert next_move(state, signed_at=builders.NOW + 5, never_begun=True).move is Move.RELEASE
    assert "release" in names(state, builders.NOW + 5)
    stopped = at(state, Phase.STOPPED, builders.NOW + 3)
    assert next_move(stopped, signed_at=builders.NOW + 5, never_begun=True).move is Move.RELEASE
    claimed = at(state, Phase.CLAIMED, builders.NOW + 5)
    assert next_move(claimed, signed_at=builders.NOW + 5, never_begun=True).move is Move.FINALIZE


def test_a_claim_is_for_what_the_receipt_is_over_or_what_the_clock_gives_by_now() -> None:
    state = a_lease(600)
    assert claimable(state, state.lease.price, state.ends_at) == state.lease.price
    early = claimable(state, state.lease.price, builders.NOW + 60)
    assert 0 < early < state.lease.price
    assert claimable(state, 7, state.ends_at) == 7
