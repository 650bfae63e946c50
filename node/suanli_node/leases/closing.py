"""Closing: what this node does next so that a lease it has served is paid, by whom ever answers. Pure.

countersigned    the market settles; if it does not in good time, the node submits the receipt itself
silence          after min(10 min, W/3), and in any case before the last second for it, the node claims
claimed          from clock + W anyone may finalize, and the node does
disputed         the arbiter decides; from clock + 3 W its silence is finalized
never begun      by this node's fault: the lease is given back at once, so that another can take the job
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from suanli_protocol.lease import Phase, State, claim_until, finalize_from, most_claimable

SILENCE_S = 600
PATIENCE_S = 60


class Move(StrEnum):
    """The escrow's function that is called, or none."""

    NONE = ""
    SETTLE = "settle"
    CLAIM = "claim"
    FINALIZE = "finalize"
    RELEASE = "release"


@dataclass(frozen=True)
class Due:
    """What is due, and from which second on (of Unix UTC, the chain's or ours, whichever is later)."""

    move: Move
    at: int = 0


def silence_s(window: int) -> int:
    """How long the consumer may be silent before the node claims."""
    return min(SILENCE_S, window // 3)


def patience_s(window: int) -> int:
    """How long the market may take to settle a countersigned receipt."""
    return max(2, min(PATIENCE_S, window // 4))


def margin_s(window: int) -> int:
    """How long before the last second the node acts at the latest."""
    return max(1, window // 6)


def next_move(state: State, *, signed_at: int, countersigned_at: int | None = None, never_begun: bool = False) -> Due:
    """What is due next of an open lease whose receipt was signed at `signed_at`.

    `never_begun`: it did not run, by this node's fault, and its receipt is over nothing.
    """
    window, last = state.clauses.window, claim_until(state)
    if last is not None and never_begun:
        return Due(Move.RELEASE, signed_at)
    end = finalize_from(state) if last is None else last - margin_s(window)
    if countersigned_at is not None:
        patient = countersigned_at + patience_s(window)
        return Due(Move.SETTLE, patient if end is None else min(patient, end))
    if last is None:
        return Due(Move.FINALIZE, end) if end is not None else Due(Move.NONE)
    return Due(Move.CLAIM, min(signed_at + silence_s(window), last - margin_s(window)))


def is_too_late(state: State, now: int) -> bool:
    """Whether anyone may send everything back to the consumer: only both signatures can still pay."""
    last = claim_until(state)
    return state.progress.phase in (Phase.RUNNING, Phase.STOPPED) and last is not None and now >= last


def claimable(state: State, amount: int, now: int) -> int:
    """What of a receipt's amount can be claimed at `now`."""
    return min(amount, most_claimable(state, now))
