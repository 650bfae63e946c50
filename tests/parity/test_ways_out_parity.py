"""The edges of the ways out, on bytecode and model at once: windows, colliding roles, retries, interim units."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

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
    Status,
    Stop,
    fee_down,
    most_claimable,
)
from suanli_protocol.messages import ZERO_ADDRESS, Bid, Offer
from support import builders
from support.builders import NOW
from support.escrow_world import FUNDS, World
from support.evm import Evm

RATE = 3_600_000  # a thousand units a second
W, SECONDS = 60, 100
END = NOW + SECONDS


@pytest.fixture
def world() -> World:
    return World.begin(Evm())


def papers(world: World, *, arbitrated: bool = True, **fields: Any) -> tuple[Bid, Offer]:
    """Consumer, provider, market, guard and arbiter are five people unless a test says otherwise."""
    consumer, provider, market, guard, arbiter = (person.address for person in world.people)
    values: dict[str, Any] = {
        "consumer": consumer,
        "market": market,
        "guard": guard,
        "arbiter": arbiter if arbitrated else ZERO_ADDRESS,
        "max_seconds": SECONDS,
        "window": W,
        "attempts": 3,
        "max_rate": 2**96 - 1,
        "budget": 10**9,
        "valid_until": NOW + 10_000,
    }
    bid = builders.a_bid(**(values | fields))
    offer = builders.an_offer(
        provider=provider, arbiter=bid.arbiter, prices=0, min_seconds=10, bond_bps=2000, valid_until=NOW + 10_000
    )
    return bid, offer


def opened(world: World, **fields: Any) -> State:
    state = world.open(*papers(world, **fields), RATE)
    assert state is not None
    return state


def at(world: World, second: int) -> None:
    world.pass_time(second - world.now)


def does(world: World, change: Change, caller: int, **how: bool) -> bool:
    """Whether bytecode and model both make the change of the newest lease, by one of the five people."""
    made = world.change(len(world.states) - 1, change, world.people[caller].address, **how) is not None
    world.check()
    return made


CONSUMER, PROVIDER, MARKET, GUARD, ARBITER = range(5)


@pytest.mark.parametrize("stopped_at", [None, NOW, NOW + 40, END, END + 5])
def test_claim_ends_where_reclaim_begins(world: World, stopped_at: int | None) -> None:
    opened(world)
    end = END
    if stopped_at is not None:
        at(world, stopped_at)
        assert does(world, Stop(by_consumer_side=True), GUARD)
        end = min(stopped_at, END)
    at(world, end + W - 1)
    assert not does(world, Reclaim(), MARKET)
    most = most_claimable(world.states[-1], world.now)
    assert most == 1000 * max(10, end - NOW)
    assert not does(world, Claim(most + 1, Kind.DONE), PROVIDER)
    assert not does(world, Claim(most, Kind.INTERIM), PROVIDER)
    assert not does(world, Claim(most, Kind.DONE), CONSUMER)
    at(world, end + W)
    assert not does(world, Claim(most, Kind.DONE), PROVIDER)
    assert does(world, Reclaim(), MARKET)
    assert world.accounts[world.people[CONSUMER].address].free == FUNDS + world.states[-1].lease.bond
    assert world.states[-1].reopenable


def test_the_last_second_of_a_claim(world: World) -> None:
    opened(world)
    at(world, END + W - 1)
    assert does(world, Claim(100_000, Kind.DONE), PROVIDER)
    assert world.accounts[world.people[PROVIDER].address].used.pack() == 0
    at(world, END + 2 * W - 2)
    assert not does(world, Finalize(), MARKET)
    at(world, END + 2 * W - 1)
    assert not does(world, Dispute(), CONSUMER)
    assert not does(world, Reclaim(), CONSUMER)
    assert does(world, Finalize(), MARKET)
    state = world.states[-1]
    assert (state.status, state.reopenable, state.progress.paid) == (Status.FINALIZED, False, 100_000)


def test_the_last_second_of_a_dispute_and_of_a_verdict(world: World) -> None:
    opened(world)
    at(world, NOW + 50)
    assert does(world, Claim(50_000, Kind.DONE), PROVIDER)
    at(world, NOW + 50 + W - 1)
    for nobody in (PROVIDER, MARKET, ARBITER):
        assert not does(world, Dispute(), nobody)
    assert does(world, Dispute(), GUARD)
    assert not does(world, Dispute(), CONSUMER)
    at(world, NOW + 50 + 4 * W - 2)
    assert not does(world, Finalize(), MARKET)
    assert not does(world, Resolve(50_001, 0), ARBITER)
    assert not does(world, Resolve(0, world.states[-1].lease.bond + 1), ARBITER)
    assert not does(world, Resolve(20_000, 0), CONSUMER)
    assert does(world, Resolve(20_000, 1_000), CONSUMER, signed=True)


@pytest.mark.parametrize("kind", [Kind.DONE, Kind.FAILED])
def test_an_arbiter_that_is_silent(world: World, kind: Kind) -> None:
    opened(world)
    assert does(world, Settle(7, Kind.INTERIM), MARKET)
    at(world, NOW + 50)
    assert does(world, Claim(50_000, kind), PROVIDER)
    assert does(world, Dispute(), CONSUMER)
    at(world, NOW + 50 + 3 * W)
    assert not does(world, Resolve(20_000, 0), ARBITER)
    assert does(world, Finalize(), MARKET)
    assert world.states[-1].progress.paid == 7 + (50_000 - 7) // 2
    assert world.states[-1].reopenable is (kind is Kind.FAILED)
    assert world.accounts[world.people[ARBITER].address].free == FUNDS


@pytest.mark.parametrize(
    ("award", "slash", "consumer_pays", "provider_pays", "taken"),
    [
        (50_007, 0, 5_000, 0, 0),
        (7, 0, 0, 5_000, 0),
        (25_007, 0, 2_500, 2_500, 0),
        (7 + 16_666, 0, 1_666, 3_334, 0),
        (7, 20_000, 0, 5_000, 15_000),
        (50_007, 20_000, 5_000, 0, 20_000),
    ],
)
def test_dispute_money(
    world: World, award: int, slash: int, consumer_pays: int, provider_pays: int, taken: int
) -> None:
    state = opened(world, fee_bps=0)
    assert state.lease.bond == 20_000
    assert does(world, Settle(7, Kind.INTERIM), MARKET)
    at(world, NOW + 51)
    assert does(world, Claim(50_007, Kind.FAILED), PROVIDER)
    assert does(world, Dispute(), CONSUMER)
    assert does(world, Resolve(award, slash), ARBITER)
    free = [world.accounts[person.address].free - FUNDS for person in world.people]
    assert free[CONSUMER] == -award - consumer_pays + taken
    assert free[PROVIDER] == award - provider_pays - taken
    assert free[ARBITER] == 5_000
    assert (world.states[-1].reopenable, sum(free)) == (False, 0)


def test_without_an_arbiter_the_claim_stands(world: World) -> None:
    opened(world, arbitrated=False)
    assert does(world, Claim(10_000, Kind.DONE), PROVIDER)
    assert not does(world, Dispute(), CONSUMER)
    at(world, NOW + W)
    assert does(world, Finalize(), PROVIDER)


def test_agreement_beats_procedure(world: World) -> None:
    for steps in ([], [Dispute()]):
        world.pass_time(1)
        opened(world, seat=builders.a_seat(len(steps)))
        assert does(world, Claim(10_000, Kind.DONE), PROVIDER)
        for step in steps:
            assert does(world, step, CONSUMER)
        assert not does(world, Settle(5, Kind.INTERIM), MARKET)
        assert not does(world, Stop(by_consumer_side=True), CONSUMER)
        assert not does(world, Release(), PROVIDER)
        assert not does(world, Claim(10_000, Kind.DONE), PROVIDER)
        assert does(world, Settle(4_000, Kind.DONE), MARKET)
        assert world.accounts[world.people[PROVIDER].address].used.pack() == 0


def test_a_receipt_above_the_clock_can_still_be_claimed(world: World) -> None:
    """Both signed more than the time that passed: the provider alone must not lose it."""
    opened(world)
    assert does(world, Settle(90_000, Kind.INTERIM), MARKET)
    assert does(world, Stop(by_consumer_side=True), CONSUMER)
    assert not does(world, Claim(90_001, Kind.DONE), PROVIDER)
    assert does(world, Claim(90_000, Kind.DONE), PROVIDER)


ENDS: dict[str, list[tuple[int, Change, int]]] = {
    "done": [(0, Settle(12, Kind.DONE), MARKET)],
    "failed": [(0, Settle(11, Kind.FAILED), MARKET)],
    "release": [(0, Release(), PROVIDER)],
    "stop, release": [(5, Stop(by_consumer_side=True), CONSUMER), (0, Release(), PROVIDER)],
    "claim done": [(20, Claim(12_345, Kind.DONE), PROVIDER), (W, Finalize(), GUARD)],
    "claim failed": [(20, Claim(12_345, Kind.FAILED), PROVIDER), (W, Finalize(), GUARD)],
    "stop, claim": [
        (0, Stop(by_consumer_side=False), PROVIDER),
        (5, Claim(9_999, Kind.DONE), PROVIDER),
        (W, Finalize(), GUARD),
    ],
    "resolve": [(20, Claim(12_345, Kind.FAILED), PROVIDER), (1, Dispute(), GUARD), (1, Resolve(777, 99), ARBITER)],
    "silence": [(20, Claim(12_345, Kind.FAILED), PROVIDER), (1, Dispute(), GUARD), (3 * W, Finalize(), GUARD)],
    "reclaim": [(SECONDS + W, Reclaim(), GUARD)],
}
REOPENABLE = {"failed", "release", "stop, release", "claim failed", "silence", "reclaim"}


@pytest.mark.parametrize("units", [0, 1, 11])
@pytest.mark.parametrize("way", ENDS)
def test_payout_and_fee_and_refund_are_the_deposit_then_the_seat_again(world: World, way: str, units: int) -> None:
    """Interim receipts of one unit each, a way out; then another attempt at the seat, if that way leaves it open."""
    state = opened(world, fee_bps=3_333)
    for amount in range(1, units + 1):
        assert does(world, Settle(amount, Kind.INTERIM), MARKET)
    for seconds, change, caller in ENDS[way]:
        world.pass_time(seconds)
        assert does(world, change, caller)
    ended = world.states[-1]
    paid, lease = ended.progress.paid, ended.lease
    free = [world.accounts[person.address].free - FUNDS for person in world.people]
    assert free[MARKET] == fee_down(paid, lease.fee_bps)
    assert sum(free) == 0
    assert ended.reopenable is (way in REOPENABLE)

    bid, offer = papers(world, fee_bps=3_333)
    assert world.open(bid, offer, RATE) is None, "not without the proof"
    if ended.previous is None:
        forged = replace(ended, reopenable=True).previous
        assert forged is not None
        assert world.open(bid, offer, RATE, forged.encode()) is None, "nor with a forged one"
        return
    proof = ended.previous.encode()
    short = replace(bid, budget=paid + free[MARKET] + state.lease.price + fee_down(state.lease.price, 3_333))
    assert world.open(replace(short, budget=short.budget - 1), offer, RATE, proof) is None, "one unit beyond the budget"
    again = world.open(short, offer, RATE, proof)
    assert again is not None
    assert (again.clauses.attempt, again.clauses.spent) == (2, paid + free[MARKET])
    assert world.open(short, offer, RATE, proof) is None, "the proof is used up"
    world.check()


def test_attempts_run_out_and_a_newer_bid_adds_some(world: World) -> None:
    bid, offer = papers(world, attempts=2)
    proof, spent = b"", 0
    for attempt in (1, 2):
        state = world.open(bid, offer, RATE, proof)
        assert state is not None
        assert (state.clauses.attempt, state.clauses.spent) == (attempt, spent)
        assert does(world, Settle(1_000, Kind.FAILED), MARKET)
        last = world.states[-1].previous
        assert last is not None
        proof, spent = last.encode(), last.total
    assert world.open(bid, offer, RATE, proof) is None
    newer = replace(bid, attempts=3, max_rate=RATE + 5, guard=ZERO_ADDRESS)
    third = world.open(newer, offer, RATE + 5, proof)
    assert third is not None
    assert (third.clauses.attempt, third.clauses.spent) == (3, 2 * (1_000 + 5))


def test_a_reopenable_seat_is_cancelled_by_its_proof(world: World) -> None:
    bid, offer = papers(world)
    consumer = bid.consumer
    opened(world)
    assert not world.cancel(consumer, bid)
    assert does(world, Release(), PROVIDER)
    last = world.states[-1].previous
    assert last is not None
    assert not world.cancel(consumer, bid)
    assert not world.cancel(world.people[MARKET].address, bid, last.encode())
    assert world.cancel(consumer, bid, last.encode())
    assert not world.cancel(consumer, bid, last.encode())
    assert world.open(bid, offer, RATE, last.encode()) is None


@pytest.mark.parametrize("guard", range(5))
@pytest.mark.parametrize("market", range(5))
@pytest.mark.parametrize("arbiter", range(5))
def test_colliding_roles_never_mint(market: int, guard: int, arbiter: int) -> None:
    world = World.begin(EVM)
    people = [person.address for person in world.people]
    roles = {"market": people[market], "guard": people[guard], "arbiter": people[arbiter], "fee_bps": 10_000}
    with EVM.undone():
        opened(world, **roles)
        assert does(world, Settle(3, Kind.INTERIM), MARKET)
        at(world, NOW + 30)
        assert does(world, Claim(30_000, Kind.FAILED), PROVIDER)
        assert does(world, Dispute(), guard)
        assert does(world, Resolve(11_111, 5_000), arbiter)
        assert sum(account.free for account in world.accounts.values()) == 5 * FUNDS


EVM = Evm()


def test_the_phases_have_their_ways(world: World) -> None:
    """A change that a phase does not have is refused on both sides, at any time."""
    every: list[tuple[Change, int]] = [
        (Stop(by_consumer_side=True), CONSUMER),
        (Release(), PROVIDER),
        (Claim(0, Kind.DONE), PROVIDER),
        (Dispute(), CONSUMER),
        (Resolve(0, 0), ARBITER),
        (Finalize(), MARKET),
        (Reclaim(), MARKET),
    ]
    opened(world)
    world.set_account(world.people[ARBITER].address, Account(FUNDS))
    has: dict[Phase, set[type]] = {
        Phase.RUNNING: {Stop, Release, Claim},
        Phase.CLAIMED: {Dispute},
        Phase.DISPUTED: {Resolve},
    }
    for phase, move in ((Phase.RUNNING, every[2]), (Phase.CLAIMED, every[3]), (Phase.DISPUTED, every[4])):
        assert world.states[-1].progress.phase is phase
        for change, caller in every:
            if type(change) not in has[phase]:
                assert not does(world, change, caller)
        assert does(world, *move)
    for change, caller in every:
        assert not does(world, change, caller)
