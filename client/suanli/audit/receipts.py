"""Auditing one call of `settle`: who signed each receipt, what it allowed, where the money went. Pure."""

from __future__ import annotations

from suanli.audit.books import Books
from suanli.audit.changes import advance, same_terms
from suanli.audit.check import Subject
from suanli.audit.events import EventQueue
from suanli.audit.facts import SentSettlement, SettleCall, Transaction
from suanli.audit.life import LeaseLife
from suanli_protocol.escrow import UNUSED
from suanli_protocol.events import Settled, SettlementRefused
from suanli_protocol.lease import Kind, Refusal, Settle, fee_down, lease_id, settle_refusal
from suanli_protocol.signing import keccak256


def audit_settle(books: Books, transaction: Transaction, call: SettleCall) -> None:
    """Replays the call on the books and compares each event with what the rules say."""
    queue = EventQueue(books.checks, transaction)
    for sent in call.settlements:
        event = queue.take(Settled, SettlementRefused, what="Settled or SettlementRefused")
        if isinstance(event, Settled):
            _settled(books, transaction, sent, event)
        elif isinstance(event, SettlementRefused):
            _refused(books, transaction, sent, event)
    queue.finish()


def _refused(books: Books, transaction: Transaction, sent: SentSettlement, event: SettlementRefused) -> None:
    """A receipt that the escrow left out: for the reason that the rules give."""
    subject = Subject(transaction=transaction.hash)
    books.checks.same("settlement_refused_event", "lease", lease_id(sent.lease), event.lease_id, subject)
    code = _refusal(books, transaction, sent)
    books.checks.same("settlement_refused_event", "code", code, event.refusal, subject)


def _refusal(books: Books, transaction: Transaction, sent: SentSettlement) -> Refusal:
    """Why the rules would refuse a receipt, in the escrow's order."""
    lease, caller = sent.lease, transaction.sender
    identity = lease_id(lease)
    life = books.life(identity)
    word = books.seats.get(lease.seat_key, UNUSED)
    if life is None or word != keccak256(identity + sent.progress.to_bytes(32, "big")):
        return Refusal.UNKNOWN_LEASE
    code = settle_refusal(life.state, sent.amount, sent.kind)
    if code is not Refusal.NONE:
        return code
    receipt = sent.receipt
    if books.signer_of(receipt, sent.provider, lease.provider, caller) != lease.provider:
        return Refusal.PROVIDER_SIGNATURE
    if books.signer_of(receipt, sent.consumer, lease.consumer, caller) != lease.consumer:
        return Refusal.CONSUMER_SIGNATURE
    return Refusal.NONE


def _settled(books: Books, transaction: Transaction, sent: SentSettlement, event: Settled) -> None:
    """A payment: both signatures, the terms it was made under, its bounds, its split, its event."""
    subject = Subject(event.lease_id, transaction=transaction.hash)
    identity = lease_id(sent.lease)
    books.checks.same("settled_event", "lease", identity, event.lease_id, subject)
    life = books.life(event.lease_id, identity)
    if life is None:
        books.checks.fail("unknown_lease", "settle", "a lease that was opened before", event.lease_id, subject)
        return
    subject = Subject(life.id, transaction=transaction.hash)
    same_terms(books, life, sent.lease, sent.progress, subject)
    receipt, lease = sent.receipt, life.state.lease
    books.signed("provider_signature", receipt, sent.provider, lease.provider, transaction.sender, subject)
    books.signed("consumer_signature", receipt, sent.consumer, lease.consumer, transaction.sender, subject)
    books.checks.same("settled_event", "paid", sent.amount, event.paid, subject)
    books.checks.same("settled_event", "fee", fee_down(sent.amount, lease.fee_bps), event.fee, subject)
    books.checks.same("settled_event", "kind", sent.kind, int(event.kind), subject)
    books.checks.same("settled_event", "evidence", sent.evidence, event.evidence, subject)
    _pay(books, life, transaction, sent, subject)


def _pay(books: Books, life: LeaseLife, transaction: Transaction, sent: SentSettlement, subject: Subject) -> None:
    code = settle_refusal(life.state, sent.amount, sent.kind)
    bounds = f"{life.state.progress.paid} to {life.state.lease.price}"
    named = "amount_bounds" if code is Refusal.NONE else code.name.lower()
    found = f"kind {sent.kind}" if code is Refusal.KIND else sent.amount
    if books.checks.holds(named, "settle", code is Refusal.NONE, bounds, found, subject):
        advance(books, life, Settle(sent.amount, Kind(sent.kind)), transaction, sent.evidence, subject)
