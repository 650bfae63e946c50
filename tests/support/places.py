"""What a node's counter asks the chain of a lease, answered for one lease, or none."""

from __future__ import annotations

from dataclasses import dataclass, field

from suanli_node.leases.standing import Standing, stand
from suanli_node.leases.verification import Assignment
from suanli_protocol import events
from suanli_protocol.errors import IntegrityError
from suanli_protocol.escrow import UNUSED
from suanli_protocol.lease_history import LeaseHistory
from suanli_protocol.signing import struct_hash
from support.leases import Opened

BLOCK, BLOCK_HASH = 77, b"\x77" * 32


@dataclass
class OnePlace:
    """A chain with this lease on it, opened in block 77."""

    opened_lease: Opened | None = None
    history: LeaseHistory = field(default_factory=LeaseHistory)

    def stand(self, assignment: Assignment) -> Standing:
        """By the word at the seat."""
        held = self.opened_lease
        word = held.word(self.history.progress) if held is not None else UNUSED
        return stand(assignment, lambda _: word, lambda _: self.history)

    def opened(self, lease: bytes, transaction: bytes) -> events.Opened:
        """Its event, if the transaction is that of its view."""
        held = self.opened_lease
        if held is None or held.id != lease or "0x" + transaction.hex() != held.view.transaction:
            raise IntegrityError("not the transaction that opened it")
        papers = struct_hash(held.bid), struct_hash(held.offer)
        parties = held.offer.provider, held.bid.consumer
        return events.Opened(BLOCK, BLOCK_HASH, transaction, 0, lease, *parties, *papers, held.clauses.rate, 0, 1)
