"""How the job's lease stands on the chain, by its own events and the escrow's word, and ending its billable time."""

from __future__ import annotations

import time

from suanli.lease_change import change_lease
from suanli.session.agreement import Agreement, NotYetOnChainError
from suanli.session.desk import Desk
from suanli.session.lookback import events_of
from suanli_protocol import wire
from suanli_protocol.errors import IntegrityError
from suanli_protocol.events import Claimed, EscrowEvent, Stopped
from suanli_protocol.lease import seat_word
from suanli_protocol.lease_history import LeaseHistory, fold

LOOKS, PAUSE_S = 4, 0.5  # before events and word that disagree are held against the endpoint


def standing(desk: Desk, agreement: Agreement) -> LeaseHistory:
    """What became of a lease since it was opened; where that was nobody has to say.

    NotYetOnChainError if the own endpoint has not seen it, IntegrityError if events and the escrow's word disagree.
    """
    return fold(_events(desk, agreement))


def billable_until(desk: Desk, agreement: Agreement) -> int:
    """The second of Unix UTC from which nothing more is billable, proven by the chain; raises as `standing` does.

    That is the lease's end, or the clock of a stop or claim before it.
    """
    events = _events(desk, agreement)
    clocks = [event.clock for event in events if isinstance(event, Stopped | Claimed)]
    return min([agreement.clauses.ends_at, *clocks])


def _events(desk: Desk, agreement: Agreement) -> list[EscrowEvent]:
    """The lease's own events from its opening on: all of them, as the escrow's word at its seat proves."""
    for _ in range(LOOKS):
        events = _proven_events(desk, agreement)
        if events is not None:
            return events
        time.sleep(PAUSE_S)
    raise IntegrityError(
        "chain: the escrow's word is not what the lease's events make", hint="ask another chain endpoint"
    )


def _proven_events(desk: Desk, agreement: Agreement) -> list[EscrowEvent] | None:
    """None if events and word disagree: a reorganisation may have come between them."""
    head = desk.network.chain.block("latest").number
    events = events_of(desk.escrow, agreement.id, agreement.clauses.opened_at, head)
    if not events:
        raise NotYetOnChainError(f"the chain has not opened the lease {wire.to_hex(agreement.id)}")
    history = fold(events)
    if history.closed_by is not None:  # a later attempt may have taken the seat: its word tells nothing any more
        return events
    word = desk.escrow.seat(agreement.lease.seat_key, block=head)
    return events if word == seat_word(agreement.id, history.progress) else None


def stop(desk: Desk, agreement: Agreement) -> LeaseHistory:
    """Ends the billable time unless something else has; tells which, and returns how the lease stands then."""

    def look() -> LeaseHistory:
        return standing(desk, agreement)

    history, mined = change_lease(
        desk.escrow,
        look(),
        read=look,
        wants=lambda found: found.state == "open",
        send=lambda found: desk.escrow.stop(desk.signer, agreement.lease, agreement.clauses, found.progress),
    )
    if mined is not None:
        desk.tell("stopped", "the lease is stopped on the chain: nothing later is billable")
    else:
        desk.tell("notice", _already(desk, history))
    return history


def _already(desk: Desk, history: LeaseHistory) -> str:
    match history.state:
        case "stopped":
            return "the lease is stopped already: nothing later is billable"
        case "claimed":
            return f"the provider has claimed {desk.money(history.progress.claimed)} already: nothing later is billable"
        case "disputed":
            return "the lease is disputed already: its arbiter decides"
        case _:
            return f"the lease is over already: it was {history.state}"
