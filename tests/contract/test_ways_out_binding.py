"""Each way out through the binding on a real chain, and what any stranger then finds there of the lease."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from suanli_protocol import events
from suanli_protocol.chain import Chain
from suanli_protocol.devnet import set_balance
from suanli_protocol.errors import ChainRevertedError, NotFoundError
from suanli_protocol.escrow import Escrow, deploy
from suanli_protocol.lease import (
    Change,
    Claim,
    Dispute,
    Finalize,
    Kind,
    Reclaim,
    Release,
    Resolve,
    State,
    Stop,
    apply,
    lease_id,
    terms,
)
from suanli_protocol.lease_lookup import find_lease
from suanli_protocol.messages import ZERO32, Bid, Offer, Verdict
from suanli_protocol.openings import Fill, Opening
from support import builders
from support.devnet import Anvil, start_anvil
from support.told import event_of, without_place

CONSUMER, PROVIDER, MARKET, GUARD, ARBITER = (builders.a_signer(n) for n in range(1, 6))
EVIDENCE = b"\x05" * 32
W = 600


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    """A devnet of this file's own: time passes on it."""
    with start_anvil() as devnet:
        yield devnet


@pytest.fixture(scope="module")
def escrow(anvil: Anvil) -> Iterator[Escrow]:
    with Chain(anvil.url) as chain:
        for signer in (CONSUMER, PROVIDER, MARKET, GUARD, ARBITER):
            set_balance(chain, signer.address, 10**20)
        escrow = Escrow(chain, deploy(MARKET, chain).escrow)
        for signer in (CONSUMER, PROVIDER):
            escrow.faucet(signer, signer.address, 1000 * builders.CREDIT)
            escrow.deposit(signer, signer.address, 1000 * builders.CREDIT)
        yield escrow


_seats = iter(range(1, 1000))


def papers(escrow: Escrow) -> tuple[Bid, Offer]:
    until = escrow.chain.block().timestamp + 100_000
    people = {"guard": GUARD.address, "arbiter": ARBITER.address}
    bid = builders.a_bid(**people, seat=builders.a_seat(next(_seats)), window=W, attempts=3, valid_until=until)
    return bid, builders.an_offer(arbiter=ARBITER.address, valid_until=until)


def opened(escrow: Escrow, bid: Bid, offer: Offer, before: State | None = None) -> State:
    """The first attempt at a seat, or the one after `before`."""
    previous = before.previous if before else None
    proof = previous.encode() if previous else b""
    fill = Fill(offer, PROVIDER.sign(escrow.domain, offer), 40_000, 0, proof)
    receipt = escrow.open(MARKET, ZERO32, [Opening(bid, CONSUMER.sign(escrow.domain, bid), (fill,))])
    assert isinstance(escrow.events_of(receipt)[1], events.Opened)
    attempt, spent = (previous.next_attempt, previous.total) if previous else (1, 0)
    at = escrow.chain.block(receipt.block).timestamp
    return State(*terms(bid, offer, rate=40_000, attempt=attempt, spent=spent, opened_at=at))


def made(escrow: Escrow, state: State, change: Change, *, signed: bool = False) -> State:
    """The state after a change that the escrow made; money, word and event are the model's."""
    of = (state.lease, state.clauses, state.progress)
    match change:
        case Stop():
            who, receipt = GUARD, escrow.stop(GUARD, *of)
        case Release():
            who, receipt = PROVIDER, escrow.release(PROVIDER, *of)
        case Claim(amount, kind):
            who, receipt = PROVIDER, escrow.claim(PROVIDER, *of, amount, kind, EVIDENCE)
        case Dispute():
            who, receipt = CONSUMER, escrow.dispute(CONSUMER, *of)
        case Resolve(award, slash):
            verdict = Verdict(lease_id(state.lease), award, slash, EVIDENCE)
            proof = (escrow.sign_verdict(ARBITER, verdict),) if signed else ()
            who = MARKET if signed else ARBITER
            receipt = escrow.resolve(who, *of, award, slash, EVIDENCE, *proof)
        case Finalize():
            who, receipt = GUARD, escrow.finalize(GUARD, *of)
        case _:
            who, receipt = GUARD, escrow.reclaim(GUARD, *of)
    after, split = apply(state, change, escrow.chain.block(receipt.block).timestamp)
    (event,) = escrow.events_of(receipt)
    assert without_place(event) == without_place(event_of(state, change, after, split, who.address, EVIDENCE))
    assert escrow.seat(state.lease.seat_key) == after.word
    return after


