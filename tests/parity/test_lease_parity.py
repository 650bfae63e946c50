"""Whole leases: the compiled escrow and the Python state machine refuse, pay and lock the same on generated lives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from suanli_protocol import events
from suanli_protocol.capacity import Lanes
from suanli_protocol.escrow import CLOSED
from suanli_protocol.lease import (
    Account,
    Change,
    Claim,
    Dispute,
    Kind,
    Release,
    Settle,
    State,
    Stop,
    clauses_hash,
    lease_id,
    refusal,
    seat_word,
    terms,
)
from suanli_protocol.lease import Refusal as Code
from suanli_protocol.messages import ZERO32, ZERO_ADDRESS, Bid, Offer, Receipt
from suanli_protocol.openings import NO_SIGNATURE, Fill, Opening, Settlement, encode_open, encode_settle
from suanli_protocol.signing import Signer, struct_hash
from support import builders
from support.builders import NOW
from support.escrow_world import World
from support.evm import LocalEscrow
from support.strategies import ACCOUNTS, bids, changes, matching_papers, moments, mostly, offers

GENERATED = settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
LIVES = settings(GENERATED, max_examples=80)
MARKET, STRANGER = builders.market(), builders.a_signer(9)
GUARD, ARBITER = builders.a_signer(4), builders.a_signer(5)  # of matching papers


def open_data(escrow: LocalEscrow, bid: Bid, offer: Offer, rate: int, index: int = 0, previous: bytes = b"") -> bytes:
    """One signed pair as calldata."""
    provider, consumer = builders.provider(), builders.consumer()
    if (bid.consumer, offer.provider) == (provider.address, consumer.address):
        provider, consumer = consumer, provider
    fill = Fill(offer, provider.sign(escrow.domain, offer), rate, index, previous)
    return encode_open(ZERO32, [Opening(bid, consumer.sign(escrow.domain, bid), (fill,))])


@GENERATED
@given(
    bid=bids(),
    offer=offers(),
    rate=mostly(40_000, st.sampled_from([0, 35_099, 35_100, 2**96 - 1])),
    consumer=ACCOUNTS,
    provider=ACCOUNTS,
    caller=mostly(MARKET.address, st.just(STRANGER.address)),
    owner=st.sampled_from([ZERO_ADDRESS, STRANGER.address]),
    fill=mostly((0, b""), st.sampled_from([(1, b""), (0, b"\x01")])),
    seat=mostly(ZERO32, st.just(CLOSED)),
)
def test_open_refuses_what_python_refuses(
    local_escrow: LocalEscrow,
    bid: Bid,
    offer: Offer,
    rate: int,
    consumer: Account,
    provider: Account,
    caller: str,
    owner: str,
    fill: tuple[int, bytes],
    seat: bytes,
) -> None:
    index, previous = fill
    with local_escrow.evm.undone():
        local_escrow.evm.at(NOW)
        local_escrow.set_account(offer.provider, provider)
        local_escrow.set_account(bid.consumer, consumer)
        local_escrow.set_owner(MARKET.address, owner)
        local_escrow.set_seat(bid.seat, bid.consumer, seat)
        got = local_escrow.send(caller, open_data(local_escrow, bid, offer, rate, index, previous))[1]
        same = offer.provider == bid.consumer  # then there is one account, the one written last
        expected = refusal(
            bid,
            offer,
            rate=rate,
            index=index,
            previous=previous,
            caller=caller,
            now=NOW,
            consumer=consumer,
            provider=consumer if same else provider,
            seat=seat if index == 0 else ZERO32,
            market_owner=owner if bid.market == MARKET.address else ZERO_ADDRESS,
        )
        event(expected.name)
        if expected is not Code.NONE:
            assert isinstance(got, events.Refused)
            assert got.refusal is expected
            return
        lease, clauses = terms(bid, offer, rate=rate, index=index, opened_at=NOW)
        assert isinstance(got, events.Opened)
        assert got.lease_id == lease_id(lease)
        assert (got.bid_hash, got.offer_hash, got.rate) == (struct_hash(bid), struct_hash(offer), rate)
        assert local_escrow.seat(lease.seat_key) == seat_word(lease_id(lease), State(lease, clauses).progress)
        assert local_escrow.account(bid.consumer)[0] == consumer.free - lease.deposit
        free, _, used = local_escrow.account(offer.provider)
        assert (free, used) == (provider.free - lease.bond, (provider.used + Lanes.unpack(bid.need)).pack())


GUARD_BIT = 1 << 127
FAULTS: list[tuple[Code, dict[str, Any], dict[str, Any]]] = [
    (Code.NONE, {}, {}),
    (Code.NOT_THE_MARKET, {"market": STRANGER.address}, {"market": MARKET.address}),
    (Code.OTHER_MARKET, {"valid_until": NOW}, {"market": STRANGER.address}),
    (Code.SAME_PARTY, {"consumer": builders.provider().address, "valid_until": NOW}, {}),
    (Code.BID_EXPIRED, {"valid_until": NOW}, {"valid_until": NOW}),
    (Code.OFFER_EXPIRED, {"counter": 1}, {"valid_until": NOW}),
    (Code.BID_COUNTER, {"counter": 1}, {"counter": 1}),
    (Code.OFFER_COUNTER, {"count": 2}, {"counter": 1}),
    (Code.UNSUPPORTED, {"count": 2, "arbiter": STRANGER.address}, {}),
    (Code.ATTEMPTS, {"attempts": 0, "count": 2}, {}),
    (Code.UNSUPPORTED, {"count": 2}, {"arbiter": STRANGER.address}),
    (Code.UNSUPPORTED, {"gang": True}, {"max_seconds": 0}),
    (Code.ARBITER, {"arbiter": STRANGER.address, "max_seconds": 0}, {}),
    (Code.ARBITER, {}, {"arbiter": STRANGER.address, "max_seconds": 0}),
    (Code.SECONDS, {"max_seconds": 0}, {"prices": 2**256 - 1}),
    (Code.SECONDS, {}, {"min_seconds": 3601, "prices": 2**256 - 1}),
    (Code.RATE_BELOW_ASK, {"max_rate": 0}, {"prices": 2**256 - 1}),
    (Code.RATE_ABOVE_BID, {"max_rate": 39_999, "budget": 0}, {}),
    (Code.BUDGET, {"budget": 40_199, "window": 3601}, {}),
    (Code.WINDOW, {"window": 3601}, {"bond_bps": 0}),
    (Code.BOND, {"fee_bps": 10_001}, {"bond_bps": 999}),
    (Code.BOND, {"fee_bps": 10_001}, {"bond_bps": 10_001}),
    (Code.FEE, {"fee_bps": 10_001, "needs": 2**63}, {}),
    (Code.TRAITS, {"needs": 2**63}, {"capacity": GUARD_BIT}),
    (Code.TRAITS, {"refuses": 2}, {"capacity": GUARD_BIT}),
    (Code.LANES, {}, {"capacity": GUARD_BIT}),
    (Code.CAPACITY, {}, {"capacity": 0}),
]


@pytest.mark.parametrize(("code", "bid_fields", "offer_fields"), FAULTS)
def test_each_refusal_stands_before_the_next(
    local_escrow: LocalEscrow, code: Code, bid_fields: dict[str, Any], offer_fields: dict[str, Any]
) -> None:
    """Each case is at fault twice; both sides name the first fault."""
    bid, offer = builders.a_bid(**bid_fields), builders.an_offer(**offer_fields)
    rich = Account(10**9)
    with local_escrow.evm.undone():
        local_escrow.evm.at(NOW)
        for address in {bid.consumer, offer.provider}:
            local_escrow.set_account(address, rich)
        got = local_escrow.send(MARKET.address, open_data(local_escrow, bid, offer, 40_000))[1]
        expected = refusal(bid, offer, rate=40_000, caller=MARKET.address, now=NOW, consumer=rich, provider=rich)
        assert expected is code
        assert (got.refusal if isinstance(got, events.Refused) else Code.NONE) is code


@pytest.mark.parametrize("wrong", ["bid", "offer"])
def test_a_wrong_signature_is_named(local_escrow: LocalEscrow, wrong: str) -> None:
    bid, offer = builders.a_bid(), builders.an_offer()
    signed = {
        "bid": builders.consumer().sign(local_escrow.domain, bid),
        "offer": builders.provider().sign(local_escrow.domain, offer),
    }
    for forged in (
        NO_SIGNATURE,
        STRANGER.sign(local_escrow.domain, bid),
        bytes([signed[wrong][0] ^ 1]) + signed[wrong][1:],
    ):
        with local_escrow.evm.undone():
            local_escrow.evm.at(NOW)
            for signer in (builders.consumer(), builders.provider()):
                local_escrow.set_account(signer.address, Account(10**9))
            proofs = signed | {wrong: forged}
            opening = Opening(bid, proofs["bid"], (Fill(offer, proofs["offer"], 40_000),))
            got = local_escrow.send(MARKET.address, encode_open(ZERO32, [opening]))[1]
            assert isinstance(got, events.Refused)
            assert got.refusal is (Code.BID_SIGNATURE if wrong == "bid" else Code.OFFER_SIGNATURE)


def a_world(escrow: LocalEscrow) -> World:
    """Whom matching papers name, with more money than any of them needs."""
    people = (builders.consumer(), builders.provider(), MARKET, GUARD, ARBITER)
    world = World(escrow, people=people, funds=2**95)
    world.endow()
    return world


def begin(world: World, bid: Bid, offer: Offer, rate: int) -> State:
    """Opens the world's lease."""
    state = world.open(bid, offer, rate)
    assert state is not None
    assert clauses_hash(state.clauses) == state.lease.clauses
    return state


