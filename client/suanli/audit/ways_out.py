"""Auditing every way out but settle: who called, what the rules make of it at the block's time, what was said. Pure."""

from __future__ import annotations

from typing import Any, assert_never

from suanli.audit.anomalies import note_arbiter
from suanli.audit.books import Books
from suanli.audit.changes import advance, same_clauses, same_terms
from suanli.audit.check import Subject
from suanli.audit.events import EventQueue
from suanli.audit.facts import (
    ClaimCall,
    DisputeCall,
    FinalizeCall,
    ReclaimCall,
    ReleaseCall,
    ResolveCall,
    StopCall,
    Transaction,
    WayOutCall,
)
from suanli.audit.life import LeaseLife, Step
from suanli_protocol.events import Claimed, Disputed, EscrowEvent, Finalized, Reclaimed, Released, Resolved, Stopped
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
    Stop,
    dispute_costs,
    fee_down,
    lease_id,
)
from suanli_protocol.messages import to_camel

_EVENTS: dict[type[WayOutCall], type[EscrowEvent]] = {
    StopCall: Stopped,
    ReleaseCall: Released,
    ClaimCall: Claimed,
    DisputeCall: Disputed,
    ResolveCall: Resolved,
    FinalizeCall: Finalized,
    ReclaimCall: Reclaimed,
}


def audit_way_out(books: Books, transaction: Transaction, call: WayOutCall) -> None:
    """Replays the call on the books and compares its event, member by member, with what the rules say."""
    kind = _EVENTS[type(call)]
    queue = EventQueue(books.checks, transaction)
    event = queue.take(kind, what=kind.__name__)
    queue.finish()
    life = _life_of_call(books, transaction, call)
    if life is None or event is None:
        return
    subject = Subject(life.id, transaction=transaction.hash)
    _check_caller(books, life, transaction, call, subject)
    change = _change(books, life, transaction, call, subject)
    step = change and advance(books, life, change, transaction, getattr(call, "evidence", b""), subject)
    if step:
        said = {"lease_id": lease_id(call.lease)} | _said(transaction, call, step)
        for member, expected in said.items():
            name = "lease" if member == "lease_id" else to_camel(member)
            books.checks.same(f"{kind.__name__.lower()}_event", name, expected, getattr(event, member), subject)


def _life_of_call(books: Books, transaction: Transaction, call: WayOutCall) -> LeaseLife | None:
    """The lease that the call or its event names, with its terms compared."""
    identity = lease_id(call.lease)
    named = [getattr(event, "lease_id", None) for event in transaction.events]
    life = books.life(identity, *(one for one in named if isinstance(one, bytes)))
    if life is None:
        subject = Subject(identity, transaction=transaction.hash)
        books.checks.fail("unknown_lease", "call", "a lease that was opened before", identity, subject)
        return None
    subject = Subject(life.id, transaction=transaction.hash)
    same_terms(books, life, call.lease, call.progress, subject)
    same_clauses(books, life, call.clauses, subject)
    return life


def _is_consumer_side(books: Books, life: LeaseLife, caller: str) -> bool:
    return any(books.acts_for(caller, one) for one in (life.state.lease.consumer, life.state.clauses.guard))


def _check_caller(books: Books, life: LeaseLife, transaction: Transaction, call: WayOutCall, subject: Subject) -> None:
    """The caller is one who may; an arbiter may have signed instead."""
    caller = transaction.sender
    by_provider = books.acts_for(caller, life.state.lease.provider)
    by_consumer_side = _is_consumer_side(books, life, caller)

    def check(code: str, allowed: bool, who: str) -> None:
        books.checks.holds(code, "sender", allowed, who, caller, subject)

    match call:
        case StopCall():
            check("stop_authority", by_provider or by_consumer_side, "a party or the guard")
        case ReleaseCall():
            check("release_authority", by_provider, "the provider")
        case ClaimCall():
            check("claim_authority", by_provider, "the provider")
        case DisputeCall():
            check("dispute_authority", by_consumer_side, "the consumer or the guard")
        case ResolveCall():
            books.signed("arbiter_signature", call.verdict, call.arbiter, life.state.clauses.arbiter, caller, subject)
            note_arbiter(books, life)
        case FinalizeCall() | ReclaimCall():
            pass  # anyone may: the time alone decides
        case _:
            assert_never(call)


def _change(
    books: Books, life: LeaseLife, transaction: Transaction, call: WayOutCall, subject: Subject
) -> Change | None:
    """The change that the call asks for; None and a finding if a claim's kind is none."""
    match call:
        case StopCall():
            return Stop(_is_consumer_side(books, life, transaction.sender))
        case ReleaseCall():
            return Release()
        case ClaimCall():
            if call.kind in set(Kind):
                return Claim(call.amount, Kind(call.kind))
            books.checks.fail("lease_kind", "claim", "done or failed", call.kind, subject)
            return None
        case DisputeCall():
            return Dispute()
        case ResolveCall():
            return Resolve(call.award, call.slash)
        case FinalizeCall():
            return Finalize()
        case ReclaimCall():
            return Reclaim()
        case _:
            assert_never(call)


def _said(transaction: Transaction, call: WayOutCall, step: Step) -> dict[str, Any]:
    """What the escrow must have said, by the event's members."""
    lease, before, after, split = step.after.lease, step.before.progress, step.after.progress, step.split
    totals = {"paid": after.paid, "fee": fee_down(after.paid, lease.fee_bps)}
    match call:
        case StopCall():
            return {"by": transaction.sender, "by_consumer_side": after.by_consumer_side, "clock": after.clock}
        case ReleaseCall():
            return {"paid": after.paid, "penalty": split.penalty}
        case ClaimCall():
            asked = {"amount": after.claimed, "kind": after.kind, "evidence": call.evidence}
            return asked | {"clock": after.clock}
        case DisputeCall():
            return {"by": transaction.sender, "clock": after.clock}
        case ResolveCall():
            of_consumer, of_provider = dispute_costs(before.claimed - before.paid, call.award - before.paid)
            costs = {"cost_consumer": of_consumer, "cost_provider": of_provider}
            return totals | costs | {"slash": split.penalty, "evidence": call.evidence}
        case FinalizeCall():
            return totals | {"kind": before.kind, "disputed": before.phase is Phase.DISPUTED}
        case ReclaimCall():
            return totals | {"bond": split.penalty}
        case _:
            assert_never(call)
