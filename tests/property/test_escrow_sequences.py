"""The compiled escrow beside the Python model: anything in any order, then a drain with one party absent (threat T10).

SUANLI_FUZZ_CALLS sets how many calls each seed makes (300 by default), SUANLI_FUZZ_SEED the first of the seeds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from suanli_protocol import ways_out
from suanli_protocol.lease import (
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
    acts_for,
    lease_id,
    most_claimable,
)
from suanli_protocol.messages import Bid
from support.escrow_world import World, a_random_deal
from support.evm import Evm

CALLS = int(os.environ.get("SUANLI_FUZZ_CALLS", "300"))
SEED = int(os.environ.get("SUANLI_FUZZ_SEED", "1"))


def fuzz(seed: int, calls: int) -> World:
    """A world after so many random calls; the books were compared after each."""
    random, world = Random(seed), World.begin(Evm())
    for _ in range(calls):
        step(world, random)
        world.check()
    return world


def step(world: World, random: Random) -> None:
    """One thing that happens."""
    die = random.random()
    if die < 0.15:
        world.pass_time(random.choice([0, 1, random.randint(0, 40)]))
    elif die < 0.2:
        to_an_edge(world, random)
    elif die < 0.4 or not world.states:
        open_any(world, random)
    elif die < 0.42:
        cancel_any(world, random)
    else:
        change_any(world, random)


def to_an_edge(world: World, random: Random) -> None:
    """To the second of a window's end, or the one before or after."""
    edges = [edge for state in world.states for edge in edges_of(state)]
    ahead = [edge + beside - world.now for edge in edges for beside in (-1, 0, 1) if edge + beside >= world.now]
    world.pass_time(random.choice(ahead or [1]))


def edges_of(state: State) -> list[int]:
    """The seconds at which something begins or ends to be possible."""
    if not state.is_open:
        return []
    windows = (ways_out.claim_until, ways_out.dispute_until, ways_out.finalize_from)
    return [state.ends_at, *(edge for edge in (window(state) for window in windows) if edge is not None)]


def open_any(world: World, random: Random) -> None:
    """A new seat, or another attempt at an old one, with its proof or with a wrong one."""
    bid, offer, rate = a_random_deal(world, random)
    earlier = [state for state in world.states if state.previous is not None]
    if earlier and random.random() < 0.5:
        last = random.choice(earlier)
        bid = of_the_seat(world, bid, last) if random.random() < 0.5 else world.bids[lease_id(last.lease)]
        if offer.provider == bid.consumer:
            return
        assert last.previous is not None
        proof = last.previous.encode()
        if random.random() < 0.1:
            proof = proof[:-1] + bytes([proof[-1] ^ 1])
        offer = replace(offer, arbiter=bid.arbiter)
        world.open(bid, offer, rate, proof)
    elif world.states and random.random() < 0.1:
        used = world.bids[lease_id(random.choice(world.states).lease)]
        if used.consumer != offer.provider:
            world.open(used, offer, rate)
    else:
        world.open(bid, offer, rate)


def of_the_seat(world: World, bid: Bid, last: State) -> Bid:
    """A newer bid for the seat of an earlier lease."""
    before = world.bids[lease_id(last.lease)]
    return replace(bid, consumer=before.consumer, seat=before.seat)


def cancel_any(world: World, random: Random) -> None:
    state = random.choice(world.states)
    bid = world.bids[lease_id(state.lease)]
    proof = state.previous.encode() if state.previous and random.random() < 0.8 else b""
    caller = bid.consumer if random.random() < 0.8 else random.choice(world.people).address
    world.cancel(caller, bid, proof)


def change_any(world: World, random: Random) -> None:
    """A change of any lease, mostly by who may make it, mostly one that the phase has."""
    still = [index for index, state in enumerate(world.states) if state.is_open]
    index = random.choice(still) if still and random.random() < 0.95 else random.randrange(len(world.states))
    state = world.states[index]
    caller = random.choice([
        state.lease.provider, state.lease.provider, state.lease.consumer, state.clauses.guard, state.clauses.arbiter,
        random.choice(world.people).address,
    ])  # fmt: skip
    if caller not in world.accounts:
        caller = state.lease.consumer
    world.change(index, any_change(world, random, state, caller), caller, signed=random.random() < 0.5)


