"""Ending: what became of a lease, as the event that closed it says; earnings are summed from them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from suanli_node.leases.record import LeaseRecord
from suanli_protocol import wire
from suanli_protocol.chain import Chain
from suanli_protocol.errors import ChainError
from suanli_protocol.lease_history import LeaseHistory

VOID = "void"  # a reorganisation took the lease back for good


@dataclass(frozen=True)
class Ending:
    """One closed lease. Money in base units; `at` is the closing block's time, 0 if it is not known."""

    lease: str
    number: int
    consumer: str
    how: str  # settled, finalized, resolved, released, reclaimed, VOID; "closed" if the chain did not say how
    reason: str  # why the run ended
    billed: str  # what the receipt was over
    paid: str  # to this node
    fee: str  # to the market, out of the consumer's deposit
    lost: str  # of the bond: penalty, slash, cost of a dispute
    at: int
    transaction: str

    def to_json(self) -> dict[str, Any]:
        """The ending as JSON values."""
        return asdict(self)


def ending_of(record: LeaseRecord, history: LeaseHistory, chain: Chain) -> Ending:
    """The ending of a closed lease, with its block's time as far as the chain tells it."""
    event = history.closed_by
    lost = sum(getattr(event, part, 0) for part in ("penalty", "bond", "slash", "cost_provider"))
    return Ending(
        lease=record.view.id,
        number=record.view.number,
        consumer=str(record.view.bid["consumer"]),
        how=history.state if event is not None else "closed",
        reason=record.reason,
        billed=str(record.receipt.amount) if record.signed is not None else "0",
        paid=str(history.paid),
        fee=str(getattr(event, "fee", 0)),
        lost=str(lost),
        at=_time_of(chain, event.block) if event is not None else 0,
        transaction=wire.to_hex(event.transaction) if event is not None else "",
    )


def _time_of(chain: Chain, block: int) -> int:
    try:
        return chain.block(block).timestamp
    except ChainError:
        return 0
