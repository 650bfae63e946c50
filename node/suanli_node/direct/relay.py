"""The relay of direct leases: what a lease's run asks of a market, answered from the node's own shelf."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from suanli_node.direct.shelf import Box, Shelf
from suanli_protocol import wire
from suanli_protocol.errors import NotFoundError
from suanli_protocol.lease import Phase
from suanli_protocol.lease_history import LeaseHistory
from suanli_protocol.messages import Delivered
from suanli_protocol.signing import Domain, Signer

READ_BYTES = 1024**2
UNNUMBERED = 0  # a lease's number counts all openings of the escrow: nobody's word is taken for it
ReadHistory = Callable[[bytes, int], LeaseHistory]  # of a lease, from the block of its opening


@dataclass(frozen=True)
class DirectRelay:
    """Stands where a market's client stands for leases that came through one. Thread-safe."""

    shelf: Shelf
    about: Callable[[], wire.MarketInfo]
    signer: Signer
    domain: Domain
    read_history: ReadHistory
    tell: Callable[[wire.Event], None]  # the consumer's event streams

    def holds(self, lease: str) -> bool:
        """Whether the shelf keeps this lease (0x and hex)."""
        return self.shelf.holds(lease)

    def info(self) -> wire.MarketInfo:
        """Who keeps the lease: the provider itself."""
        return self.about()

    def lease(self, lease: bytes) -> wire.LeaseView:
        """The lease with its papers; its state is the chain's."""
        box = self.shelf.box(wire.to_hex(lease))
        history = self.read_history(lease, box.taken().block)
        return view_of(wire.to_hex(lease), box, history)

    def report(self, lease: bytes, report: wire.Report) -> None:
        """Keeps the phase and tells the consumer."""
        box = self.shelf.box(wire.to_hex(lease))
        with self.shelf.lock:
            box.report(report)
        self._note("lease.phase", lease, report.to_json())

    def post_logs(self, lease: bytes, page: wire.LogPage) -> None:
        """Keeps sealed log chunks."""
        with self.shelf.lock:
            self.shelf.box(wire.to_hex(lease)).append_log(page)

    def post_receipt(self, lease: bytes, signed: wire.SignedReceipt) -> None:
        """Keeps the receipt and tells the consumer."""
        with self.shelf.lock:
            self.shelf.box(wire.to_hex(lease)).post_receipt(signed)
        self._note("lease.receipt", lease, {})

    def put_blob(self, lease: bytes, slot: str, data: Any, size: int, *, digest: bytes = b"") -> wire.BlobView:
        """Keeps a blob of the provider's."""
        box = self.shelf.box(wire.to_hex(lease))
        with self.shelf.lock:
            box.store(slot, data, size, wire.to_hex(digest) if digest else "")
        return self.blob_view(lease, slot)

    def get_blob(self, lease: bytes, slot: str) -> Iterator[bytes]:
        """Streams a whole blob; NotFoundError before it is whole."""
        path = self.shelf.box(wire.to_hex(lease)).blob(slot)
        if not path.exists():
            raise NotFoundError(f"the {slot} blob is not here yet", hint="wait for it")
        with path.open("rb") as file:
            while block := file.read(READ_BYTES):
                yield block

    def blob_view(self, lease: bytes, slot: str) -> wire.BlobView:
        """How much of a blob is here; with the node's signature once it is whole."""
        box = self.shelf.box(wire.to_hex(lease))
        announced = box.announced(slot)
        size, received = int(announced["size"]) if announced else 0, box.received(slot)
        if not box.blob(slot).exists():
            return wire.BlobView(slot=slot, size=size, received=received)
        message = Delivered(self.signer.address, lease, slot, box.digest(slot), size, int(time.time() * 1000))
        return wire.BlobView(
            slot=slot,
            size=size,
            received=received,
            delivered=wire.paper_to_json(message),
            signature=wire.to_hex(self.signer.sign(self.domain, message)),
        )

    def _note(self, kind: Any, lease: bytes, data: wire.Json) -> None:
        at = int(time.time() * 1000)
        self.tell(wire.Event(seq=at, at=at, kind=kind, lease=wire.to_hex(lease), data=data))


def view_of(lease: str, box: Box, history: LeaseHistory) -> wire.LeaseView:
    """A direct lease as its two parties see it."""
    taken, phase, receipt, mine = box.taken(), box.phase(), box.receipt(), box.countersignature()
    return wire.LeaseView.model_validate(
        {
            **taken.to_json(),
            "id": lease,
            "number": UNNUMBERED,
            "index": 0,
            "attempt": 1,
            "state": history.state,
            "phase": phase.phase,
            "reason": phase.reason,
            "paid": str(history.paid),
            "fee": "0",
            "receipt": receipt.receipt if receipt else None,
            "receiptSignature": receipt.signature if receipt else None,
            "countersignature": mine.signature if mine else None,
            "settledTransaction": wire.to_hex(history.closed_by.transaction) if history.closed_by else None,
            "claimed": str(history.progress.claimed),
            "claimKind": int(history.progress.kind),
            "clock": history.progress.clock,
            "progress": str(history.progress.pack()),
            "stoppedAt": history.progress.clock if history.progress.phase is Phase.STOPPED else None,
        }
    )
