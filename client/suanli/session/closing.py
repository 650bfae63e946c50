"""From the receipt to the settled lease: every figure is checked, then signed, then seen paid on the chain."""

from __future__ import annotations

import time

from suanli.jobs.record import Record
from suanli.session import direct, transfer
from suanli.session import evidence as evidences
from suanli.session.agreement import Agreement, NotYetOnChainError
from suanli.session.desk import Desk
from suanli.session.evidence import Claim
from suanli.session.joblog import LogFollower
from suanli.session.outcome import words
from suanli.session.standing import billable_until, standing
from suanli_protocol import faults, wire
from suanli_protocol.documents import JobDocument
from suanli_protocol.errors import IntegrityError, MarketError
from suanli_protocol.events import Finalized, Reclaimed, Released, Resolved, Settled
from suanli_protocol.lease import Kind, fee_down
from suanli_protocol.reasons import CONSUMER_FAULT, Phase, Reason
from suanli_protocol.units import format_bytes, format_duration

LOG_S = 60  # for the log to be complete once there is a receipt


def take_receipt(
    desk: Desk, agreement: Agreement, log: LogFollower, view: wire.LeaseView, *, is_open: bool = True
) -> None:
    """Checks the provider's claim in every figure, takes the outputs, and signs unless the market has that already.

    A lease that was closed without this signature needs none any more.
    """
    record, signed = desk.record, desk.market.receipt(agreement.id)
    job = JobDocument.parse(record.job) if record.job is not None else None
    until = billable_until(desk, agreement)
    claim = evidences.read_claim(agreement, signed, desk.domain, job, int(time.time()), until)
    evidences.check_log(claim.evidence, log.wait(claim.evidence.log.chunks, LOG_S))
    phase = _phase_of(claim)
    if record.evidence is None:
        desk.tell(phase.value, _ended(claim), reason=claim.evidence.reason, exitCode=claim.evidence.exit_code)
    desk.save(
        evidence=claim.evidence.to_json(),
        receipt=signed.receipt,
        receipt_signature=signed.signature,
        reason=claim.evidence.reason,
        unchecked=list(claim.unchecked),
    )
    faults.reach("client.receipt.checked")
    _take_outputs(desk, agreement, claim)
    desk.save(phase=phase.value)
    faults.reach("client.outputs.taken")
    if view.countersignature:
        desk.save(countersignature=view.countersignature)
    elif is_open:
        _sign(desk, agreement, claim)


def _take_outputs(desk: Desk, agreement: Agreement, claim: Claim) -> None:
    outputs = claim.evidence.outputs
    if outputs is None:
        return
    moving = desk.moving("downloading outputs", outputs.sealed_size)
    archive = transfer.fetch_outputs(
        lambda slot: moving.through(desk.market.get_blob(agreement.id, slot)),
        outputs,
        desk.signer,
        agreement.id,
        desk.folder,
    )
    into = desk.output_dir
    files = transfer.unpack_outputs(archive, outputs, into or desk.folder / "outputs")
    desk.save(output_files=[file.to_json() for file in files], output_dir=str(into.resolve()) if into else "")
    if files:
        size = format_bytes(sum(file.size for file in files))
        noun = "file" if len(files) == 1 else "files"
        where = f" in {into}" if into else ""
        desk.tell("received", f"{len(files)} {noun}, {size}, digests hold{where}", files=len(files))


def _sign(desk: Desk, agreement: Agreement, claim: Claim) -> None:
    """The consumer's signature, on the disk before it leaves."""
    evidence, amount = claim.evidence, claim.receipt.amount
    desk.save(countersignature=wire.to_hex(desk.signer.sign(desk.domain, claim.receipt)))
    faults.reach("client.receipt.signed")
    seconds, rate = format_duration(evidence.billed_seconds), desk.money(agreement.clauses.rate)
    desk.tell(
        "signed",
        f"bill recomputed: {seconds} at {rate}/h makes {desk.money(amount)}"
        if evidence.billing == "capacity"
        else f"bill recomputed from what was used: {desk.money(amount)}",
        amount=str(amount),
        billedSeconds=evidence.billed_seconds,
    )
    countersign(desk, agreement)


def countersign(desk: Desk, agreement: Agreement) -> None:
    """Gives the market the signature that is on the disk; a lease that closed meanwhile needs it no more."""
    body = wire.Countersignature(receipt=desk.record.receipt or {}, signature=desk.record.countersignature)
    try:
        desk.market.countersign(agreement.id, body)
    except MarketError as error:
        if error.code != "lease_closed":
            raise
    if direct.is_direct(desk.record):
        direct.settle(desk, agreement)
    faults.reach("client.receipt.countersigned")


def _phase_of(claim: Claim) -> Phase:
    if claim.evidence.reason == Reason.OK:
        return Phase.SUCCEEDED
    return Phase.CANCELLED if claim.evidence.reason == Reason.STOPPED else Phase.FAILED


