"""Builders of receipts: the evidence of a run, and the provider's signature over it."""

from __future__ import annotations

from typing import Any, Protocol

from suanli_protocol import billing, wire
from suanli_protocol.documents import Evidence, LogSummary, hex32
from suanli_protocol.lease import Clauses, Lease
from suanli_protocol.messages import Offer, Receipt
from suanli_protocol.reasons import Reason
from suanli_protocol.signing import Domain, Signer
from support import builders

LOG = LogSummary(sha256="0x" + "ab" * 32, size=10, chunks=1)


class Leased(Protocol):
    """A lease with what follows from its papers."""

    @property
    def id(self) -> bytes:
        """Its id."""

    @property
    def lease(self) -> Lease:
        """Its money."""

    @property
    def clauses(self) -> Clauses:
        """Its terms."""

    @property
    def offer(self) -> Offer:
        """The provider's paper."""


def an_evidence(opened: Leased, **fields: Any) -> Evidence:
    """Ten seconds of work, billed truly unless told otherwise."""
    usage = fields.get("usage", builders.some_usage())
    mode, began = fields.get("billing", "capacity"), opened.clauses.opened_at
    bill = billing.due(opened.lease, opened.clauses, opened.offer, mode, usage, "ok")
    values: dict[str, Any] = {
        "lease": hex32(opened.id),
        "sequence": 1,
        "billing": mode,
        "billed_seconds": bill.billed_seconds,
        "amount": str(bill.amount),
        "usage": usage,
        "exit_code": 0,
        "reason": Reason.OK.value,
        "ready_at": began + 1,
        "started_at": began + 2,
        "ended_at": began + 12,
        "log": LOG,
    }
    return Evidence(**(values | fields))


def signed(
    evidence: Evidence, /, provider: Signer | None = None, domain: Domain | None = None, **fields: Any
) -> wire.SignedReceipt:
    """A receipt over the evidence by the provider: `builders.provider()` unless another is named."""
    values: dict[str, Any] = {
        "lease": bytes.fromhex(evidence.lease[2:]),
        "amount": int(evidence.amount),
        "kind": billing.kind_of(evidence.reason),
        "evidence": evidence.digest(),
    }
    receipt = Receipt(**(values | fields))
    return wire.SignedReceipt(
        receipt=wire.paper_to_json(receipt),
        signature=wire.to_hex((provider or builders.provider()).sign(domain or builders.a_domain(), receipt)),
        evidence=evidence.to_json(),
    )