def who_makes(state: State, change: Change) -> str:
    """Somebody who may."""
    match change:
        case Stop(by_consumer_side):
            return (consumer_side(state) if by_consumer_side else builders.provider()).address
        case Release() | Claim():
            return builders.provider().address
        case Dispute():
            return consumer_side(state).address
        case _:
            return MARKET.address


def consumer_side(state: State) -> Signer:
    """The guard if there is one, else the consumer."""
    return builders.consumer() if state.clauses.guard == ZERO_ADDRESS else GUARD


@LIVES
@given(papers=matching_papers(), data=st.data())
def test_lives_of_leases(local_escrow: LocalEscrow, papers: tuple[Bid, Offer, int], data: st.DataObject) -> None:
    with local_escrow.evm.undone():
        world = a_world(local_escrow)
        begin(world, *papers)
        for _ in range(data.draw(st.integers(1, 8))):
            state = world.states[0]
            world.pass_time(data.draw(moments(state, world.now)) - world.now)
            change = data.draw(changes(state, world.now))
            world.change(0, change, who_makes(state, change), signed=True)
            world.check()
        state = world.states[0]
        event(state.status)
        if state.is_open:
            assert world.change(0, Settle(state.progress.paid, Kind.DONE), MARKET.address) is not None
        world.check()
        assert sum(account.free for account in world.accounts.values()) == 5 * world.funds


