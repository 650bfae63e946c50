"""The events of one transaction, taken in the order in which the escrow must have emitted them. Pure."""

from __future__ import annotations

from suanli.audit.check import Checks, Subject
from suanli.audit.facts import Transaction
from suanli_protocol.events import EscrowEvent


class EventQueue:
    """Hands out the events one by one; an event that is missing or too many is a finding."""

    def __init__(self, checks: Checks, transaction: Transaction) -> None:
        self.transaction = transaction
        self.subject = Subject(transaction=transaction.hash)
        self._checks = checks
        self._left = list(transaction.events)

    def take(self, *kinds: type[EscrowEvent], what: str) -> EscrowEvent | None:
        """The next event, if it is of one of the kinds; else None, and a finding."""
        if self._left and isinstance(self._left[0], kinds):
            return self._left.pop(0)
        found = type(self._left[0]).__name__ if self._left else "no event"
        self._checks.fail("event_missing", what, f"event {what}", found, self.subject)
        return None

    def finish(self) -> None:
        """Names every event that nothing in the call explains."""
        for event in self._left:
            subject = Subject(getattr(event, "lease_id", None), transaction=self.transaction.hash)
            name = type(event).__name__
            self._checks.fail("event_unexpected", name, "nothing: the call does not explain it", name, subject)
        self._left = []
