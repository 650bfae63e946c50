"""Hypothesis strategies: structs over their whole types, and pairs of papers that are valid but for a few faults."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st

from suanli_protocol.capacity import GUARD, Lanes
from suanli_protocol.lease import (
    Account,
    Change,
    Claim,
    Dispute,
    Finalize,
    Kind,
    Phase,
    Reclaim,
    Release,
    Resolve,
    Settle,
    State,
    Stop,
    claim_until,
    finalize_from,
    most_claimable,
)
from suanli_protocol.messages import ZERO_ADDRESS, Bid, Offer, Struct, solidity_fields
from suanli_protocol.signing import checksum_address
from support import builders

S = TypeVar("S", bound=Struct)
T = TypeVar("T")

ADDRESSES = st.binary(min_size=20, max_size=20).map(checksum_address)
WORDS = st.binary(min_size=32, max_size=32)


def uints(bits: int) -> st.SearchStrategy[int]:
    """Unsigned integers, small ones and the ends of the range as often as the middle."""
    top = 2**bits - 1
    return st.one_of(st.integers(0, min(top, 100)), st.integers(max(0, top - 3), top), st.integers(0, top))


def _of(solidity: str) -> st.SearchStrategy[Any]:
    match solidity:
        case "address":
            return ADDRESSES
        case "bytes32":
            return WORDS
        case "bool":
            return st.booleans()
        case "string":
            return st.text(max_size=60)
        case _:
            return uints(int(solidity.removeprefix("uint")))


def structs(kind: type[S]) -> st.SearchStrategy[S]:
    """Any value of a struct."""
    return st.builds(kind, **{name: _of(solidity) for name, solidity in solidity_fields(kind)})


def _lanes(limit: int) -> st.SearchStrategy[Lanes]:
    lane = st.integers(0, limit)
    return st.builds(Lanes, lane, lane, lane, lane)


@st.composite
def lane_words(draw: st.DrawFn) -> int:
    """A word of four lanes, with a guard bit now and then."""
    word = draw(st.one_of(_lanes(3000), _lanes(2**31 - 1))).pack()
    return word | (GUARD & draw(uints(128)) if draw(st.integers(0, 9)) == 0 else 0)


def mostly(usual: T, other: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """The usual value nine times out of ten."""
    return st.integers(0, 9).flatmap(lambda die: other if die == 0 else st.just(usual))


ACCOUNTS = st.builds(
    Account,
    free=mostly(10**9, st.sampled_from([0, 3_999, 4_000, 44_199, 44_200, 2**96 - 1])),
    counter=mostly(0, st.just(1)),
    used=mostly(Lanes(), st.one_of(_lanes(3500), _lanes(2**31 - 1))),
)

_OFFER_FAULTS: dict[str, st.SearchStrategy[Any]] = {
    "provider": st.sampled_from([ZERO_ADDRESS, builders.consumer().address]),
    "market": st.sampled_from([builders.market().address, builders.a_signer(9).address]),
    "arbiter": ADDRESSES,
    "capacity": lane_words(),
    "prices": uints(256),
    "traits": uints(64),
    "valid_until": st.sampled_from([0, builders.NOW, builders.NOW + 1, 2**40 - 1]),
    "min_seconds": uints(32),
    "max_seconds": uints(32),
    "bond_bps": st.sampled_from([0, 999, 1000, 10_000, 10_001, 65_535]),
    "max_window": st.sampled_from([0, 599, 600, 2**32 - 1]),
    "counter": st.sampled_from([0, 1]),
}
_BID_FAULTS: dict[str, st.SearchStrategy[Any]] = {
    "consumer": st.sampled_from([ZERO_ADDRESS, builders.provider().address]),
    "market": st.sampled_from([ZERO_ADDRESS, builders.a_signer(9).address]),
    "arbiter": ADDRESSES,
    "count": uints(16),
    "attempts": uints(8),
    "gang": st.booleans(),
    "need": lane_words(),
    "needs": uints(64),
    "refuses": uints(64),
    "max_rate": uints(96),
    "budget": uints(96),
    "max_seconds": uints(32),
    "window": uints(32),
    "fee_bps": st.sampled_from([0, 50, 10_000, 10_001, 65_535]),
    "valid_until": st.sampled_from([0, builders.NOW, builders.NOW + 1, 2**40 - 1]),
    "counter": st.sampled_from([0, 1]),
}


@st.composite
def _spoiled(draw: st.DrawFn, paper: Any, faults: dict[str, st.SearchStrategy[Any]]) -> Any:
    names = draw(st.lists(st.sampled_from(sorted(faults)), max_size=draw(st.sampled_from([0, 1, 1, 2])), unique=True))
    return replace(paper, **{name: draw(faults[name]) for name in names})


def bids() -> st.SearchStrategy[Bid]:
    """builders.a_bid() with up to two fields that may be at fault."""
    return _spoiled(builders.a_bid(), _BID_FAULTS)


def offers() -> st.SearchStrategy[Offer]:
    """builders.an_offer() with up to two fields that may be at fault."""
    return _spoiled(builders.an_offer(), _OFFER_FAULTS)


@st.composite
def matching_papers(draw: st.DrawFn) -> tuple[Bid, Offer, int]:
    """A bid, an offer and a rate that open a lease when both accounts have 2^95 and nothing in use."""
    seconds = st.integers(1, 100_000)
    arbiter = draw(mostly(builders.a_signer(5).address, st.just(ZERO_ADDRESS)))
    offer = builders.an_offer(
        arbiter=arbiter,
        prices=0,
        min_seconds=draw(st.integers(0, 5_000)),
        max_seconds=draw(seconds) + 5_000,
        bond_bps=draw(st.integers(1000, 10_000)),
    )
    bid = builders.a_bid(
        seat=draw(WORDS),
        guard=draw(st.sampled_from([ZERO_ADDRESS, builders.a_signer(4).address])),
        arbiter=arbiter,
        window=draw(st.one_of(st.integers(0, 3), st.integers(0, 3_600))),
        max_seconds=draw(seconds) + 5_000,
        fee_bps=draw(st.integers(0, 10_000)),
        max_rate=2**96 - 1,
        budget=2**96 - 1,
    )
    return bid, offer, draw(st.one_of(st.integers(0, 5_000), st.integers(0, 2**80)))


def edges(state: State) -> list[int]:
    """The seconds at which something of an open lease begins or ends to be possible."""
    return [edge for edge in (state.ends_at, claim_until(state), finalize_from(state)) if edge is not None]


@st.composite
def moments(draw: st.DrawFn, state: State, now: int) -> int:
    """A second from `now` on: soon, late, or at an edge of the lease or beside it."""
    later = st.one_of(st.integers(0, 3), st.integers(0, 50_000)).map(lambda seconds: now + seconds)
    beside = [edge + by for edge in edges(state) for by in (-1, 0, 1) if edge + by >= now]
    return draw(st.one_of(later, st.sampled_from(beside)) if beside else later)


def _totals(least: int, most: int) -> st.SearchStrategy[int]:
    """Mostly possible totals, many of a single unit or all of it; now and then one beside."""
    within = st.integers(least, max(least, most))
    return st.one_of(st.just(min(least + 1, most)), st.just(most), within, within, st.integers(0, most + 1))


@st.composite
def changes(draw: st.DrawFn, state: State, now: int) -> Change:
    """A change of a lease: one that its phase has, four times out of five; most amounts are possible ones."""
    lease, progress = state.lease, state.progress
    receipts = _totals(progress.paid, lease.price)
    final = st.sampled_from([Kind.DONE, Kind.FAILED])
    settle = st.builds(Settle, receipts, mostly(Kind.INTERIM, final))
    end = st.builds(Settle, receipts, final)
    claim = st.builds(Claim, _totals(progress.paid, most_claimable(state, max(now, state.clauses.opened_at))), final)
    stop, release, reclaim = st.builds(Stop, st.booleans()), st.just(Release()), st.just(Reclaim())
    dispute, finalize = st.just(Dispute()), st.just(Finalize())
    resolve = st.builds(Resolve, _totals(progress.paid, progress.claimed), _totals(0, lease.bond))
    apt: dict[Phase, list[st.SearchStrategy[Any]]] = {
        Phase.RUNNING: [settle, settle, stop, claim, claim, reclaim],
        Phase.STOPPED: [settle, claim, claim, claim, reclaim],
        Phase.CLAIMED: [dispute, dispute, dispute, finalize, end],
        Phase.DISPUTED: [resolve, resolve, finalize, end],
    }
    odd = st.builds(Claim, receipts, st.just(Kind.INTERIM))
    every = [settle, stop, release, claim, odd, dispute, resolve, finalize, reclaim]
    chosen: Change = draw(st.one_of(every) if draw(st.integers(0, 4)) == 0 else st.one_of(apt[progress.phase]))
    return chosen
