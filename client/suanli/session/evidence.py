"""What a receipt must stand on before the consumer signs it too.

Each check names the field that it refuses. What only a record of the job can tell (billing mode, timeouts) is left out
on a machine without one, and said in `unchecked`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from suanli.session.agreement import Agreement
from suanli_protocol import billing, wire
from suanli_protocol.documents import Evidence, JobDocument, LogSummary, hex32
from suanli_protocol.errors import IntegrityError, SignatureError
from suanli_protocol.messages import Receipt
from suanli_protocol.reasons import Reason
from suanli_protocol.signing import Domain, verify

SLACK_S = 5  # of unlike clocks, in what can have passed since the lease was opened


@dataclass(frozen=True)
class Claim:
    """A receipt with its evidence, signed by the provider, found true as far as `unchecked` does not say otherwise."""

    receipt: Receipt
    signature: str
    evidence: Evidence
    unchecked: tuple[str, ...] = field(default=())


def read_claim(
    agreement: Agreement, signed: wire.SignedReceipt, domain: Domain, job: JobDocument | None, now: int, until: int
) -> Claim:
    """The claim, once signature, digests, reason, times and bill hold; IntegrityError names the field that does not.

    `now`, and `until` when nothing is billable any more, are in seconds of Unix UTC. Log and outputs are for the caller
    to check against what it received.
    """
    receipt = wire.paper_from_json(Receipt, signed.receipt)
    if receipt.lease != agreement.id:
        raise _refused("lease", f"the receipt is for {hex32(receipt.lease)}")
    try:
        verify(domain, receipt, wire.from_hex(signed.signature, size=64), agreement.offer.provider)
    except SignatureError as error:
        raise _refused("signature", error.detail) from None
    evidence = Evidence.parse(signed.evidence)
    if evidence.digest() != receipt.evidence:
        raise _refused("evidence", "the document is not the one that the receipt names")
    if evidence.lease != hex32(agreement.id):
        raise _refused("evidence.lease", f"it is about {evidence.lease}")
    _check_kind(receipt, evidence)
    _check_times(agreement, evidence, now)
    _check_bill(agreement, receipt, evidence, job)
    _check_clock(agreement, receipt, evidence, until)
    unchecked = () if job is not None else ("the mode of billing", "the job's own timeouts")
    return Claim(receipt, signed.signature, evidence, unchecked)


def _refused(name: str, detail: str) -> IntegrityError:
    return IntegrityError(f"{name}: {detail}", hint="the receipt is not countersigned; nothing is paid by it")


def _check_kind(receipt: Receipt, evidence: Evidence) -> None:
    if evidence.reason not in set(Reason):
        raise _refused("evidence.reason", f"{evidence.reason!r} is no reason")
    wanted = billing.kind_of(evidence.reason)
    if receipt.kind != wanted:
        raise _refused("kind", f"{receipt.kind} does not fit the reason {evidence.reason}")
    if evidence.reason == Reason.OK and evidence.exit_code != 0:
        raise _refused("evidence.exitCode", f"{evidence.exit_code} does not fit the reason {evidence.reason}")


def _check_times(agreement: Agreement, evidence: Evidence, now: int) -> None:
    """No more can have been used than time has passed: since the opening, and between start and end."""
    slack = max(SLACK_S, agreement.clauses.window // 10)
    wall_s, opened = evidence.usage.wall_ms / 1000, agreement.clauses.opened_at
    if wall_s > now - opened + slack:
        raise _refused("evidence.usage.wallMs", f"{wall_s:.0f} s, but the lease was opened {now - opened} s ago")
    started, ended = evidence.started_at, evidence.ended_at
    if started is not None and not opened - slack <= started <= ended + slack:
        raise _refused("evidence.startedAt", "the run began before the lease, or after its end")
    if started is not None and wall_s > ended - started + slack:
        raise _refused("evidence.usage.wallMs", f"{wall_s:.0f} s, more than lies between start and end")
    if ended > now + slack:
        raise _refused("evidence.endedAt", "it lies in the future")
    cores = agreement.lease.need >> 96  # milli-cores
    if evidence.usage.cpu_ms > (wall_s + slack) * cores and evidence.billing == "usage":
        raise _refused("evidence.usage.cpuMs", f"{evidence.usage.cpu_ms} ms, more than {cores} milli-cores can do")


def _check_bill(agreement: Agreement, receipt: Receipt, evidence: Evidence, job: JobDocument | None) -> None:
    if job is not None and evidence.billing != job.billing:
        raise _refused("evidence.billing", f"{evidence.billing}, but the job says {job.billing}")
    lease, clauses, offer = agreement.lease, agreement.clauses, agreement.offer
    bill = billing.due(lease, clauses, offer, evidence.billing, evidence.usage, evidence.reason)
    if evidence.billed_seconds != bill.billed_seconds:
        raise _refused("evidence.billedSeconds", f"{evidence.billed_seconds}, recomputed {bill.billed_seconds}")
    if evidence.amount != str(receipt.amount):
        raise _refused("evidence.amount", f"{evidence.amount}, but the receipt says {receipt.amount}")
    if receipt.amount != bill.amount:
        raise _refused("amount", f"{receipt.amount}, recomputed {bill.amount}")


def _check_clock(agreement: Agreement, receipt: Receipt, evidence: Evidence, until: int) -> None:
    """No second is paid that the escrow would not let the provider claim alone: the chain's time has no slack."""
    clauses = agreement.clauses
    most = max(clauses.min_seconds, until - clauses.opened_at)
    if receipt.amount and evidence.billed_seconds > most:
        raise _refused("evidence.billedSeconds", f"{evidence.billed_seconds}, but the chain's clock gives {most}")


def check_log(evidence: Evidence, received: LogSummary) -> None:
    """IntegrityError unless the log that arrived is the log that the evidence names."""
    for name in ("chunks", "size", "sha256"):
        told, got = getattr(evidence.log, name), getattr(received, name)
        if told != got:
            raise _refused(f"evidence.log.{name}", f"{told}, but what arrived has {got}")