def wait(anvil: Anvil, seconds: int) -> None:
    anvil.rpc("evm_increaseTime", seconds)
    anvil.rpc("evm_mine")


LIVES: dict[str, list[Change | int]] = {
    "open": [],
    "stopped": [Stop(by_consumer_side=True)],
    "released": [Release()],
    "claimed": [Claim(10, Kind.DONE)],
    "disputed": [Claim(10, Kind.DONE), Dispute()],
    "resolved": [60, Claim(500, Kind.FAILED), Dispute(), Resolve(200, 7)],
    "finalized": [60, Claim(500, Kind.DONE), W, Finalize()],
    "silence": [60, Claim(500, Kind.FAILED), Dispute(), 3 * W, Finalize()],
    "reclaimed": [Stop(by_consumer_side=True), W, Reclaim()],
}


@pytest.mark.parametrize(("name", "signed"), [*((name, False) for name in LIVES), ("resolved", True)])
def test_a_life_and_what_is_found_of_it(anvil: Anvil, escrow: Escrow, name: str, signed: bool) -> None:
    bid, offer = papers(escrow)
    state = opened(escrow, bid, offer)
    for step in LIVES[name]:
        if isinstance(step, int):
            wait(anvil, step)
        else:
            state = made(escrow, state, step, signed=signed)
    full = "0x" + lease_id(state.lease).hex()
    found = find_lease(escrow, full)
    by_prefix = find_lease(escrow, full[:18])
    by_number = find_lease(escrow, str(by_prefix.number))
    assert found.id == by_prefix.id == by_number.id == lease_id(state.lease)
    for each in (found, by_prefix, by_number):
        assert (each.bid, each.offer, each.state.lease, each.state.clauses) == (bid, offer, state.lease, state.clauses)
        assert each.history.state == state.status
        assert each.history.paid == state.progress.paid
        if state.is_open:
            assert each.state == state


def test_each_attempt_of_a_seat_is_found_for_itself(anvil: Anvil, escrow: Escrow) -> None:
    bid, offer = papers(escrow)
    first = made(escrow, opened(escrow, bid, offer), Release())
    second = opened(escrow, bid, offer, first)
    wait(anvil, 60)
    for change in (Claim(300, Kind.FAILED), Dispute()):
        second = made(escrow, second, change)
    wait(anvil, 3 * W)
    second = made(escrow, second, Finalize())
    third = opened(escrow, bid, offer, second)
    assert (third.clauses.attempt, third.clauses.spent) == (3, second.spent)
    for state in (first, second, third):
        found = find_lease(escrow, "0x" + lease_id(state.lease).hex())
        assert (found.state.clauses, found.history.state) == (state.clauses, state.status)
    last = made(escrow, third, Release()).previous
    assert last is not None
    (event,) = escrow.events_of(escrow.cancel(CONSUMER, bid.consumer, bid.seat, 0, last.encode()))
    assert isinstance(event, events.Cancelled)
    assert find_lease(escrow, "0x" + lease_id(third.lease).hex()).history.state == "released"


def test_too_early_and_too_late_name_the_second(anvil: Anvil, escrow: Escrow) -> None:
    state = opened(escrow, *papers(escrow))
    with pytest.raises(ChainRevertedError, match="TooEarly"):
        escrow.reclaim(GUARD, state.lease, state.clauses, state.progress)
    state = made(escrow, state, Claim(10, Kind.DONE))
    with pytest.raises(ChainRevertedError, match="TooEarly"):
        escrow.finalize(GUARD, state.lease, state.clauses, state.progress)
    with pytest.raises(ChainRevertedError, match="NotAuthorized"):
        escrow.dispute(PROVIDER, state.lease, state.clauses, state.progress)
    wait(anvil, W)
    with pytest.raises(ChainRevertedError, match="TooLate"):
        escrow.dispute(CONSUMER, state.lease, state.clauses, state.progress)
    wrong = replace(state, progress=replace(state.progress, claimed=11))
    with pytest.raises(ChainRevertedError, match="UnknownLease"):
        escrow.finalize(GUARD, wrong.lease, wrong.clauses, wrong.progress)


def test_there_is_no_such_lease(escrow: Escrow) -> None:
    for which in ("0", "100000", "0x" + "ab" * 32, "0xabababab", "0x12", "lease", "0x" + "zz" * 32):
        with pytest.raises(NotFoundError):
            find_lease(escrow, which)
