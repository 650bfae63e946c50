"""Auditing settle, stop and release: who signed or called, what was due, where the money went. Pure."""

from __future__ import annotations

from dataclasses import fields

from suanli.audit.books import Books, LeaseLife, Payment
from suanli.audit.check import Subject
from suanli.audit.events import EventQueue
from suanli.audit.facts import Claim, ReleaseCall, SettleCall, StopCall, Transaction
from suanli_protocol.errors import ProtocolError
from suanli_protocol.escrow import UNUSED
from suanli_protocol.events import Released, Settled, SettlementRefused, Stopped
from suanli_protocol.lease import (
    Change,
    Clauses,
    Kind,
    Lease,
    Refusal,
    Release,
    Settle,
    Split,
    Stop,
    apply,
    clauses_hash,
    fee_down,
    lease_id,
    settle_refusal,
)
from suanli_protocol.signing import keccak256


def audit_settle(books: Books, transaction: Transaction, call: SettleCall) -> None:
    """Replays the call on the books and compares each event with what the rules say."""
    queue = EventQueue(books.checks, transaction)
    for claim in call.claims:
        event = queue.take(Settled, SettlementRefused, what="Settled or SettlementRefused")
        if isinstance(event, Settled):
            _settled(books, transaction, claim, event)
        elif isinstance(event, SettlementRefused):
            _refused(books, transaction, claim, event)
    queue.finish()


def _refused(books: Books, transaction: Transaction, claim: Claim, event: SettlementRefused) -> None:
    """A receipt that the escrow left out: for the reason that the rules give."""
    subject = Subject(transaction=transaction.hash)
    books.checks.same("settlement_refused_event", "lease", lease_id(claim.lease), event.lease_id, subject)
    code = _refusal(books, transaction, claim)
    books.checks.same("settlement_refused_event", "code", code, event.refusal, subject)


def _refusal(books: Books, transaction: Transaction, claim: Claim) -> Refusal:
    """Why the rules would refuse a receipt, in the escrow's order."""
    lease, caller = claim.lease, transaction.sender
    identity = lease_id(lease)
    life = books.life(identity)
    word = books.seats.get(lease.seat_key, UNUSED)
    if life is None or word != keccak256(identity + claim.progress.to_bytes(32, "big")):
        return Refusal.UNKNOWN_LEASE
    code = settle_refusal(life.state, claim.amount, claim.kind)
    if code is not Refusal.NONE:
        return code
    receipt = claim.receipt
    if books.signer_of(receipt, claim.provider, lease.provider, caller) != lease.provider:
        return Refusal.PROVIDER_SIGNATURE
    if books.signer_of(receipt, claim.consumer, lease.consumer, caller) != lease.consumer:
        return Refusal.CONSUMER_SIGNATURE
    return Refusal.NONE


def _settled(books: Books, transaction: Transaction, claim: Claim, event: Settled) -> None:
    """A payment: both signatures, the terms it was made under, its bounds, its split, its event."""
    subject = Subject(event.lease_id, transaction=transaction.hash)
    identity = lease_id(claim.lease)
    books.checks.same("settled_event", "lease", identity, event.lease_id, subject)
    life = books.life(event.lease_id, identity)
    if life is None:
        books.checks.fail("unknown_lease", "settle", "a lease that was opened before", event.lease_id, subject)
        return
    subject = Subject(life.id, transaction=transaction.hash)
    _same_terms(books, life, claim.lease, claim.progress, subject)
    receipt, lease = claim.receipt, life.state.lease
    books.signed("provider_signature", receipt, claim.provider, lease.provider, transaction.sender, subject)
    books.signed("consumer_signature", receipt, claim.consumer, lease.consumer, transaction.sender, subject)
    books.checks.same("settled_event", "paid", claim.amount, event.paid, subject)
    books.checks.same("settled_event", "fee", fee_down(claim.amount, lease.fee_bps), event.fee, subject)
    books.checks.same("settled_event", "kind", claim.kind, int(event.kind), subject)
    books.checks.same("settled_event", "evidence", claim.evidence, event.evidence, subject)
    _pay(books, life, transaction, claim, subject)


def _pay(books: Books, life: LeaseLife, transaction: Transaction, claim: Claim, subject: Subject) -> None:
    code = settle_refusal(life.state, claim.amount, claim.kind)
    bounds = f"{life.state.progress.paid} to {life.state.lease.price}"
    named = "amount_bounds" if code is Refusal.NONE else code.name.lower()
    found = f"kind {claim.kind}" if code is Refusal.KIND else claim.amount
    if not books.checks.holds(named, "settle", code is Refusal.NONE, bounds, found, subject):
        return
    split = _change(books, life, Settle(claim.amount, Kind(claim.kind)), transaction, subject)
    if split is not None:
        life.payments.append(Payment(transaction, claim, split))


