"""Auditing what moves accounts outside leases: deposits, withdrawals, owners, counters, cancelled seats. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from suanli.audit.books import Books
from suanli.audit.check import Subject
from suanli.audit.facts import CancelCall, Indirect, LinkCall, Transaction
from suanli_protocol.escrow import CLOSED, UNUSED
from suanli_protocol.events import Bumped, Cancelled, Deposited, Linked, Withdrawn
from suanli_protocol.lease import proves, same_address, seat_key
from suanli_protocol.messages import ZERO_ADDRESS
from suanli_protocol.openings import NO_SIGNATURE

AccountEvent = Deposited | Withdrawn | Linked | Bumped | Cancelled


def audit_account_event(books: Books, transaction: Transaction, event: AccountEvent) -> None:
    """Enters the event in the books. Who called is known only if the escrow was called directly."""
    direct = not isinstance(transaction.call, Indirect)
    match event:
        case Deposited():
            subject = Subject(account=event.account, transaction=transaction.hash)
            if direct:
                books.checks.same("deposited_event", "from", transaction.sender, event.sender, subject)
            books.credit(event.account, event.amount)
        case Withdrawn():
            _withdrawn(books, transaction, event, direct)
        case Linked():
            _linked(books, transaction, event, direct)
        case Bumped():
            subject = Subject(account=event.account, transaction=transaction.hash)
            _by(books, transaction, event.account, direct, subject)
            account = books.account(event.account)
            books.checks.same("bumped_event", "counter", account.counter + 1, event.counter, subject)
            books.accounts[event.account] = replace(account, counter=account.counter + 1)
        case Cancelled():
            _cancelled(books, transaction, event, direct)
        case _:
            assert_never(event)


def _by(books: Books, transaction: Transaction, account: str, direct: bool, subject: Subject) -> None:
    """The account itself or its owner called."""
    if direct:
        allowed = books.acts_for(transaction.sender, account)
        books.checks.holds("authority", "sender", allowed, f"{account} or its owner", transaction.sender, subject)


def _withdrawn(books: Books, transaction: Transaction, event: Withdrawn, direct: bool) -> None:
    subject = Subject(account=event.account, transaction=transaction.hash)
    owner, free = books.owner(event.account), books.account(event.account).free
    _by(books, transaction, event.account, direct, subject)
    to = event.account if owner == ZERO_ADDRESS else owner
    books.checks.same("withdrawn_event", "to", to, event.to, subject)
    books.checks.holds("withdrawn_event", "amount", event.amount <= free, f"at most {free}", event.amount, subject)
    books.credit(event.account, -event.amount)


def _cancelled(books: Books, transaction: Transaction, event: Cancelled, direct: bool) -> None:
    """A seat is closed for good that was unused, or reopenable and proven to be."""
    subject = Subject(account=event.consumer, transaction=transaction.hash)
    _by(books, transaction, event.consumer, direct, subject)
    key = seat_key(event.seat, event.consumer, event.index)
    books.checks.same("cancelled_event", "seatKey", key, event.seat_key, subject)
    word, call = books.seats.get(key, UNUSED), transaction.call
    if isinstance(call, CancelCall):
        for member in ("consumer", "seat", "index"):
            books.checks.same("cancelled_event", member, getattr(call, member), getattr(event, member), subject)
        vacant = proves(call.previous, word)
    else:
        vacant = word in {UNUSED, *(life.state.word for life in books.lives if life.state.reopenable)}
    books.checks.holds("cancelled_event", "seat", vacant, "unused, or reopenable by the proof", word, subject)
    books.seats[key] = CLOSED


def _linked(books: Books, transaction: Transaction, event: Linked, direct: bool) -> None:
    subject = Subject(account=event.account, transaction=transaction.hash)
    owner, sender = books.owner(event.account), transaction.sender
    if isinstance(transaction.call, LinkCall):
        books.checks.same("linked_event", "account", transaction.call.link.account, event.account, subject)
        books.checks.same("linked_event", "owner", transaction.call.link.owner, event.owner, subject)
    if direct:
        expected = owner if owner != ZERO_ADDRESS else event.account
        signer = sender
        if owner == ZERO_ADDRESS and not same_address(sender, event.account) and isinstance(transaction.call, LinkCall):
            call = transaction.call
            empty = call.signature == NO_SIGNATURE
            signer = sender if empty else books.signer_of(call.link, call.signature, event.account, sender)
        books.checks.same("link_authority", "signer", expected, signer, subject)
    books.owners[event.account] = event.owner