def test_interim_receipts_of_one_unit_each_cost_what_one_big_one_does(local_escrow: LocalEscrow) -> None:
    bid = builders.a_bid(max_seconds=60, fee_bps=3_333)
    with local_escrow.evm.undone():
        world = a_world(local_escrow)
        price = begin(world, bid, builders.an_offer(prices=0), 3_000).lease.price
        for amount in range(1, price + 1):
            world.pass_time(1)
            assert world.change(0, Settle(amount, Kind.INTERIM), MARKET.address) is not None
        assert world.change(0, Settle(price, Kind.DONE), MARKET.address) is not None
        world.check()
        got = [world.accounts[who.address].free - world.funds for who in (builders.provider(), MARKET)]
        assert got == [50, 50 * 3_333 // 10_000]


def test_a_market_that_is_a_party_mints_nothing(local_escrow: LocalEscrow) -> None:
    for party in (builders.consumer(), builders.provider()):
        bid = replace(builders.a_bid(), market=party.address, fee_bps=10_000)
        with local_escrow.evm.undone():
            local_escrow.evm.at(NOW)
            for signer in (builders.consumer(), builders.provider()):
                local_escrow.set_account(signer.address, Account(10**9))
            opened = local_escrow.send(party.address, open_data(local_escrow, bid, builders.an_offer(), 40_000))[1]
            assert isinstance(opened, events.Opened)
            state = State(*terms(bid, builders.an_offer(), rate=40_000, opened_at=NOW))
            receipt = Receipt(opened.lease_id, 30_000, 1, ZERO32)
            signed = [s.sign(local_escrow.domain, receipt) for s in (builders.provider(), builders.consumer())]
            entry = Settlement(state.lease, state.progress, 30_000, 1, ZERO32, signed[0], signed[1])
            assert isinstance(local_escrow.send(STRANGER.address, encode_settle([entry]))[0], events.Settled)
            frees = [local_escrow.account(s.address)[0] for s in (builders.consumer(), builders.provider())]
            assert sum(frees) == 2 * 10**9
