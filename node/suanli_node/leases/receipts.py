"""Receipts: what a finished run is billed at, and the evidence that it stands on. Pure but for the signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from suanli_node.engine import meter
from suanli_node.engine.runs import RunStatus
from suanli_node.leases.verification import Assignment
from suanli_protocol import billing, wire
from suanli_protocol.documents import Evidence, LogSummary, Outputs, Usage, hex32
from suanli_protocol.messages import Receipt
from suanli_protocol.reasons import Phase, Reason
from suanli_protocol.signing import Domain, Signer

Billing = Literal["capacity", "usage"]


@dataclass(frozen=True)
class Outcome:
    """How a lease ended here. `status` is None if the run never began; times in seconds of Unix UTC."""

    reason: str
    ended_at: int
    billing: Billing = "capacity"
    status: RunStatus | None = None
    ready_at: int | None = None
    stopped_at: int | None = None  # the chain's clock of a stop


def usage_of(outcome: Outcome) -> Usage:
    """The metered usage. Of a stopped lease nothing after the stop is billable, so its wall time ends there."""
    status = outcome.status
    metered = status.usage if status else meter.Usage()
    usage = Usage(
        wall_ms=metered.wall_ms,
        cpu_ms=metered.cpu_ms,
        peak_memory_mib=metered.peak_memory_mib,
        samples=metered.samples,
        chain_head=metered.chain_head,
    )
    if outcome.stopped_at is None or status is None or status.started_at is None:
        return usage
    billable_ms = max(0, outcome.stopped_at - status.started_at) * 1000
    return usage.model_copy(update={"wall_ms": min(usage.wall_ms, billable_ms)})


def evidence_of(assignment: Assignment, outcome: Outcome, log: LogSummary, outputs: Outputs | None) -> Evidence:
    """The evidence document of the one receipt that this version writes."""
    usage, status = usage_of(outcome), outcome.status
    lease, clauses, offer = assignment.lease, assignment.clauses, assignment.offer
    bill = billing.due(lease, clauses, offer, outcome.billing, usage, outcome.reason)
    return Evidence(
        lease=hex32(assignment.id),
        sequence=1,
        billing=outcome.billing,
        billed_seconds=bill.billed_seconds,
        amount=str(bill.amount),
        usage=usage,
        exit_code=status.exit_code if status else None,
        reason=outcome.reason,
        ready_at=outcome.ready_at,
        started_at=status.started_at if status else None,
        ended_at=outcome.ended_at,
        outputs=outputs,
        log=log,
    )


def receipt_of(evidence: Evidence) -> Receipt:
    """The receipt over the evidence: failed if the run ended by this side's fault, else done, also with an error."""
    return Receipt(
        lease=bytes.fromhex(evidence.lease[2:]),
        amount=int(evidence.amount),
        kind=int(billing.kind_of(evidence.reason)),
        evidence=evidence.digest(),
    )


def sign_receipt(signer: Signer, domain: Domain, evidence: Evidence) -> wire.SignedReceipt:
    """The body that the market relays to the consumer."""
    receipt = receipt_of(evidence)
    return wire.SignedReceipt(
        receipt=wire.paper_to_json(receipt),
        signature=wire.to_hex(signer.sign(domain, receipt)),
        evidence=evidence.to_json(),
    )


def final_phase(reason: str) -> Phase:
    """The phase that a person sees after an end for this reason."""
    if reason == Reason.OK:
        return Phase.SUCCEEDED
    return Phase.CANCELLED if reason == Reason.STOPPED else Phase.FAILED
