"""What happens to an escrow at random: every way of a lease, mostly by who may, now and then at a window's edge."""

from __future__ import annotations

from dataclasses import replace
from random import Random

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


APT = {
    Phase.RUNNING: ("settle", "settle", "stop", "claim", "claim", "release", "reclaim"),
    Phase.STOPPED: ("settle", "claim", "claim", "claim", "release", "reclaim"),
    Phase.CLAIMED: ("settle", *(["dispute"] * 6), "finalize"),
    Phase.DISPUTED: ("settle", *(["resolve"] * 8), "finalize"),
}
EVERY = sorted({name for names in APT.values() for name in names})


def change_any(world: World, random: Random) -> None:
    """A change of any lease, mostly one that its phase has, mostly by who may make it."""
    still = [index for index, state in enumerate(world.states) if state.is_open]
    index = random.choice(still) if still and random.random() < 0.95 else random.randrange(len(world.states))
    state = world.states[index]
    name = random.choice(APT[state.progress.phase]) if random.random() < 0.9 else random.choice(EVERY)
    caller = who_may(state, name, random) if random.random() < 0.8 else random.choice(world.people).address
    if caller not in world.accounts:
        caller = state.lease.consumer
    world.change(index, any_change(world, random, state, name, caller), caller, signed=random.random() < 0.5)


def who_may(state: State, name: str, random: Random) -> str:
    match name:
        case "claim" | "release":
            return state.lease.provider
        case "dispute":
            return random.choice([state.lease.consumer, state.clauses.guard])
        case "resolve":
            return state.clauses.arbiter
        case _:
            return random.choice([state.lease.consumer, state.lease.provider, state.clauses.guard])


def any_change(world: World, random: Random, state: State, name: str, caller: str) -> Change:
    """The change, with amounts at the edges of what is allowed as often as between or beyond them."""
    lease, progress = state.lease, state.progress
    final = random.choice([Kind.DONE, Kind.FAILED])
    match name:
        case "settle":
            amount = random.choice([progress.paid, progress.paid + 1, random.randint(0, lease.price + 1), lease.price])
            return Settle(amount, random.choice([Kind.INTERIM, Kind.INTERIM, Kind.INTERIM, Kind.INTERIM, final]))
        case "stop":
            return Stop(acts_for(caller, lease.consumer) or acts_for(caller, state.clauses.guard))
        case "release":
            return Release()
        case "claim":
            most = most_claimable(state, world.now)
            return Claim(random.choice([progress.paid, most, most + 1, random.randint(progress.paid, most)]), final)
        case "dispute":
            return Dispute()
        case "resolve":
            award = random.choice([progress.paid, progress.claimed, random.randint(0, progress.claimed + 1)])
            return Resolve(award, random.choice([0, lease.bond, lease.bond + 1, random.randint(0, lease.bond)]))
        case "finalize":
            return Finalize()
        case _:
            return Reclaim()
