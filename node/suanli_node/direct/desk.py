"""The direct desk: takes leases that consumers opened themselves, and serves both parties from the shelf.

What a consumer says is believed where papers and chain say the same, exactly as with a market's word; the disk is
touched only for a lease that the escrow holds open.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Protocol

from suanli_node.direct.relay import UNNUMBERED, DirectRelay
from suanli_node.direct.shelf import Shelf
from suanli_node.leases.standing import Standing, check_open
from suanli_node.leases.verification import Assignment, read_assignment
from suanli_protocol import wire
from suanli_protocol.errors import MarketError, NotFoundError, ProtocolError, SignatureError
from suanli_protocol.events import Opened
from suanli_protocol.messages import Receipt
from suanli_protocol.signing import verify

EVENTS_KEPT = 256
log = logging.getLogger(__name__)


class DirectDesk:
    """The node's own counter. Thread-safe; `opened` is told of each new lease."""

    def __init__(self, relay: DirectRelay, places: Places, opened: Callable[[wire.Event], None]) -> None:
        self.relay, self._places, self._opened = relay, places, opened
        self._shelf: Shelf = relay.shelf

    # Taking

    def take(self, consumer: str, taken: wire.TakenLease) -> wire.LeaseView:
        """Keeps a lease that `consumer` opened; IntegrityError or ProtocolError names what does not hold."""
        assignment = read_assignment(as_view(taken), self.relay.signer.address, self.relay.domain)
        if assignment.bid.consumer != consumer:
            raise SignatureError(f"the bid is {assignment.bid.consumer}'s, not yours ({consumer})")
        lease = wire.to_hex(assignment.id)
        if not self._shelf.holds(lease):
            check_open(assignment, self._places.stand(assignment))
            self._shelf.put(lease, placed(taken, self._places.opened(assignment.id, wire.from_hex(taken.transaction))))
            log.info("direct lease %s was brought by %s", lease, consumer)
        self._opened(wire.Event(seq=1, at=int(time.time() * 1000), kind="lease.opened", lease=lease))
        return self.relay.lease(assignment.id)

    # The consumer's side

    def lease(self, lease: str, consumer: str) -> wire.LeaseView:
        """One lease of the consumer's; NotFoundError for a stranger as for an unknown one."""
        self._require(lease, consumer)
        return self.relay.lease(wire.from_hex(lease))

    def leases(self, consumer: str) -> list[wire.LeaseView]:
        """The consumer's leases, as the chain has them."""
        return [self.relay.lease(wire.from_hex(lease)) for lease in self.ids(consumer)]

    def ids(self, consumer: str) -> list[str]:
        """Ids of the consumer's leases; the chain is not asked."""
        return self._shelf.leases(consumer)

    def log(self, lease: str, consumer: str, after: int) -> wire.LogPage:
        """Sealed chunks after a number."""
        self._require(lease, consumer)
        with self._shelf.lock:
            return self._shelf.box(lease).log(after)

    def receipt(self, lease: str, consumer: str) -> wire.SignedReceipt:
        """The receipt with its evidence; NotFoundError before it is there."""
        self._require(lease, consumer)
        found = self._shelf.box(lease).receipt()
        if found is None:
            raise NotFoundError(f"there is no receipt of lease {lease} yet")
        return found

    def countersign(self, lease: str, consumer: str, body: wire.Countersignature) -> None:
        """Keeps the consumer's signature if it is one over the receipt."""
        self._require(lease, consumer)
        receipt = wire.paper_from_json(Receipt, body.receipt)
        verify(self.relay.domain, receipt, wire.from_hex(body.signature, size=64, name="signature"), consumer)
        with self._shelf.lock:
            self._shelf.box(lease).countersign(body)
        self._opened(wire.Event(seq=1, at=int(time.time() * 1000), kind="lease.countersigned", lease=lease))

    def announce(self, lease: str, slot: str, consumer: str, size: int, digest: str) -> wire.BlobView:
        """Announces a blob of the consumer's."""
        self._require_sender(lease, slot, consumer)
        with self._shelf.lock:
            self._shelf.box(lease).announce(slot, size, digest)
        return self._told(lease, slot)

    def append(self, lease: str, slot: str, consumer: str, offset: int, data: bytes) -> wire.BlobView:
        """Adds bytes to a blob of the consumer's."""
        self._require_sender(lease, slot, consumer)
        with self._shelf.lock:
            self._shelf.box(lease).append(slot, offset, data)
        return self._told(lease, slot)

    def blob(self, lease: str, slot: str, consumer: str) -> str:
        """The path of a whole blob."""
        self._require(lease, consumer)
        path = self._shelf.box(lease).blob(_slot(slot))
        if not path.exists():
            raise NotFoundError(f"the {slot} blob of lease {lease} is not here", hint="wait for it")
        return str(path)

    def _told(self, lease: str, slot: str) -> wire.BlobView:
        view = self.relay.blob_view(wire.from_hex(lease), slot)
        if view.delivered is not None:
            self._opened(wire.Event(seq=1, at=int(time.time() * 1000), kind="lease.delivered", lease=lease))
        return view

    def _consumer(self, lease: str) -> str:
        return self._shelf.consumer(lease)

    def _require(self, lease: str, consumer: str) -> None:
        if not self._shelf.holds(lease) or self._consumer(lease) != consumer:
            raise NotFoundError(f"no lease {lease} of {consumer}")

    def _require_sender(self, lease: str, slot: str, consumer: str) -> None:
        self._require(lease, consumer)
        if wire.SLOT_SENDER[_slot(slot)] != "consumer":
            raise ProtocolError(f"the {slot} blob is the provider's to send", code="forbidden")
        if self.relay.lease(wire.from_hex(lease)).state not in ("open", "stopped"):
            raise MarketError("the lease is closed: no blob is taken any more", code="lease_closed")


