"""What the escrow must say of a change, to the last field, by the Python model of it."""

from __future__ import annotations

from dataclasses import fields

from suanli_protocol import events
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
    Split,
    State,
    Stop,
    dispute_costs,
    fee_down,
    lease_id,
)
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.signing import struct_hash

NOWHERE = (0, b"", b"", 0)
PLACE = tuple(field.name for field in fields(events.EscrowEvent))


def without_place(event: events.EscrowEvent) -> tuple[str, dict[str, object]]:
    """An event's name and members, apart from where it stands in the chain."""
    members = {field.name: getattr(event, field.name) for field in fields(event) if field.name not in PLACE}
    return type(event).__name__, members


def opened_event(state: State, bid: Bid, offer: Offer) -> events.Opened:
    """Of a lease that was just opened."""
    lease, clauses = state.lease, state.clauses
    parties, papers = (lease.provider, lease.consumer), (struct_hash(bid), struct_hash(offer))
    return events.Opened(*NOWHERE, lease_id(lease), *parties, *papers, clauses.rate, 0, clauses.attempt)


def event_of(
    before: State, change: Change, after: State, split: Split, caller: str, evidence: bytes
) -> events.EscrowEvent:
    """Of a change that the escrow made of a lease, sent by `caller`."""
    lease, progress = lease_id(before.lease), after.progress
    paid, fee = progress.paid, fee_down(progress.paid, before.lease.fee_bps)
    match change:
        case Settle(amount, kind):
            return events.Settled(*NOWHERE, lease, amount, fee, kind, evidence)
        case Stop(by_consumer_side):
            return events.Stopped(*NOWHERE, lease, caller, progress.clock, by_consumer_side)
        case Release():
            return events.Released(*NOWHERE, lease, paid, split.penalty)
        case Claim(amount, kind):
            return events.Claimed(*NOWHERE, lease, amount, kind, evidence, progress.clock)
        case Dispute():
            return events.Disputed(*NOWHERE, lease, caller, progress.clock)
        case Resolve(award):
            start = before.progress.paid
            costs = dispute_costs(before.progress.claimed - start, award - start)
            return events.Resolved(*NOWHERE, lease, award, fee, split.penalty, *costs, evidence)
        case Finalize():
            disputed = before.progress.phase is Phase.DISPUTED
            return events.Finalized(*NOWHERE, lease, paid, fee, Kind(before.progress.kind), disputed)
        case Reclaim():
            return events.Reclaimed(*NOWHERE, lease, paid, fee, before.lease.bond)
