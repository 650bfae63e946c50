"""The compiled escrow beside the Python model: anything in any order, then a drain with one party absent (threat T10).

SUANLI_FUZZ_CALLS sets how many calls each seed makes (300 by default), SUANLI_FUZZ_SEED the first of the seeds,
SUANLI_FUZZ_SEEDS how many there are.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random

import pytest

from suanli_protocol import ways_out
from suanli_protocol.lease import (
    Claim,
    Dispute,
    Finalize,
    Kind,
    Phase,
    Reclaim,
    Settle,
    Stop,
    most_claimable,
)
from support.escrow_steps import EVERY, step
from support.escrow_world import World
from support.evm import Evm

CALLS = int(os.environ.get("SUANLI_FUZZ_CALLS", "300"))
SEED = int(os.environ.get("SUANLI_FUZZ_SEED", "1"))
SEEDS = int(os.environ.get("SUANLI_FUZZ_SEEDS", "4"))


def fuzz(seed: int, calls: int) -> World:
    """A world after so many random calls; the books were compared after each."""
    random, world = Random(seed), World.begin(Evm())
    for _ in range(calls):
        step(world, random)
        world.check()
    return world


def test_anything_in_any_order() -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(SEED, SEED + SEEDS):
        outcomes.update(fuzz(seed, CALLS).outcomes)
    assert SEEDS * CALLS < 1000 or all(outcomes[name] for name in (*EVERY, "open none", "open seat_taken"))


def drain_provider(world: World, who: str) -> None:
    """The provider alone: it claims what it can, waits, finalizes; too late for that, it reclaims."""
    for index in of_party(world, who, "provider"):
        state = world.states[index]
        until = ways_out.claim_until(state)
        if until is not None and world.now < until:
            assert world.change(index, Claim(most_claimable(state, world.now), Kind.DONE), who) is not None
        elif until is not None:
            assert world.change(index, Reclaim(), who) is not None
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