class Places(Protocol):
    """What the chain is asked of a lease that a consumer brings."""

    def stand(self, assignment: Assignment) -> Standing:
        """How it stands, as deep as the node trusts it."""

    def opened(self, lease: bytes, transaction: bytes) -> Opened:
        """The event that opened it, in the transaction that is named; IntegrityError if it is not there."""


def placed(taken: wire.TakenLease, opened: Opened) -> wire.TakenLease:
    """The papers with the chain's word on where the lease lies, and not the consumer's."""
    return taken.model_copy(update={"block": opened.block, "block_hash": wire.to_hex(opened.block_hash)})


class Streams:
    """The consumers' event streams: the last events, and a bell for those who wait."""

    def __init__(self) -> None:
        self._bell = threading.Condition()
        self._events: defaultdict[str, list[wire.Event]] = defaultdict(list)  # by lease
        self._last = 0

    def tell(self, event: wire.Event) -> None:
        """Adds an event, numbered after all others."""
        with self._bell:
            self._last = max(self._last + 1, event.seq)
            kept = self._events[event.lease or ""]
            kept.append(event.model_copy(update={"seq": self._last}))
            del kept[:-EVENTS_KEPT]
            self._bell.notify_all()

    def forget(self, leases: Iterable[str]) -> None:
        """Their events are not told any more."""
        with self._bell:
            for lease in leases:
                self._events.pop(lease, None)

    def after(self, leases: set[str], seq: int, timeout_s: float) -> list[wire.Event]:
        """The events of these leases after a number; waits for one."""
        with self._bell:
            self._bell.wait_for(lambda: bool(self._found(leases, seq)), timeout_s)
            return self._found(leases, seq)

    def _found(self, leases: set[str], seq: int) -> list[wire.Event]:
        found = [event for lease in leases for event in self._events.get(lease, ()) if event.seq > seq]
        return sorted(found, key=lambda event: event.seq)


def _slot(slot: str) -> str:
    if slot not in wire.SLOTS:
        raise ProtocolError(f"{slot!r:.40} is no slot", hint="one of " + ", ".join(wire.SLOTS))
    return slot


def as_view(taken: wire.TakenLease) -> wire.LeaseView:
    """The papers in the form in which a market hands them out."""
    return wire.LeaseView.model_validate(
        {**taken.to_json(), "number": UNNUMBERED, "index": 0, "attempt": 1, "state": "open", "phase": "leased"}
    )
