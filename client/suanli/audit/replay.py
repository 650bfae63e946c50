"""Replaying an escrow's whole history by the protocol's rules, and comparing the end with what the escrow shows. Pure.

Facts in, checks out: no I/O, no clock. A check that fails names the rule and what was looked at; the replay goes on
with what the papers say, so that one altered word is not taken for many.
"""

from __future__ import annotations

from typing import assert_never

from suanli.audit.accounts import audit_account_event
from suanli.audit.books import Books
from suanli.audit.check import Subject
from suanli.audit.facts import (
    AccountCall,
    CancelCall,
    History,
    Holding,
    Indirect,
    LinkCall,
    SettleCall,
    Snapshot,
    TermsCall,
    Transaction,
    Unreadable,
)
from suanli.audit.life import UnreadLease
from suanli.audit.opening import audit_open
from suanli.audit.receipts import audit_settle
from suanli.audit.ways_out import audit_way_out
from suanli_protocol.escrow import UNUSED
from suanli_protocol.events import (
    Bumped,
    Cancelled,
    Deposited,
    EscrowEvent,
    Linked,
    Opened,
    Withdrawn,
)
from suanli_protocol.lease import Account
from suanli_protocol.openings import Openings

_ANSWERS: dict[str, type[EscrowEvent]] = {
    "deposit": Deposited,
    "depositWithPermit": Deposited,
    "withdraw": Withdrawn,
    "bump": Bumped,
}


def replay(history: History, snapshot: Snapshot) -> Books:
    """The books at the end of the history, with every check that was made on the way and on the snapshot."""
    books = Books(history.domain)
    for transaction in history.transactions:
        _transaction(books, transaction)
    _compare_seats(books, snapshot)
    _compare_accounts(books, snapshot)
    _compare_balance(books, snapshot)
    return books


def _transaction(books: Books, transaction: Transaction) -> None:
    subject = Subject(transaction=transaction.hash)
    for event in transaction.events:
        if isinstance(event, Unreadable):
            books.checks.fail("event_unreadable", "log", "an event that the escrow declares", event.why, subject)
        books.checks.same("event_place", "transaction", transaction.hash, event.transaction, subject)
        books.checks.same("event_place", "block", transaction.block, event.block, subject)
        books.checks.same("event_place", "blockHash", transaction.block_hash, event.block_hash, subject)
    match transaction.call:
        case Openings():
            audit_open(books, transaction, transaction.call)
        case SettleCall():
            audit_settle(books, transaction, transaction.call)
        case TermsCall():
            audit_way_out(books, transaction, transaction.call)
        case LinkCall() | CancelCall() | AccountCall() | Indirect():
            _events_alone(books, transaction)
        case _:
            assert_never(transaction.call)


def _events_alone(books: Books, transaction: Transaction) -> None:
    """What can be said without papers; an event that needs them is a finding, for nobody can prove it."""
    for event in transaction.events:
        _called_for(books, transaction, event)
        match event:
            case Deposited() | Withdrawn() | Linked() | Bumped() | Cancelled():
                audit_account_event(books, transaction, event)
            case _:
                _without_papers(books, transaction, event)


def _called_for(books: Books, transaction: Transaction, event: EscrowEvent) -> None:
    """The call is one that makes the escrow say this."""
    match transaction.call:
        case AccountCall(name=name):
            allowed = _ANSWERS.get(name)
        case LinkCall():
            name, allowed = "link", Linked
        case CancelCall():
            name, allowed = "cancel", Cancelled
        case _:
            return
    if allowed is None or not isinstance(event, allowed):
        kind, subject = type(event).__name__, Subject(transaction=transaction.hash)
        books.checks.fail("event_unexpected", kind, f"what {name} answers", kind, subject)


def _without_papers(books: Books, transaction: Transaction, event: EscrowEvent) -> None:
    lease = getattr(event, "lease_id", None)
    why = transaction.call.why if isinstance(transaction.call, Indirect) else "the call is another one"
    books.checks.fail(
        "papers_missing",
        type(event).__name__,
        "papers in the transaction's own calldata",
        why,
        Subject(lease, transaction=transaction.hash),
    )
    if isinstance(event, Opened):
        books.leases.append(UnreadLease(len(books.leases) + 1, event.lease_id, transaction))


def _compare_seats(books: Books, snapshot: Snapshot) -> None:
    """The word at every seat: the state of each open lease, the mark of a closed one, or nothing."""
    by_seat = {life.state.lease.seat_key: life.id for life in books.lives}
    for key in sorted(books.seats.keys() | snapshot.seats.keys()):
        kept, shown = books.seats.get(key, UNUSED), snapshot.seats.get(key, UNUSED)
        books.checks.same("seat_word", "seat", kept, shown, Subject(by_seat.get(key)))


def _compare_accounts(books: Books, snapshot: Snapshot) -> None:
    """Every account: free money, counter, capacity in use, owner."""
    for address in sorted(snapshot.holdings.keys() | books.accounts.keys()):
        shown, kept = snapshot.holdings.get(address, Holding(Account())), books.account(address)
        subject = Subject(account=address)
        books.checks.same("account", "free", kept.free, shown.account.free, subject)
        books.checks.same("account", "counter", kept.counter, shown.account.counter, subject)
        books.checks.same("account", "used", kept.used, shown.account.used, subject)
        books.checks.same("account", "owner", books.owner(address), shown.owner, subject)


def _compare_balance(books: Books, snapshot: Snapshot) -> None:
    """The escrow's token covers everything that is free or locked."""
    free = sum(holding.account.free for holding in snapshot.holdings.values())
    locked = sum(life.state.locked for life in books.lives)
    books.checks.holds(
        "token_balance",
        "balance",
        snapshot.balance >= free + locked,
        f"at least {free + locked} ({free} free, {locked} locked)",
        snapshot.balance,
        Subject(),
    )
