"""Acting on a lease by oneself: what may be done now, and doing it, with nothing but the chain and a key."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suanli.deployments import first_block, memory_file
from suanli.jobs.store import resolve
from suanli.lease_change import change_lease
from suanli_protocol import wire
from suanli_protocol.errors import ChainError, ConfigurationError, NotFoundError
from suanli_protocol.escrow import Escrow, Settlement, TxReceipt
from suanli_protocol.lease import acts_for, dispute_until, finalize_from, reclaim_from, resolve_until
from suanli_protocol.lease_lookup import FoundLease, find_lease, look_up
from suanli_protocol.messages import Receipt
from suanli_protocol.signing import Signer
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
_OVER = frozenset({"settled", "released", "finalized", "resolved", "reclaimed"})
_DONE = {"settle": frozenset({"settled"})}  # asked for once more, by who did not know
_REACHED = {  # where nothing is left to do for a change that was on its way
    "stop": _OVER | {"stopped", "claimed", "disputed"},
    "dispute": _OVER - {"finalized"} | {"disputed"},
}
Send = Callable[[Escrow, FoundLease], TxReceipt]


@dataclass(frozen=True, slots=True)
class Acted:
    """The lease after an action. `transaction` is empty if others had brought it there meanwhile."""

    now: FoundLease
    transaction: bytes


class NotAllowedError(ChainError):
    """The escrow would refuse this now; the detail says what it takes, and when."""

    code, title = "not_allowed", "The escrow does not take this now"


def find(client: Client, word: str) -> FoundLease:
    """The lease of a job (its name or id) or of a lease's number or id."""
    escrow = client.network.escrow
    return find_lease(escrow, lease_named(client, word), first=first_block(escrow, memory_file()))


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


def act(client: Client, found: FoundLease, change: str, send: Send) -> Acted:
    """Makes a change of the lease's state, on whatever the lease has become when the escrow looks at it.

    NotAllowedError names what the escrow takes instead, and from when.
    """
    escrow = client.network.escrow

    def wants(now: FoundLease) -> bool:
        if now.history.state in (_REACHED.get(change, _OVER) if now is not found else _DONE.get(change, ())):
            return False
        check(client, now, change)
        return True

    now, mined = change_lease(
        escrow,
        found,
        read=lambda: look_up(escrow, found.opened, found.number),
        wants=wants,
        send=lambda at: send(escrow, at),
    )
    return Acted(now, mined.transaction if mined is not None else b"")


def on_terms(change: str, signer: Signer, *rest: object) -> Send:
    """The escrow's function of that name, called with the lease's terms and progress, then its own arguments."""

    def send(escrow: Escrow, found: FoundLease) -> TxReceipt:
        state = found.state
        receipt: TxReceipt = getattr(escrow, change)(signer, state.lease, state.clauses, state.progress, *rest)
        return receipt

    return send


def check(client: Client, found: FoundLease, change: str) -> None:
    """NotAllowedError unless the escrow would take this change from this key now."""
    now = chain_now(client)
    if found.history.closed_by is not None:
        raise NotAllowedError(f"the lease is over: it was {found.history.state}")
    way = next((way for way in allowed(found.state, now) if way.change == change), None)
    if way is None:
        raise NotAllowedError(f"{change} is not possible now: {when(found, change, now)}", hint=_instead(found, now))
    if not _may(client, found, way.who):
        raise NotAllowedError(
            f"{change} is for {_WHO[way.who]}; your key is {client.address}", hint="name another with --keystore"
        )


def ways(client: Client, found: FoundLease) -> list[str]:
    """What this key may do with the lease now, by the names of the commands; `settle` needs a receipt besides."""
    if found.history.closed_by is not None:
        return []
    return [way.change for way in allowed(found.state, chain_now(client)) if _may(client, found, way.who)]


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


def _may(client: Client, found: FoundLease, who: Who) -> bool:
    state, escrow, me = found.state, client.network.escrow, client.address
    consumer_side = (state.lease.consumer, state.clauses.guard)
    may = {
        Who.CONSUMER_SIDE: consumer_side,
        Who.PARTY: (*consumer_side, state.lease.provider),
        Who.PROVIDER: (state.lease.provider,),
        Who.ARBITER: (state.clauses.arbiter,),
    }.get(who)
    return may is None or any(acts_for(me, account, escrow.owner_of(account)) for account in may)


def _instead(found: FoundLease, now: int) -> str:
    names = [way.change for way in allowed(found.state, now)]
    return f"possible now: {', '.join(names)}" if names else ""
