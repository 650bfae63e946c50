"""Taking a lease on by one change of the protocol's rules, under the terms that its caller gave. Pure."""

from __future__ import annotations

from dataclasses import fields

from suanli.audit.books import Books
from suanli.audit.check import Subject
from suanli.audit.facts import Transaction
from suanli.audit.life import LeaseLife, Step
from suanli_protocol.errors import ProtocolError
from suanli_protocol.lease import Change, Clauses, Lease, apply, clauses_hash


def advance(
    books: Books, life: LeaseLife, change: Change, transaction: Transaction, evidence: bytes, subject: Subject
) -> Step | None:
    """The step, taken at the block's time; None and a finding if the rules do not allow it.

    A lease that closes has split all that it held.
    """
    try:
        after, split = apply(life.state, change, transaction.timestamp)
    except ProtocolError as error:
        books.checks.fail(error.code, type(change).__name__.lower(), "a change that the rules allow", error, subject)
        return None
    step = Step(transaction, change, life.state, after, split, evidence)
    books.take(life, step)
    if not after.is_open:
        held = after.lease.deposit + after.lease.bond
        books.checks.same("split", "deposit and bond", held, life.split.total, subject)
    return step


def same_terms(books: Books, life: LeaseLife, lease: Lease, progress: int, subject: Subject) -> None:
    """The caller's terms are those that the two papers gave, and its progress is where the lease stood."""
    for field in fields(Lease):
        expected, found = getattr(life.state.lease, field.name), getattr(lease, field.name)
        books.checks.same("terms", f"lease.{field.name}", expected, found, subject)
    books.checks.same("terms", "progress", life.state.progress.pack(), progress, subject)


def same_clauses(books: Books, life: LeaseLife, clauses: Clauses, subject: Subject) -> None:
    """The caller's clauses are those that the two papers gave."""
    for field in fields(Clauses):
        expected, found = getattr(life.state.clauses, field.name), getattr(clauses, field.name)
        books.checks.same("terms", f"clauses.{field.name}", expected, found, subject)
    books.checks.same("terms", "lease.clauses", clauses_hash(clauses), life.state.lease.clauses, subject)
