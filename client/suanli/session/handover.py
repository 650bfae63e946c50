"""From the match to the hand-over: nothing leaves before papers, terms and chain have been found true."""

from __future__ import annotations

from suanli.jobs.record import Record
from suanli.session import agreement as agreements
from suanli.session import transfer
from suanli.session.agreement import Agreement
from suanli.session.desk import Desk
from suanli.session.standing import standing, stop
from suanli_protocol import faults, wire
from suanli_protocol.documents import JobDocument
from suanli_protocol.errors import IntegrityError, SuanliError
from suanli_protocol.lease import lease_seconds
from suanli_protocol.messages import Bid
from suanli_protocol.reasons import Phase, Reason
from suanli_protocol.units import format_bytes


def slots_of(record: Record) -> tuple[str, ...]:
    """What is to be handed over: the job, and its archive if it has one."""
    return ("job", "inputs") if record.job and record.job.get("archive") else ("job",)


def agree(desk: Desk, view: wire.LeaseView) -> tuple[Agreement, bool]:
    """The agreement of a lease, and whether it keeps the consumer's conditions.

    A breach before anything was sent is answered by a stop on the chain and raised; one that is stopped already is
    followed to its end, so that the deposit comes back.
    """
    agreement = agreements.read_agreement(view, desk.domain, desk.signer.address)
    agreements.check_bid(agreement, wire.paper_from_json(Bid, desk.record.bid))
    try:
        agreements.check_terms(agreement)
    except IntegrityError as breach:
        if view.state == "open" and not desk.record.delivered:
            _veto(desk, agreement, breach)
            raise
        return agreement, False
    return agreement, True


def _veto(desk: Desk, agreement: Agreement, breach: IntegrityError) -> None:
    """Stops a lease that breaks the consumer's conditions: nothing was sent, nothing is billable."""
    desk.tell("notice", f"refused before anything was sent: {breach.detail}")
    try:
        history = stop(desk, agreement)
    except SuanliError as error:
        breach.hint = f"the lease could not be stopped either: {error.detail}"
        return
    desk.save(detail=breach.detail)
    now = "was stopped" if history.state == "stopped" else f"is {history.state}"
    breach.hint = (
        f"the lease {now} on the chain; `suanli wait {desk.record.short}` brings the deposit back.\n"
        "The job's folder holds the proof against the market"
    )


def note_lease(desk: Desk, agreement: Agreement) -> None:
    """Records and tells, once, what the job was leased on."""
    lease, clauses, record = agreement.lease, agreement.clauses, desk.record
    is_first = not record.terms and not record.number  # an adopted job is told of already
    phase = Phase.LEASED.value if record.phase in ("new", "queued") else record.phase
    attributes = agreement.attributes
    desk.save(
        number=agreement.number,
        provider=agreement.offer.provider,
        attributes=attributes.to_json(),
        terms=terms_of(agreement),
        phase=phase,
    )
    if not is_first:
        return
    place = f" ({attributes.region})" if attributes.region else ""
    desk.tell(
        "leased",
        f"lease {record.lease_name} on {attributes.name}{place} at {desk.money(clauses.rate)}/h, "
        f"{desk.money(lease.deposit)} locked",
        lease=record.lease,
        number=agreement.number,
        provider=agreement.offer.provider,
        rate=str(clauses.rate),
        price=str(lease.price),
        deposit=str(lease.deposit),
    )


def terms_of(agreement: Agreement) -> dict[str, int | str]:
    """What a lease's runway and bill follow from: seconds, and base units as decimal text."""
    lease, clauses = agreement.lease, agreement.clauses
    seconds = lease_seconds(agreement.bid, agreement.offer)
    sums = {"rate": clauses.rate, "price": lease.price, "deposit": lease.deposit}
    return {"openedAt": clauses.opened_at, "seconds": seconds} | {name: str(sum_) for name, sum_ in sums.items()}