def _change(books: Books, life: LeaseLife, change: Change, transaction: Transaction, subject: Subject) -> Split | None:
    """Takes the lease on; None and a finding if the rules do not allow it. A closed lease has split all it held."""
    try:
        after, split = apply(life.state, change, transaction.timestamp)
    except ProtocolError as error:
        books.checks.fail(error.code, type(change).__name__.lower(), "a change that the rules allow", error, subject)
        return None
    books.release_split(life, after, split)
    if not after.is_open:
        held = after.lease.deposit + after.lease.bond
        books.checks.same("split", "deposit and bond", held, life.split.total, subject)
    return split


def _same_terms(books: Books, life: LeaseLife, lease: Lease, progress: int, subject: Subject) -> None:
    """The caller's terms are those that the two papers gave, and its progress is where the lease stood."""
    for field in fields(Lease):
        expected, found = getattr(life.state.lease, field.name), getattr(lease, field.name)
        books.checks.same("terms", f"lease.{field.name}", expected, found, subject)
    books.checks.same("terms", "progress", life.state.progress.pack(), progress, subject)


def _same_clauses(books: Books, life: LeaseLife, clauses: Clauses, subject: Subject) -> None:
    for field in fields(Clauses):
        expected, found = getattr(life.state.clauses, field.name), getattr(clauses, field.name)
        books.checks.same("terms", f"clauses.{field.name}", expected, found, subject)
    books.checks.same("terms", "lease.clauses", clauses_hash(clauses), life.state.lease.clauses, subject)


def audit_stop(books: Books, transaction: Transaction, call: StopCall) -> None:
    """A stop: by whom, and the second from which nothing more is billable."""
    queue = EventQueue(books.checks, transaction)
    event = queue.take(Stopped, what="Stopped")
    queue.finish()
    life = _life_of_call(books, transaction, call)
    if life is None or not isinstance(event, Stopped):
        return
    subject = Subject(life.id, transaction=transaction.hash)
    lease, guard = life.state.lease, life.state.clauses.guard
    by_consumer = any(books.acts_for(transaction.sender, one) for one in (lease.consumer, guard))
    allowed = by_consumer or books.acts_for(transaction.sender, lease.provider)
    books.checks.holds("stop_authority", "sender", allowed, "a party or the guard", transaction.sender, subject)
    books.checks.same("stopped_event", "lease", lease_id(call.lease), event.lease_id, subject)
    books.checks.same("stopped_event", "by", transaction.sender, event.by, subject)
    books.checks.same("stopped_event", "byConsumerSide", by_consumer, event.by_consumer_side, subject)
    if _change(books, life, Stop(by_consumer), transaction, subject) is not None:
        books.checks.same("stopped_event", "clock", life.state.progress.clock, event.clock, subject)
        life.stopped = transaction


def audit_release(books: Books, transaction: Transaction, call: ReleaseCall) -> None:
    """A lease given back: by the provider, with the refund and the penalty that the clauses set."""
    queue = EventQueue(books.checks, transaction)
    event = queue.take(Released, what="Released")
    queue.finish()
    life = _life_of_call(books, transaction, call)
    if life is None or not isinstance(event, Released):
        return
    subject = Subject(life.id, transaction=transaction.hash)
    allowed = books.acts_for(transaction.sender, life.state.lease.provider)
    books.checks.holds("release_authority", "sender", allowed, "the provider", transaction.sender, subject)
    books.checks.same("released_event", "lease", lease_id(call.lease), event.lease_id, subject)
    books.checks.same("released_event", "paid", life.state.progress.paid, event.paid, subject)
    split = _change(books, life, Release(), transaction, subject)
    if split is not None:
        books.checks.same("released_event", "penalty", split.penalty, event.penalty, subject)
        life.released = transaction


def _life_of_call(books: Books, transaction: Transaction, call: StopCall | ReleaseCall) -> LeaseLife | None:
    identity = lease_id(call.lease)
    life = books.life(
        identity, *(event.lease_id for event in transaction.events if isinstance(event, Stopped | Released))
    )
    if life is None:
        subject = Subject(identity, transaction=transaction.hash)
        books.checks.fail("unknown_lease", "call", "a lease that was opened before", identity, subject)
        return None
    subject = Subject(life.id, transaction=transaction.hash)
    _same_terms(books, life, call.lease, call.progress, subject)
    _same_clauses(books, life, call.clauses, subject)
    return life
