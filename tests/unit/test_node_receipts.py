"""What a run is billed at, and what the receipt stands on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from suanli_node.engine import meter
from suanli_node.engine.runs import RunPhase, RunStatus
from suanli_node.leases.receipts import (
    Outcome,
    evidence_of,
    final_phase,
    receipt_of,
    sign_receipt,
    usage_of,
)
from suanli_node.leases.verification import Assignment, read_assignment
from suanli_protocol import billing, wire
from suanli_protocol.documents import Evidence, LogSummary, hex32
from suanli_protocol.lease import Kind
from suanli_protocol.messages import Receipt
from suanli_protocol.reasons import Phase, Reason
from suanli_protocol.signing import verify
from support import builders
from support.leases import an_opened_lease

LOG = LogSummary(sha256=hex32(bytes(32)), size=0, chunks=0)
USAGE = meter.Usage(wall_ms=10_400, cpu_ms=5_000, peak_memory_mib=100, samples=20, chain_head="0x" + "ab" * 32)
STATUS = RunStatus("lease", RunPhase.EXITED, "ok", started_at=builders.NOW + 2, exit_code=0, usage=USAGE)


def an_assignment() -> Assignment:
    return read_assignment(an_opened_lease().view, builders.provider().address, builders.a_domain())


def an_outcome(**fields: Any) -> Outcome:
    return replace(Outcome(Reason.OK, builders.NOW + 13, status=STATUS), **fields)


def evidence(outcome: Outcome) -> Evidence:
    return evidence_of(an_assignment(), outcome, LOG, None)


@pytest.mark.parametrize("mode", ["capacity", "usage"])
def test_the_amount_is_what_the_shared_bill_says(mode: Any) -> None:
    assignment, found = an_assignment(), evidence(an_outcome(billing=mode))
    bill = billing.due(assignment.lease, assignment.clauses, assignment.offer, mode, found.usage, found.reason)
    assert (int(found.amount), found.billed_seconds) == (bill.amount, 11)
    assert bill.amount > 0
    assert found.usage.chain_head == USAGE.chain_head


def test_usage_costs_less_than_capacity_here() -> None:
    assert int(evidence(an_outcome(billing="usage")).amount) < int(evidence(an_outcome()).amount)


@pytest.mark.parametrize("reason", [Reason.EXIT_NONZERO, Reason.TIMEOUT, Reason.MEMORY_EXCEEDED, Reason.OUTPUT_REFUSED])
def test_the_consumers_own_failure_is_billed_as_done(reason: Reason) -> None:
    receipt = receipt_of(evidence(an_outcome(reason=reason)))
    assert (receipt.kind, receipt.amount) == (Kind.DONE, int(evidence(an_outcome()).amount))


@pytest.mark.parametrize("reason", [Reason.WORKER_LOST, Reason.SANDBOX_FAILED])
def test_the_providers_failure_costs_nothing(reason: Reason) -> None:
    receipt = receipt_of(evidence(an_outcome(reason=reason)))
    assert (receipt.kind, receipt.amount) == (Kind.FAILED, 0)


def test_what_never_ran_costs_nothing() -> None:
    found = evidence(an_outcome(reason=Reason.BAD_JOB, status=None))
    assert (found.amount, found.billed_seconds, found.exit_code, found.started_at) == ("0", 0, None, None)


def test_nothing_after_the_chains_stop_is_billed() -> None:
    stopped = an_outcome(reason=Reason.STOPPED, stopped_at=builders.NOW + 7)
    assert usage_of(stopped).wall_ms == 5_000
    assert evidence(stopped).billed_seconds == 5
    before_it_began = an_outcome(reason=Reason.STOPPED, stopped_at=builders.NOW + 1)
    assert evidence(before_it_began).amount == "0"
    assert usage_of(an_outcome(stopped_at=builders.NOW + 999)).wall_ms == USAGE.wall_ms


def test_the_receipt_is_signed_over_its_evidence() -> None:
    signed = sign_receipt(builders.provider(), builders.a_domain(), evidence(an_outcome()))
    receipt = wire.paper_from_json(Receipt, signed.receipt)
    assert receipt.kind == Kind.DONE
    assert receipt.evidence == Evidence.parse(signed.evidence).digest()
    verify(builders.a_domain(), receipt, wire.from_hex(signed.signature), builders.provider().address)


def test_final_phases() -> None:
    assert [final_phase(reason) for reason in ("ok", "stopped", "timeout")] == [
        Phase.SUCCEEDED,
        Phase.CANCELLED,
        Phase.FAILED,
    ]