def _ended(claim: Claim) -> str:
    evidence = claim.evidence
    usage = evidence.usage
    ran = f"{usage.wall_ms / 1000:.2f} s, {usage.cpu_ms / 1000:.2f} s of processor, peak {usage.peak_memory_mib} MiB"
    code = f"exit code {evidence.exit_code}" if evidence.exit_code is not None else "it never ran"
    why = "" if evidence.reason in (Reason.OK, Reason.EXIT_NONZERO) else f"{words(evidence.reason)}; "
    return f"{why}{code}; {ran}" if usage.wall_ms else f"{why}{code}"


def see_closed(desk: Desk, agreement: Agreement, view: wire.LeaseView) -> None:
    """The market calls the lease closed; the chain says by what, and what was paid.

    NotYetOnChainError while the own endpoint has not seen it, IntegrityError if other than the signed amount was paid.
    """
    closed = standing(desk, agreement).closed_by
    if closed is None:
        raise NotYetOnChainError("the escrow still holds the lease that the market calls closed")
    faults.reach("client.settlement.seen")
    mined = desk.network.chain.receipt(closed.transaction)
    if mined is not None:
        desk.save(gas=mined.gas_used + _gas_of_opening(desk, view))
    if agreement.clauses.attempt == agreement.bid.attempts:
        (desk.folder / "inputs.tar").unlink(missing_ok=True)  # no other lease will need it
    transaction = wire.to_hex(closed.transaction)
    match closed:
        case Settled():
            _settled(desk, closed, transaction)
        case Released():
            _released(desk, agreement, closed, transaction)
        case Finalized() | Resolved() | Reclaimed():
            _ended_alone(desk, closed, transaction)
        case _:
            raise AssertionError(f"{closed} closes no lease")


def _gas_of_opening(desk: Desk, view: wire.LeaseView) -> int:
    opened = desk.network.chain.receipt(wire.from_hex(view.transaction, size=32, name="transaction"))
    return opened.gas_used if opened is not None else 0


def _settled(desk: Desk, event: Settled, transaction: str) -> None:
    signed = (desk.record.receipt or {}).get("amount")
    if signed is not None and str(event.paid) != signed:
        raise IntegrityError(f"paid: the chain says {event.paid}, you signed {signed}", hint="suanli audit all")
    desk.save(phase=Phase.SETTLED.value, paid=str(event.paid), fee=str(event.fee), transaction=transaction)
    desk.tell(
        "settled",
        f"{desk.money(event.paid)} to the provider{_fee(desk, event.fee)}, the rest back",
        paid=str(event.paid),
        fee=str(event.fee),
        transaction=transaction,
    )


def _fee(desk: Desk, fee: int) -> str:
    return f", {desk.money(fee)} to the market" if fee else ""


def _ended_alone(desk: Desk, event: Finalized | Resolved | Reclaimed, transaction: str) -> None:
    """The lease ended without a receipt of both sides."""
    paid, fee = desk.money(event.paid), _fee(desk, event.fee)
    match event:
        case Finalized():
            text = f"the provider's claim stood: {paid} to it{fee}"
            reason = desk.record.reason or (Reason.OK if event.kind == Kind.DONE else Reason.WORKER_LOST)
        case Resolved():
            text = f"the arbiter decided: {paid} to the provider{fee}"
            reason = desk.record.reason or Reason.WORKER_LOST
            desk.save(gained=event.slash - event.cost_consumer)
        case Reclaimed():
            text = f"the provider never billed: the deposit is back, and its bond of {desk.money(event.bond)} with it"
            reason = Reason.WORKER_LOST
            desk.save(gained=event.bond)
    changes = {"paid": str(event.paid), "fee": str(event.fee), "transaction": transaction, "disputed": False}
    desk.save(phase=Phase.SETTLED.value, reason=str(reason), **changes)
    desk.tell("settled", text, paid=str(event.paid), fee=str(event.fee), transaction=transaction)


def may_go_on(record: Record, agreement: Agreement) -> bool:
    """Whether a closed lease leaves the job a further attempt: the provider failed, and the bid allows and lives."""
    provider_failed = bool(record.reason) and record.reason != Reason.OK and record.reason not in CONSUMER_FAULT
    left = agreement.bid.attempts - agreement.clauses.attempt
    return provider_failed and left > 0 and time.time() < agreement.bid.valid_until and not direct.is_direct(record)


def _released(desk: Desk, agreement: Agreement, event: Released, transaction: str) -> None:
    desk.save(
        phase=Phase.SETTLED.value,
        reason=desk.record.reason or Reason.RELEASED.value,
        paid=str(event.paid),
        fee=str(fee_down(event.paid, agreement.lease.fee_bps)),
        gained=event.penalty,
        transaction=transaction,
    )
    penalty = f", {desk.money(event.penalty)} of its bond with it" if event.penalty else ""
    desk.tell("failed", f"{words(Reason.RELEASED)}: the deposit is back{penalty}", reason=Reason.RELEASED.value)
