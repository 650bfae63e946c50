"""What a receipt must stand on before the consumer signs it: every altered figure is named."""

from __future__ import annotations

from typing import Any

import pytest

from suanli.session import evidence as evidences
from suanli.session.agreement import read_agreement
from suanli_protocol import billing, wire
from suanli_protocol.errors import IntegrityError
from suanli_protocol.reasons import Reason
from support import builders
from support.leases import Opened, an_opened_lease
from support.receipts import LOG, an_evidence, signed

DOMAIN = builders.a_domain()
NOW = builders.NOW + 20


def read(
    opened: Opened, claim: wire.SignedReceipt, *, now: int = NOW, until: int = 2**40, known: bool = True
) -> evidences.Claim:
    agreement = read_agreement(opened.view, DOMAIN, builders.consumer().address)
    return evidences.read_claim(agreement, claim, DOMAIN, opened.job if known else None, now, until)


def test_a_true_claim_passes() -> None:
    opened = an_opened_lease()
    claim = read(opened, signed(an_evidence(opened)))
    assert claim.receipt.amount > 0
    assert claim.unchecked == ()
    evidences.check_log(claim.evidence, LOG)


def test_without_the_job_document_what_cannot_be_checked_is_said() -> None:
    opened = an_opened_lease()
    assert read(opened, signed(an_evidence(opened)), known=False).unchecked


def test_usage_is_billed_if_the_job_says_so() -> None:
    opened = an_opened_lease(job=builders.a_job(billing="usage"))
    claim = read(opened, signed(an_evidence(opened, billing="usage")))
    capacity = billing.due(opened.lease, opened.clauses, opened.offer, "capacity", claim.evidence.usage, "ok")
    assert 0 < claim.receipt.amount < capacity.amount


@pytest.mark.parametrize("reason", [Reason.WORKER_LOST, Reason.SANDBOX_FAILED])
def test_the_providers_fault_is_free(reason: Reason) -> None:
    opened = an_opened_lease()
    fields = {"reason": reason.value, "exit_code": None}
    assert read(opened, signed(an_evidence(opened, amount="0", **fields))).receipt.amount == 0
    with pytest.raises(IntegrityError, match=r"^amount"):
        read(opened, signed(an_evidence(opened, **fields)))


def test_the_consumers_fault_is_paid() -> None:
    opened = an_opened_lease()
    assert read(opened, signed(an_evidence(opened, reason="exit_nonzero", exit_code=3))).receipt.amount > 0


FALSE = [
    ("more money", {"amount": "1000"}, {}, "amount"),
    ("receipt above evidence", {}, {"amount": 99}, "evidence.amount"),
    ("more seconds", {"billed_seconds": 11}, {}, "evidence.billedSeconds"),
    ("other evidence", {}, {"evidence": b"\x00" * 32}, "evidence"),
    ("other lease", {}, {"lease": b"\x01" * 32}, "lease"),
    ("evidence of another lease", {"lease": "0x" + "01" * 32}, {"lease": None}, "evidence.lease"),
    ("failed called done", {"reason": "worker_lost", "exit_code": None, "amount": "0"}, {"kind": 1}, "kind"),
    ("done called failed", {"reason": "exit_nonzero", "exit_code": 1}, {"kind": 2}, "kind"),
    ("interim", {}, {"kind": 0}, "kind"),
    ("ok with exit code 1", {"exit_code": 1}, {}, "evidence.exitCode"),
    ("ok without exit code", {"exit_code": None}, {}, "evidence.exitCode"),
    ("invented reason", {"reason": "because"}, {}, "evidence.reason"),
    ("other billing", {"billing": "usage"}, {}, "evidence.billing"),
    ("began before the lease", {"started_at": builders.NOW - 1000}, {}, "evidence.startedAt"),
    ("ended before it began", {"started_at": builders.NOW + 500}, {}, "evidence.startedAt"),
    ("ends tomorrow", {"ended_at": builders.NOW + 86_400}, {}, "evidence.endedAt"),
    ("an hour in twenty seconds", {"usage": builders.some_usage(wall_ms=3_600_000)}, {}, "evidence.usage.wallMs"),
]


@pytest.mark.parametrize(("evidence", "receipt", "named"), [f[1:] for f in FALSE], ids=[f[0] for f in FALSE])
def test_a_false_claim_is_named(evidence: dict[str, Any], receipt: dict[str, Any], named: str) -> None:
    opened = an_opened_lease()
    fields = {name: opened.id if value is None else value for name, value in receipt.items()}
    with pytest.raises(IntegrityError) as caught:
        read(opened, signed(an_evidence(opened, **evidence), **fields))
    assert caught.value.detail.startswith(f"{named}:")
    assert caught.value.exit_status == 104


def test_a_foreign_or_altered_signature_is_named() -> None:
    opened = an_opened_lease()
    claim = signed(an_evidence(opened))
    altered = claim.model_copy(update={"receipt": {**claim.receipt, "amount": "1"}})
    with pytest.raises(IntegrityError, match=r"^signature"):
        read(opened, altered)


def test_nothing_is_paid_for_after_the_clock_of_a_stop() -> None:
    opened = an_opened_lease()
    claim = signed(an_evidence(opened))  # ten seconds
    assert read(opened, claim, until=builders.NOW + 10).receipt.amount > 0
    for until in (builders.NOW, builders.NOW + 9):
        with pytest.raises(IntegrityError, match=r"^evidence.billedSeconds: 10, but the chain's clock"):
            read(opened, claim, until=until)


def test_what_costs_nothing_may_have_run_on_after_the_stop() -> None:
    opened = an_opened_lease()
    free = an_evidence(opened, reason="worker_lost", exit_code=None, amount="0")
    assert read(opened, signed(free), until=builders.NOW).receipt.amount == 0


@pytest.mark.parametrize("field", [{"sha256": "0x" + "cd" * 32}, {"size": 11}, {"chunks": 2}])
def test_another_log_is_named(field: dict[str, Any]) -> None:
    evidence = an_evidence(an_opened_lease())
    with pytest.raises(IntegrityError, match=f"evidence.log.{next(iter(field))}"):
        evidences.check_log(evidence, LOG.model_copy(update=field))
