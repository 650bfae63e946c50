"""Acting on a lease by oneself: what may be done now, and doing it, with nothing but the chain and a key."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from suanli.jobs.store import resolve
from suanli_protocol import wire
from suanli_protocol.errors import ChainError, ConfigurationError, NotFoundError
from suanli_protocol.escrow import Escrow, Settlement, TxReceipt
from suanli_protocol.lease import acts_for, dispute_until, finalize_from, reclaim_from, resolve_until
from suanli_protocol.lease_lookup import FoundLease, find_lease
from suanli_protocol.messages import Receipt
from suanli_protocol.units import format_duration
from suanli_protocol.ways_out import Who, allowed

if TYPE_CHECKING:
    from suanli.client import Client
    from suanli.jobs.record import Record

_WHO = {
    Who.CONSUMER_SIDE: "the consumer or its guard",
    Who.PARTY: "the consumer, its guard or the provider",
    Who.PROVIDER: "the provider",
    Who.ARBITER: "the lease's arbiter",
}
Send = Callable[[Escrow, FoundLease], TxReceipt]


class NotAllowedError(ChainError):
    """The escrow would refuse this now; the detail says what it takes, and when."""

    code, title = "not_allowed", "The escrow does not take this now"


def find(client: Client, word: str) -> FoundLease:
    """The lease of a job (its name or id) or of a lease's number or id."""
    return find_lease(client.network.escrow, lease_named(client, word))


def lease_named(client: Client, word: str) -> str:
    """A lease's number or id, from itself or from a job of this machine."""
    record = record_of(client, word)
    if record is None:
        return word
    if not record.lease:
        raise NotFoundError(f"{record.short} has no lease", hint=f"suanli show {record.short}")
    return record.lease


def record_of(client: Client, word: str) -> Record | None:
    """The job of this machine that a word names; None if it names none. A plain number is a lease's."""
    if word.isdecimal():
        return None
    try:
        return resolve(word, client.store.all())
    except NotFoundError:
        return None


def act(client: Client, found: FoundLease, change: str, send: Send) -> TxReceipt:
    """Makes a change of the lease's state. NotAllowedError names what the escrow takes instead, and from when."""
    escrow, now = client.network.escrow, chain_now(client)
    if found.history.closed_by is not None:
        raise NotAllowedError(f"the lease is over: it was {found.history.state}")
    way = next((way for way in allowed(found.state, now) if way.change == change), None)
    if way is None:
        raise NotAllowedError(f"{change} is not possible now: {when(found, change, now)}", hint=_instead(found, now))
    _check_caller(client, found, change, way.who)
    return send(escrow, found)


def chain_now(client: Client) -> int:
    """The time by which the escrow will judge: its newest block's, or this machine's if that is later."""
    return max(client.network.chain.block("latest").timestamp, int(time.time()))


def when(found: FoundLease, change: str, now: int) -> str:
    """Why a change is not possible now, in words."""
    state = found.state
    starts = {"finalize": finalize_from(state), "reclaim": reclaim_from(state)}
    ends = {"dispute": dispute_until(state), "resolve": resolve_until(state)}
    start, end = starts.get(change), ends.get(change)
    if start is not None and start > now:
        return f"it is from {format_duration(start - now)} on"
    if end is not None and end <= now:
        return f"it was until {format_duration(now - end)} ago"
    if change == "dispute" and int(state.clauses.arbiter, 16) == 0:
        return "the lease names no arbiter, so nobody could judge"
    return f"the lease is {state.status}"


def settlement(record: Record, found: FoundLease) -> Settlement:
    """The receipt of a job with both signatures; ConfigurationError if the consumer's is not there."""
    if not record.countersignature or record.receipt is None:
        raise ConfigurationError(
            f"{record.short} has no receipt that both sides signed",
            hint=f"suanli wait {record.short} checks and signs it",
        )
    receipt = wire.paper_from_json(Receipt, record.receipt)
    signatures = (wire.from_hex(record.receipt_signature, size=64), wire.from_hex(record.countersignature, size=64))
    return Settlement(
        found.state.lease, found.state.progress, receipt.amount, receipt.kind, receipt.evidence, *signatures
    )


def _check_caller(client: Client, found: FoundLease, change: str, who: Who) -> None:
    state, escrow, me = found.state, client.network.escrow, client.address
    consumer_side = (state.lease.consumer, state.clauses.guard)
    may = {
        Who.CONSUMER_SIDE: consumer_side,
        Who.PARTY: (*consumer_side, state.lease.provider),
        Who.PROVIDER: (state.lease.provider,),
        Who.ARBITER: (state.clauses.arbiter,),
    }.get(who)
    if may is not None and not any(acts_for(me, account, escrow.owner_of(account)) for account in may):
        raise NotAllowedError(f"{change} is for {_WHO[who]}; your key is {me}", hint="name another with --keystore")


def _instead(found: FoundLease, now: int) -> str:
    names = [way.change for way in allowed(found.state, now)]
    return f"possible now: {', '.join(names)}" if names else ""
