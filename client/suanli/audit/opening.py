"""Auditing one call of `open`: every paper, every bound, every event that the escrow answered with. Pure."""

from __future__ import annotations

from suanli.audit.anomalies import note_arbiter
from suanli.audit.books import Books
from suanli.audit.check import Subject
from suanli.audit.events import EventQueue
from suanli.audit.facts import Transaction
from suanli.audit.life import LeaseLife
from suanli_protocol.capacity import Lanes
from suanli_protocol.errors import ProtocolError
from suanli_protocol.escrow import UNUSED
from suanli_protocol.events import EscrowEvent, Opened, Refused, RoundCommitted
from suanli_protocol.lease import Refusal, State, attempt_after, lease_id, refusal, seat_key, terms
from suanli_protocol.openings import Fill, Opening, Openings
from suanli_protocol.signing import struct_hash


def audit_open(books: Books, transaction: Transaction, call: Openings) -> None:
    """Replays the call on the books and compares each event with what the rules say."""
    queue = EventQueue(books.checks, transaction)
    _round(books, queue, call)
    for opening in call.openings:
        _opening(books, queue, opening)
    queue.finish()


def _round(books: Books, queue: EventQueue, call: Openings) -> None:
    event = queue.take(RoundCommitted, what="Round")
    if isinstance(event, RoundCommitted):
        books.checks.same("round_event", "market", queue.transaction.sender, event.market, queue.subject)
        books.checks.same("round_event", "head", call.head, event.head, queue.subject)


def _opening(books: Books, queue: EventQueue, opening: Opening) -> None:
    if not opening.fills:
        _refused(books, queue, opening.bid.seat, 0, Refusal.UNSUPPORTED, queue.take(Refused, what="Refused"))
    for fill in opening.fills:
        event = queue.take(Opened, Refused, what="Opened or Refused")
        if isinstance(event, Opened):
            _opened(books, queue.transaction, opening, fill, event)
        else:
            code = _refusal(books, queue.transaction, opening, fill)
            _refused(books, queue, opening.bid.seat, fill.index, code, event)


def _refused(
    books: Books, queue: EventQueue, seat: bytes, index: int, code: Refusal, event: EscrowEvent | None
) -> None:
    """An entry that was left out: for the reason that the rules give."""
    if isinstance(event, Refused):
        books.checks.same("refused_event", "seat", seat, event.seat, queue.subject)
        books.checks.same("refused_event", "index", index, event.index, queue.subject)
        books.checks.same("refused_event", "code", code, event.refusal, queue.subject)


def _bounds(books: Books, transaction: Transaction, opening: Opening, fill: Fill) -> Refusal:
    """Why the rules would refuse the fill, signatures aside."""
    bid, offer = opening.bid, fill.offer
    return refusal(
        bid,
        offer,
        rate=fill.rate,
        index=fill.index,
        previous=fill.previous,
        caller=transaction.sender,
        now=transaction.timestamp,
        consumer=books.account(bid.consumer),
        provider=books.account(offer.provider),
        seat=books.seats.get(seat_key(bid.seat, bid.consumer, fill.index), UNUSED),
        market_owner=books.owner(bid.market),
    )


def _refusal(books: Books, transaction: Transaction, opening: Opening, fill: Fill) -> Refusal:
    """Why the rules would refuse the fill, with its signatures."""
    code = _bounds(books, transaction, opening, fill)
    if code is not Refusal.NONE:
        return code
    bid, offer, caller = opening.bid, fill.offer, transaction.sender
    if books.signer_of(bid, opening.signature, bid.consumer, caller) != bid.consumer:
        return Refusal.BID_SIGNATURE
    if books.signer_of(offer, fill.signature, offer.provider, caller) != offer.provider:
        return Refusal.OFFER_SIGNATURE
    return Refusal.NONE


def _opened(books: Books, transaction: Transaction, opening: Opening, fill: Fill, event: Opened) -> None:
    """A lease: both signatures, all bounds, the terms that follow, and the event that names them."""
    bid, offer = opening.bid, fill.offer
    subject = Subject(event.lease_id, transaction=transaction.hash)
    code = _bounds(books, transaction, opening, fill)
    named = "bounds" if code is Refusal.NONE else code.name.lower()
    books.checks.holds(named, "open", code is Refusal.NONE, "within every bound of both papers", _why(code), subject)
    books.signed("bid_signature", bid, opening.signature, bid.consumer, transaction.sender, subject)
    books.signed("offer_signature", offer, fill.signature, offer.provider, transaction.sender, subject)
    try:
        attempt, spent = attempt_after(fill.previous)
        lease, clauses = terms(
            bid,
            offer,
            rate=fill.rate,
            index=fill.index,
            attempt=attempt,
            spent=spent,
            opened_at=transaction.timestamp,
        )
        state, computed = State(lease, clauses), lease_id(lease)
    except (ValueError, ProtocolError) as error:
        books.checks.fail("terms", "lease", "terms that fit their types", error, subject)
        return
    for member, expected, found in (
        ("lease", computed, event.lease_id),
        ("provider", offer.provider, event.provider),
        ("consumer", bid.consumer, event.consumer),
        ("bid", struct_hash(bid), event.bid_hash),
        ("offer", struct_hash(offer), event.offer_hash),
        ("rate", fill.rate, event.rate),
        ("index", fill.index, event.index),
        ("attempt", attempt, event.attempt),
    ):
        books.checks.same("opened_event", member, expected, found, subject)
    life = LeaseLife(len(books.leases) + 1, event.lease_id, transaction, bid, offer, state)
    books.add(life, also=computed)
    _follows(books, life, subject)
    note_arbiter(books, life)
    books.credit(lease.consumer, -lease.deposit)
    books.credit(lease.provider, -lease.bond)
    books.occupy(lease.provider, Lanes.unpack(lease.need))
    books.seats[lease.seat_key] = state.word


def _follows(books: Books, life: LeaseLife, subject: Subject) -> None:
    """An attempt counts on from the one before it at its seat, and bears what all before it cost."""
    before = life.previous.state.previous if life.previous else None
    attempt, spent = (before.next_attempt, before.total) if before else (1, 0)
    books.checks.same("attempt", "clauses.attempt", attempt, life.state.clauses.attempt, subject)
    books.checks.same("attempt", "clauses.spent", spent, life.state.clauses.spent, subject)


def _why(code: Refusal) -> str:
    return "within them" if code is Refusal.NONE else f"the rules refuse it: {code.name.lower()}"
