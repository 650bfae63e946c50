"""A lease from the chain alone: the papers in the calldata that opened it, and all that became of it since.

Any party, guard or arbiter can act on a lease with this, and with nobody's permission: no market is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from suanli_protocol.chain import LOG_SPAN_BLOCKS
from suanli_protocol.contract_abi import contract_abi
from suanli_protocol.errors import ChainError, IntegrityError, NotFoundError, ProtocolError
from suanli_protocol.escrow import Escrow
from suanli_protocol.events import Opened
from suanli_protocol.lease import State, attempt_after, lease_id, terms
from suanli_protocol.lease_history import LeaseHistory, read_history
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.openings import Fill, Opening, decode_open
from suanli_protocol.signing import struct_hash

EMBEDDED_MAX = 16  # calls that are looked for in the calldata of another contract
FRAMES_MAX = 1000  # of a transaction's calls


@dataclass(frozen=True, slots=True)
class Papers:
    """The papers that opened a lease, and its state at that moment."""

    opening: Opening
    fill: Fill
    state: State

    @property
    def attempt(self) -> tuple[int, int]:
        """Its number, and what earlier ones cost."""
        return attempt_after(self.fill.previous)


@dataclass(frozen=True, slots=True)
class FoundLease:
    """A lease with its papers. `state` is proven by the escrow's word, unless the lease is closed."""

    id: bytes
    number: int  # 0 if it was looked for by its id
    opened: Opened
    bid: Bid
    offer: Offer
    state: State
    history: LeaseHistory


def find_lease(escrow: Escrow, which: str, *, first: int = 0) -> FoundLease:
    """The lease of a number, or of an id (0x and at least 8 hex digits of it).

    It is looked for from block `first` on, before which the escrow had no event. NotFoundError if there is none or
    several, IntegrityError if calldata, events and the escrow's word disagree.
    """
    number, opened = _opened(escrow, which, first, escrow.chain.block("latest").number)
    return look_up(escrow, opened, number)


def look_up(escrow: Escrow, opened: Opened, number: int = 0) -> FoundLease:
    """The lease that an event opened, as it is now: only what came after that is read. IntegrityError as above."""
    head = escrow.chain.block("latest").number
    papers = read_papers(escrow, opened)
    history = read_history(escrow, opened.lease_id, opened.block, head)
    state = State(papers.state.lease, papers.state.clauses, history.progress)
    if history.closed_by is None and escrow.seat(state.lease.seat_key, block=head) != state.word:
        raise IntegrityError(
            "the escrow's word at the seat is not what the lease's events make", hint="ask another chain endpoint"
        )
    return FoundLease(opened.lease_id, number, opened, papers.opening.bid, papers.fill.offer, state, history)


def _opened(escrow: Escrow, which: str, first: int, head: int) -> tuple[int, Opened]:
    if which.startswith("0x") and len(which) == 66:
        opened = _newest_about(escrow, which, first, head)
        if opened is not None:
            return 0, opened
    elif which.isdecimal() or (which.startswith("0x") and len(which) >= 10):
        every = [event for event in escrow.events(first, head) if isinstance(event, Opened)]
        hits = [
            (number, event)
            for number, event in enumerate(every, 1)
            if which == str(number) or ("0x" + event.lease_id.hex()).startswith(which)
        ]
        if len(hits) == 1:
            return hits[0]
        if hits:
            raise NotFoundError(f"{len(hits)} leases begin with {which}", hint="write more of the id")
    raise NotFoundError(f"there is no lease {which} on this escrow", hint="its number, or 0x and its id")


def _newest_about(escrow: Escrow, which: str, first: int, head: int) -> Opened | None:
    """The event that opened the lease of this id. Who asks, asks of young ones mostly: the newest blocks come first."""
    try:
        lease = bytes.fromhex(which[2:])
    except ValueError:
        return None
    for last in range(head, first - 1, -LOG_SPAN_BLOCKS):
        for event in escrow.events_of_lease(lease, max(first, last - LOG_SPAN_BLOCKS + 1), last):
            if isinstance(event, Opened):
                return event
    return None


def read_papers(escrow: Escrow, opened: Opened) -> Papers:
    """The papers and terms of a lease, from the transaction that opened it; the lease's id proves them.

    IntegrityError if they are not to be found: it was opened through a contract that hides them, and the endpoint tells
    nothing of calls between contracts.
    """
    at = escrow.chain.block(opened.block).timestamp
    for call in _calls(escrow, opened.transaction):
        try:
            found = _papers_in(call, opened, at)
        except (ProtocolError, ValueError):
            continue
        if found is not None:
            return found
    raise IntegrityError(
        f"the transaction 0x{opened.transaction.hex()} does not hold the papers of this lease",
        hint="it was opened through another contract; its round has them",
    )


def _papers_in(call: bytes, opened: Opened, at: int) -> Papers | None:
    for opening in decode_open(call).openings:
        if struct_hash(opening.bid) != opened.bid_hash:
            continue
        for fill in opening.fills:
            state = _state(opening, fill, at)
            if struct_hash(fill.offer) == opened.offer_hash and lease_id(state.lease) == opened.lease_id:
                return Papers(opening, fill, state)
    return None


def _calls(escrow: Escrow, transaction: bytes) -> Iterator[bytes]:
    """What may be a call of `open` in a transaction: its own, one inside it (a wallet's), or one that was traced."""
    data = escrow.chain.transaction(transaction).data
    yield data
    selector, at = contract_abi("LeaseEscrow").selectors["open"], 0
    for _ in range(EMBEDDED_MAX):
        at = data.find(selector, at + 1)
        if at < 0:
            break
        yield data[at:]
    yield from _traced(escrow, transaction)


def _traced(escrow: Escrow, transaction: bytes) -> Iterator[bytes]:
    """The calls of the escrow, as an endpoint tells them that traces; many do not."""
    try:
        frames: list[Any] = [
            escrow.chain.rpc("debug_traceTransaction", "0x" + transaction.hex(), {"tracer": "callTracer"})
        ]
    except ChainError:
        return
    for _ in range(FRAMES_MAX):
        if not frames:
            return
        frame = frames.pop()
        if not isinstance(frame, dict):
            continue
        frames += frame["calls"] if isinstance(frame.get("calls"), list) else []
        if str(frame.get("to")).lower() == escrow.address.lower():
            try:
                yield bytes.fromhex(str(frame.get("input")).removeprefix("0x"))
            except ValueError:
                continue


def _state(opening: Opening, fill: Fill, at: int) -> State:
    attempt, spent = attempt_after(fill.previous)
    lease, clauses = terms(
        opening.bid, fill.offer, rate=fill.rate, index=fill.index, attempt=attempt, spent=spent, opened_at=at
    )
    return State(lease, clauses)