def hand_over(desk: Desk, agreement: Agreement) -> None:
    """Seals and uploads what the relay does not have yet, if the chain has this very lease, running and unpaid.

    The relay may not know yet that a lease was stopped, claimed or closed: then nothing is sent, and that is told.
    NotYetOnChainError if the chain has no such lease, IntegrityError if its events and its word disagree. Sealed files
    are kept until the relay has signed for them, so that a second try sends the same bytes.
    """
    record, folder = desk.record, desk.folder
    missing = [slot for slot in slots_of(record) if slot not in record.delivered]
    if not missing or record.job is None:
        return
    if not agreements.runs_on_chain(agreement, desk.escrow.seat):
        state = standing(desk, agreement).state
        if state != "open":  # else a reorganisation has just moved it back
            desk.tell_once("moved", "notice", f"nothing is sent: by the chain the lease is {state}")
        return
    desk.tell_once("checked", "checked", "offer, machine, terms and the chain's own word agree")
    sizes: dict[str, int] = {}
    for slot in missing:
        sealed = folder / f"{slot}.sealed"
        if slot == "job":
            document = JobDocument.parse(record.job).canonical()
            transfer.seal_job(document, agreement.encryption_key, agreement.id, sealed)
        else:
            transfer.seal_archive(folder / "inputs.tar", agreement.encryption_key, agreement.id, sealed)
        faults.reach(f"client.{slot}.sealed")
        moving = desk.moving(f"uploading {slot}", sealed.stat().st_size)
        transfer.upload(desk.market, desk.domain, agreement.id, slot, sealed, moving)
        faults.reach(f"client.{slot}.uploaded")
        sizes[slot] = sealed.stat().st_size
        desk.save(delivered=[*record.delivered, slot])
        faults.reach(f"client.{slot}.recorded")
        sealed.unlink(missing_ok=True)
    total = format_bytes(sum(sizes.values()))
    desk.tell("sent", f"{' and '.join(sizes)} sealed to the provider's key, {total}", sizes=sizes)


def cancel(desk: Desk) -> None:
    """Stops the lease on the chain by its own word, not the market's."""
    view = desk.market.lease(wire.from_hex(desk.record.lease))
    stop(desk, agreements.read_agreement(view, desk.domain, desk.signer.address))


def withdraw(desk: Desk) -> None:
    """Takes a queued bid off the market's book."""
    desk.market.withdraw_bid(wire.from_hex(desk.record.bid_hash))
    end_unleased(desk, Phase.CANCELLED, Reason.STOPPED, "the bid was taken back before there was a lease")


def begin_again(desk: Desk, why: str) -> None:
    """The lease is gone or failed, and the job may have another: it waits for one, with everything still to be sent."""
    record = desk.record
    for slot in slots_of(record):
        (desk.folder / f"{slot}.sealed").unlink(missing_ok=True)
    log = desk.folder / "log.jsonl"
    if log.exists():
        log.replace(desk.folder / f"log.{len(record.attempts) + 1}.jsonl")
    past = {"lease": record.lease, "provider": record.provider, "reason": record.reason, "paid": record.paid or "0"}
    desk.save(
        attempts=[*record.attempts, past | {"fee": record.fee or "0"}],
        lease="",
        provider="",
        reason="",
        detail="",
        paid="",
        fee="",
        number=0,
        gained=0,
        phase=Phase.QUEUED.value,
        delivered=[],
        evidence=None,
        receipt=None,
        receipt_signature="",
        countersignature="",
        stopped_at=None,
        terms={},
        disputed=False,
        transaction="",
    )
    desk.tell("again", why, attempt=len(record.attempts) + 1)


def end_unleased(desk: Desk, phase: Phase, reason: str, detail: str) -> None:
    """The end of a job that never had a lease."""
    desk.save(phase=phase.value, reason=str(reason), detail=detail)
    (desk.folder / "inputs.tar").unlink(missing_ok=True)
    desk.tell(phase.value, detail, reason=str(reason))
