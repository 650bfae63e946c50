"""The ledger: the escrow as the leases of this node need it, read at two depths, written to through the outbox."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager

from suanli_node.leases.standing import Standing, block_before, history_reader, stand
from suanli_node.leases.verification import Assignment
from suanli_node.outbox import OutboxEscrow
from suanli_protocol import wire
from suanli_protocol.chain import BlockId
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import ChainError
from suanli_protocol.escrow import UNUSED
from suanli_protocol.events import Opened, Settled, SettlementRefused
from suanli_protocol.lease import Clauses, Lease, Progress
from suanli_protocol.messages import ZERO_ADDRESS, Receipt
from suanli_protocol.openings import Settlement
from suanli_protocol.signing import Signer


class Ledger:
    """What this node asks of the escrow, and does there. Calls that send wait until they are mined."""

    def __init__(self, escrow: OutboxEscrow, signer: Signer, trusted: BlockId) -> None:
        self.escrow, self._signer = escrow, signer
        self.trusted = trusted  # the depth at which something may be torn down
        self.read_history = history_reader(escrow, trusted)

    def read_seat(self, seat_key: bytes) -> bytes:
        """The word at a seat, as deep as it is trusted."""
        return self.escrow.seat(seat_key, block=self.trusted)

    def is_void(self, view: wire.LeaseView, assignment: Assignment) -> bool:
        """Whether a lease that the chain took back can never come again.

        Its papers have run out at a trusted block, and there its seat was never used, or the block that opened it is
        not the chain's and no other did. Anything less may be an endpoint that lags.
        """
        chain = self.escrow.chain
        block = chain.block(self.trusted)
        if block.timestamp <= min(assignment.bid.valid_until, assignment.offer.valid_until):
            return False
        if self.escrow.seat(assignment.lease.seat_key, block=block.number) == UNUSED:
            return True
        if view.block > block.number or wire.to_hex(chain.block(view.block).hash) == view.block_hash:
            return False
        first = block_before(chain, assignment.clauses.opened_at, block.number)
        events = self.escrow.events_of_lease(assignment.id, first, block.number)
        return not any(isinstance(event, Opened) for event in events)

    def latest(self, assignment: Assignment) -> Standing:
        """How a lease stands at the newest block: what a transaction would meet."""
        return stand(assignment, self.escrow.seat, history_reader(self.escrow, "latest"))

    def now(self) -> int:
        """Seconds of Unix UTC: the chain's, which alone move money, or ours where no block was made for a while."""
        return max(self.escrow.chain.block("latest").timestamp, int(time.time()))

    def free(self) -> int:
        """Free money of this node's account in the escrow, in base units."""
        return self.escrow.account(self._signer.address).free

    @property
    def has_owner(self) -> bool:
        """Whether free money is paid out to another address than this node's own."""
        return self.escrow.owner_of(self._signer.address) != ZERO_ADDRESS

    def alone(self) -> AbstractContextManager[None]:
        """Nothing else of this node's key is sent meanwhile."""
        return self.escrow.outbox.alone()

    def settle(self, assignment: Assignment, signed: wire.SignedReceipt, countersignature: str) -> TxReceipt:
        """Submits the receipt with both signatures; ChainError with the escrow's word if it is left out."""
        receipt = wire.paper_from_json(Receipt, signed.receipt)
        settlement = Settlement(
            lease=assignment.lease,
            progress=self.latest(assignment).progress,
            amount=receipt.amount,
            kind=receipt.kind,
            evidence=receipt.evidence,
            provider=wire.from_hex(signed.signature, size=64),
            consumer=wire.from_hex(countersignature, size=64),
        )
        with self._for("settle", assignment):
            mined = self.escrow.settle(self._signer, [settlement])
        for event in self.escrow.events_of(mined):
            if isinstance(event, SettlementRefused):
                raise ChainError(f"the escrow left the receipt out: {event.refusal.name.lower()}")
        if not any(isinstance(event, Settled) for event in self.escrow.events_of(mined)):
            raise ChainError("the escrow answered with no settlement")
        return mined

    def claim(self, assignment: Assignment, receipt: Receipt, amount: int) -> TxReceipt:
        """Claims what the receipt is over, or as much of it as can be claimed now."""
        with self._for("claim", assignment):
            return self.escrow.claim(self._signer, *self._terms(assignment), amount, receipt.kind, receipt.evidence)

    def finalize(self, assignment: Assignment) -> TxReceipt:
        """Ends a claim that nobody disputed, or a dispute that nobody judged."""
        with self._for("finalize", assignment):
            return self.escrow.finalize(self._signer, *self._terms(assignment))

    def release(self, assignment: Assignment) -> TxReceipt:
        """Gives the lease back."""
        with self._for("release", assignment):
            return self.escrow.release(self._signer, *self._terms(assignment))

    def stop(self, assignment: Assignment) -> TxReceipt:
        """Ends the billable time."""
        with self._for("stop", assignment):
            return self.escrow.stop(self._signer, *self._terms(assignment))

    def withdraw(self, amount: int) -> TxReceipt:
        """Pays free money out: to the account's owner, or to the account itself."""
        with self.escrow.purpose("withdraw"):
            return self.escrow.withdraw(self._signer, self._signer.address, amount)

    def _terms(self, assignment: Assignment) -> tuple[Lease, Clauses, Progress]:
        return assignment.lease, assignment.clauses, self.latest(assignment).progress

    def _for(self, what: str, assignment: Assignment) -> AbstractContextManager[None]:
        return self.escrow.purpose(what, wire.to_hex(assignment.id))
