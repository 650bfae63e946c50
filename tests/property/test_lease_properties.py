"""Money of a lease over any sequence of changes: nothing is made, nothing is lost, the past stays."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from suanli_protocol.billing import due
from suanli_protocol.capacity import Lanes, Prices
from suanli_protocol.errors import ProtocolError
from suanli_protocol.lease import (
    Account,
    Change,
    Kind,
    Phase,
    Refusal,
    Release,
    Settle,
    Split,
    State,
    Status,
    Stop,
    apply,
    ask_up,
    deposit_of,
    dispute_cost_down,
    fee_down,
    price_up,
    refusal,
    stake_down,
    terms,
)
from suanli_protocol.messages import Bid, Offer
from support import builders
from support.builders import NOW
from support.strategies import ACCOUNTS, bids, changes, matching_papers, moments, offers, uints

RICH = Account(2**95)


def opened(papers: tuple[Bid, Offer, int]) -> State:
    bid, offer, rate = papers
    return State(*terms(bid, offer, rate=rate, opened_at=NOW))


def together(one: Split, other: Split) -> Split:
    return Split(*(a + b for a, b in zip(astuple(one), astuple(other), strict=True)))


@settings(max_examples=200, deadline=None)
@given(papers=matching_papers(), data=st.data())
def test_every_change_moves_exactly_what_it_sets_free(papers: tuple[Bid, Offer, int], data: st.DataObject) -> None:
    """Payout, fee, refund, bond, slash and the arbiter's cost are together what was locked, whatever happened."""
    state, now, moved = opened(papers), NOW, Split()
    locked = state.locked
    for _ in range(data.draw(st.integers(1, 12))):
        now = data.draw(moments(state, now))
        try:
            after, split = apply(state, data.draw(changes(state, now)), now)
        except ProtocolError:
            continue
        assert min(astuple(split)) >= 0
        assert split.total == state.locked - after.locked
        assert after.progress.paid >= state.progress.paid
        assert (after.lease, after.clauses) == (state.lease, state.clauses)
        judged = state.progress.claimed - state.progress.paid if after.status is Status.RESOLVED else 0
        assert split.to_arbiter == dispute_cost_down(judged)
        state, moved = after, together(moved, split)
        assert moved.total + state.locked == locked
    event(state.status)
    if state.is_open:
        state, split = apply(state, Settle(state.progress.paid, Kind.DONE), now)
        moved = together(moved, split)
    lease = state.lease
    assert moved.total == locked == lease.deposit + lease.bond
    assert moved.to_provider == state.progress.paid <= lease.price
    assert moved.to_market == fee_down(state.progress.paid, lease.fee_bps)
    assert moved.to_arbiter <= min(stake_down(lease.price), lease.bond)
    assert moved.bond_back + moved.penalty <= lease.bond
    assert lease.deposit >= moved.to_provider + moved.to_market + moved.to_consumer
    assert moved.to_consumer + moved.to_arbiter >= stake_down(lease.price)


@given(papers=matching_papers(), steps=st.lists(st.integers(1, 5), max_size=60))
def test_many_receipts_pay_what_one_does(papers: tuple[Bid, Offer, int], steps: list[int]) -> None:
    state, market = opened(papers), 0
    for step in steps:
        amount = state.progress.paid + step
        if amount > state.lease.price:
            break
        state, split = apply(state, Settle(amount, Kind.INTERIM), NOW)
        market += split.to_market
    paid = state.progress.paid
    once, split = apply(opened(papers), Settle(paid, Kind.DONE), NOW)
    closed, last = apply(state, Settle(paid, Kind.DONE), NOW)
    assert replace(closed, progress=once.progress) == once
    assert (market + last.to_market, last.to_consumer, last.bond_back) == (
        split.to_market,
        split.to_consumer,
        split.bond_back,
    )


