"""What may be done with a lease now, by whom, and until when: the table that node, client and market plan by. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from suanli_protocol.lease import (
    Phase,
    State,
    claim_until,
    dispute_until,
    finalize_from,
    most_claimable,
    reclaim_from,
    resolve_until,
)

__all__ = [
    "WayOut",
    "Who",
    "allowed",
    "claim_until",
    "dispute_until",
    "finalize_from",
    "most_claimable",
    "reclaim_from",
    "resolve_until",
]


class Who(StrEnum):
    """Who may make a change; of an account, its owner as well."""

    ANYONE = "anyone"
    BOTH = "both"  # anyone, with the signatures of consumer and provider
    PARTY = "party"  # consumer, guard or provider
    PROVIDER = "provider"
    CONSUMER_SIDE = "consumer_side"  # consumer or guard
    ARBITER = "arbiter"  # or anyone with its signature


class WayOut(NamedTuple):
    """A change by the name of the escrow's function. `until` is the first second at which it is no longer possible."""

    change: str
    who: Who
    until: int | None = None


def allowed(state: State, now: int) -> list[WayOut]:
    """Every change that the escrow takes in a block of time `now`, in the order of the protocol's table."""
    if not state.is_open:
        return []
    ways = [WayOut("settle", Who.BOTH)]
    match state.progress.phase:
        case Phase.RUNNING:
            ways += [WayOut("stop", Who.PARTY), *_before_a_claim(state, now)]
        case Phase.STOPPED:
            ways += _before_a_claim(state, now)
        case Phase.CLAIMED:
            ways += _by(WayOut("dispute", Who.CONSUMER_SIDE, dispute_until(state)), now)
            ways += _since(WayOut("finalize", Who.ANYONE), finalize_from(state), now)
        case Phase.DISPUTED:
            ways += _by(WayOut("resolve", Who.ARBITER, resolve_until(state)), now)
            ways += _since(WayOut("finalize", Who.ANYONE), finalize_from(state), now)
    return ways


def _before_a_claim(state: State, now: int) -> list[WayOut]:
    return [
        *_by(WayOut("release", Who.PROVIDER, claim_until(state)), now),
        *_by(WayOut("claim", Who.PROVIDER, claim_until(state)), now),
        *_since(WayOut("reclaim", Who.ANYONE), reclaim_from(state), now),
    ]


def _by(way: WayOut, now: int) -> list[WayOut]:
    return [way] if way.until is not None and now < way.until else []


def _since(way: WayOut, start: int | None, now: int) -> list[WayOut]:
    return [way] if start is not None and now >= start else []