def any_change(world: World, random: Random, state: State, caller: str) -> Change:
    lease, progress = state.lease, state.progress
    consumer_side = acts_for(caller, lease.consumer) or acts_for(caller, state.clauses.guard)
    amount = random.choice([progress.paid, progress.paid + 1, random.randint(0, lease.price + 1), lease.price])
    most = most_claimable(state, world.now)
    final = random.choice([Kind.DONE, Kind.FAILED])
    award = random.choice([progress.paid, progress.claimed, random.randint(0, progress.claimed + 1)])
    makers: list[Callable[[], Change]] = [
        lambda: Settle(amount, random.choice([Kind.INTERIM, Kind.INTERIM, Kind.INTERIM, final])),
        lambda: Stop(consumer_side),
        Release,
        lambda: Claim(random.choice([progress.paid, most, most + 1, random.randint(progress.paid, most)]), final),
        Dispute,
        lambda: Resolve(award, random.choice([0, lease.bond, lease.bond + 1, random.randint(0, lease.bond)])),
        Finalize,
        Reclaim,
    ]
    apt = {Phase.RUNNING: (0, 1, 3, 2, 7), Phase.STOPPED: (0, 2, 3, 3, 7)}.get(progress.phase, (0, 4, 4, 5, 6, 6))
    return makers[random.choice(apt) if random.random() < 0.8 else random.randrange(len(makers))]()


@pytest.mark.parametrize("seed", range(SEED, SEED + 4))
def test_anything_in_any_order(seed: int) -> None:
    world = fuzz(seed, CALLS)
    assert sum(not state.is_open for state in world.states) > 5


def drain_provider(world: World, who: str) -> None:
    """The provider alone: it claims what it can, waits, finalizes; too late to claim, it gives the lease back."""
    for index in of_party(world, who, "provider"):
        state = world.states[index]
        until = ways_out.claim_until(state)
        if until is not None and world.now < until:
            assert world.change(index, Claim(most_claimable(state, world.now), Kind.DONE), who) is not None
        elif until is not None:
            assert world.change(index, Release(), who) is not None
    finalize_all(world, who, "provider")


def drain_consumer(world: World, who: str) -> None:
    """The consumer alone: it stops, disputes, waits, reclaims or finalizes."""
    for index in of_party(world, who, "consumer"):
        state = world.states[index]
        if state.progress.phase is Phase.RUNNING:
            assert world.change(index, Stop(by_consumer_side=True), who) is not None
        until = ways_out.dispute_until(state)
        if until is not None and world.now < until:
            assert world.change(index, Dispute(), who) is not None
    for index in of_party(world, who, "consumer"):
        start = ways_out.reclaim_from(world.states[index])
        if start is not None:
            world.pass_time(max(0, start - world.now))
            before = world.states[index]
            split = world.change(index, Reclaim(), who)
            assert split is not None
            assert split.to_consumer + split.penalty == before.lease.deposit - before.spent + before.lease.bond
    finalize_all(world, who, "consumer")


def of_party(world: World, who: str, role: str) -> list[int]:
    return [i for i, state in enumerate(world.states) if state.is_open and getattr(state.lease, role) == who]


def finalize_all(world: World, who: str, role: str) -> None:
    for index in of_party(world, who, role):
        start = ways_out.finalize_from(world.states[index])
        assert start is not None
        world.pass_time(max(0, start - world.now))
        assert world.change(index, Finalize(), who) is not None


@pytest.mark.parametrize("role", ["provider", "consumer"])
@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_either_side_alone_gets_its_due_and_withdraws_it_all(seed: int, role: str) -> None:
    """Other side, market and arbiter are absent: nobody but `who` sends anything, in whatever state its leases are."""
    world = fuzz(seed, CALLS // 2)
    for person in world.people:
        who = person.address
        (drain_provider if role == "provider" else drain_consumer)(world, who)
        assert not of_party(world, who, role)
        world.check()
        held = world.accounts[who].free
        assert world.withdraw_all(who) == held
        assert world.accounts[who].free == 0
        if role == "provider":
            assert world.accounts[who].used.pack() == 0
    assert not any(state.is_open for state in world.states)
    assert world.balance(world.escrow.address) == sum(account.free for account in world.accounts.values())


@pytest.mark.parametrize("seed", range(SEED, SEED + 2))
def test_both_sides_do_without_the_market(seed: int) -> None:
    """Both sign, either submits; with the last lease the escrow is empty but for what the market left there."""
    world = fuzz(seed, CALLS // 2)
    for index, state in enumerate(world.states):
        if state.is_open:
            receipt = Settle(max(state.progress.paid, state.lease.price // 2), Kind.DONE)
            assert world.change(index, receipt, state.lease.provider) is not None
    world.check()
    for person in world.people:
        world.withdraw_all(person.address)
    assert world.balance(world.escrow.address) == 0