@given(papers=matching_papers(), data=st.data())
def test_a_closed_lease_stays_closed(papers: tuple[Bid, Offer, int], data: st.DataObject) -> None:
    ends: list[Change] = [Release(), Settle(0, Kind.FAILED), Settle(0, Kind.DONE)]
    closed, _ = apply(opened(papers), data.draw(st.sampled_from(ends)), NOW)
    assert (closed.locked, closed.need) == (0, 0)
    for _ in range(3):
        with pytest.raises(ProtocolError) as refused:
            apply(closed, data.draw(changes(closed, NOW)), NOW)
        assert refused.value.code == "lease_closed"


@given(papers=matching_papers(), now=st.integers(NOW, NOW + 400_000), by=st.booleans())
def test_a_stop_never_lies_after_the_end(papers: tuple[Bid, Offer, int], now: int, by: bool) -> None:
    state = opened(papers)
    stopped, split = apply(state, Stop(by), now)
    assert split.total == 0
    assert NOW <= stopped.progress.clock == min(now, state.clauses.ends_at)
    assert (stopped.progress.phase, stopped.progress.by_consumer_side) == (Phase.STOPPED, by)
    _, released = apply(stopped, Release(), min(now, stopped.progress.clock + stopped.clauses.window - 1))
    assert released.penalty <= (0 if by else state.lease.bond)


@given(papers=matching_papers())
def test_matching_papers_match(papers: tuple[Bid, Offer, int]) -> None:
    bid, offer, rate = papers
    code = refusal(bid, offer, rate=rate, caller=bid.market, now=NOW, consumer=RICH, provider=RICH)
    assert code is Refusal.NONE


@settings(max_examples=300)
@given(bid=bids(), offer=offers(), rate=uints(96), consumer=ACCOUNTS, provider=ACCOUNTS)
def test_what_is_not_refused_is_paid_for(
    bid: Bid, offer: Offer, rate: int, consumer: Account, provider: Account
) -> None:
    rate = rate if rate % 2 else 40_000
    code = refusal(bid, offer, rate=rate, caller=bid.market, now=NOW, consumer=consumer, provider=provider)
    if code is not Refusal.NONE:
        return
    lease, clauses = terms(bid, offer, rate=rate, opened_at=NOW)
    assert ask_up(bid, offer) <= rate <= bid.max_rate
    assert lease.price + fee_down(lease.price, lease.fee_bps) <= bid.budget
    assert lease.deposit <= consumer.free
    assert lease.bond <= provider.free
    assert Lanes.unpack(offer.capacity).covers(provider.used + Lanes.unpack(bid.need))
    assert 0 < clauses.max_seconds >= offer.min_seconds


@given(rate=uints(96), seconds=uints(32), bps=st.integers(0, 10_000))
def test_rounding_keeps_its_direction(rate: int, seconds: int, bps: int) -> None:
    price = price_up(rate, seconds)
    assert 0 <= price * 3600 - rate * seconds < 3600
    assert 0 <= price * bps - fee_down(price, bps) * 10_000 < 10_000
    assert deposit_of(price, bps) >= price


@settings(max_examples=200)
@given(
    papers=matching_papers(),
    wall_ms=st.integers(0, 10**9),
    cpu_ms=st.integers(0, 10**10),
    memory=st.integers(0, 10**6),
    prices=st.builds(Prices, *[st.integers(0, 10**6)] * 4),
)
def test_no_bill_exceeds_the_price_and_usage_never_exceeds_capacity(
    papers: tuple[Bid, Offer, int], wall_ms: int, cpu_ms: int, memory: int, prices: Prices
) -> None:
    bid, offer, _ = papers
    offer = replace(offer, prices=prices.pack())
    state = opened((bid, offer, ask_up(bid, offer)))
    usage = builders.some_usage(wall_ms=wall_ms, cpu_ms=cpu_ms, peak_memory_mib=memory)
    full = due(state.lease, state.clauses, offer, "capacity", usage, "ok")
    used = due(state.lease, state.clauses, offer, "usage", usage, "ok")
    assert 0 <= used.amount <= full.amount <= state.lease.price
    assert used.billed_seconds == full.billed_seconds <= state.clauses.max_seconds
    longer = builders.some_usage(wall_ms=wall_ms + 1000, cpu_ms=cpu_ms, peak_memory_mib=memory)
    assert due(state.lease, state.clauses, offer, "capacity", longer, "ok").amount >= full.amount
