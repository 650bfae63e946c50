"""What the chain says became of one lease since it was opened: its own events, folded. Needs no market."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from suanli_protocol.escrow import Escrow
from suanli_protocol.events import (
    Claimed,
    Disputed,
    EscrowEvent,
    Finalized,
    Reclaimed,
    Released,
    Resolved,
    Settled,
    Stopped,
)
from suanli_protocol.lease import BY_CONSUMER_SIDE, Kind, Phase, Progress

_OPEN = {Phase.RUNNING: "open", Phase.STOPPED: "stopped", Phase.CLAIMED: "claimed", Phase.DISPUTED: "disputed"}


@dataclass(frozen=True, slots=True)
class LeaseHistory:
    """How far a lease has come: its progress, or the event that closed it."""

    progress: Progress = field(default_factory=Progress)
    closed_by: EscrowEvent | None = None

    @property
    def state(self) -> str:
        """As wire.LeaseView names it."""
        if self.closed_by is not None:
            return type(self.closed_by).__name__.lower()
        return _OPEN[self.progress.phase]

    @property
    def paid(self) -> int:
        """The provider's total so far, in base units."""
        return getattr(self.closed_by, "paid", self.progress.paid)

    def after(self, event: EscrowEvent) -> LeaseHistory:
        """The history once an event of this lease is added; events of other kinds change nothing."""
        progress = self.progress
        match event:
            case Settled(kind=Kind.INTERIM):
                return LeaseHistory(replace(progress, paid=event.paid))
            case Stopped():
                flags = progress.flags | (BY_CONSUMER_SIDE if event.by_consumer_side else 0)
                return LeaseHistory(replace(progress, clock=event.clock, phase=Phase.STOPPED, flags=flags))
            case Claimed():
                return LeaseHistory(progress.claimed_by(event.amount, event.clock, event.kind))
            case Disputed():
                return LeaseHistory(replace(progress, clock=event.clock, phase=Phase.DISPUTED))
            case Settled() | Released() | Resolved() | Finalized() | Reclaimed():
                return LeaseHistory(progress, event)
            case _:
                return self


def fold(events: Sequence[EscrowEvent]) -> LeaseHistory:
    """The history that the events of one lease make, in the order of the chain."""
    history = LeaseHistory()
    for event in events:
        history = history.after(event)
    return history


def read_history(escrow: Escrow, lease: bytes, first: int, last: int) -> LeaseHistory:
    """The history of a lease that was opened in block `first`, as of block `last`."""
    return fold(escrow.events_of_lease(lease, first, last))
