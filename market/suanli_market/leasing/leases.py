"""Leases as their parties see them: rows into views, and who may see what."""

from __future__ import annotations

import json
from typing import Literal

from sqlalchemy import or_
from sqlmodel import Session, col, select

from suanli_market.admission.papers import bid_of, offer_of
from suanli_market.events import note
from suanli_market.tables import BidRow, LeaseRow, OfferRow, ReceiptRow
from suanli_protocol import wire
from suanli_protocol.errors import NotFoundError, ProtocolError
from suanli_protocol.lease import Clauses, Lease, Progress, State, terms
from suanli_protocol.lease import Phase as ChainPhase
from suanli_protocol.reasons import Phase

Role = Literal["consumer", "provider"]
LEASES_MAX = 1_000
OPEN_STATES = ("open", "stopped", "claimed", "disputed")
_CHAIN_PHASE = dict(zip(OPEN_STATES, ChainPhase, strict=True))
_RANK = {
    Phase.LEASED: 0,
    Phase.STARTING: 1,
    Phase.RUNNING: 2,
    Phase.SUCCEEDED: 3,
    Phase.FAILED: 3,
    Phase.CANCELLED: 3,
    Phase.SETTLED: 4,
}
REPORTABLE = (Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)


def lease_of(session: Session, lease: str, party: str) -> tuple[LeaseRow, Role]:
    """The lease and the party's role in it; NotFoundError for a stranger as for an unknown lease."""
    row = session.get(LeaseRow, lease)
    if row is not None and row.bid is not None:
        if row.consumer == party:
            return row, "consumer"
        if row.provider == party:
            return row, "provider"
    raise NotFoundError(f"no lease {lease} of {party}")


def require(role: Role, wanted: Role) -> None:
    """ProtocolError unless the party has the role."""
    if role != wanted:
        raise ProtocolError(f"only the {wanted} of the lease may do this", code="forbidden")


def papers_of(session: Session, row: LeaseRow) -> tuple[BidRow, OfferRow]:
    """The papers that the lease was opened from."""
    return session.get_one(BidRow, row.bid), session.get_one(OfferRow, row.offer)


def terms_of(session: Session, row: LeaseRow) -> tuple[Lease, Clauses]:
    """The lease's terms as the escrow has them."""
    bid, offer = papers_of(session, row)
    return terms(
        bid_of(bid),
        offer_of(offer),
        rate=int(row.rate),
        index=row.seat_index,
        attempt=row.attempt,
        spent=int(row.spent),
        opened_at=row.opened_at,
    )


def progress_of(row: LeaseRow) -> Progress:
    """How far the escrow has come with the lease."""
    phase = _CHAIN_PHASE.get(row.state, ChainPhase.RUNNING)
    flags = int(row.by_consumer) | row.claim_kind << 1
    return Progress(int(row.paid), int(row.claimed), row.clock, phase, flags)


def state_of(session: Session, row: LeaseRow) -> State:
    """An open lease as the escrow has it."""
    return State(*terms_of(session, row), progress_of(row))


def list_leases(session: Session, party: str, *, only_open: bool) -> list[wire.Json]:
    """The party's leases, newest first."""
    query = (
        select(LeaseRow)
        .where(or_(col(LeaseRow.consumer) == party, col(LeaseRow.provider) == party), col(LeaseRow.bid).is_not(None))
        .order_by(col(LeaseRow.number).desc())
        .limit(LEASES_MAX)
    )
    if only_open:
        query = query.where(col(LeaseRow.state).in_(OPEN_STATES))
    return [view_of(session, row) for row in session.exec(query)]


def view_of(session: Session, row: LeaseRow) -> wire.Json:
    """The lease with its papers, as wire.LeaseView has it."""
    bid, offer = papers_of(session, row)
    receipt = session.get(ReceiptRow, row.id)
    return {
        "id": row.id,
        "number": row.number,
        "bid": json.loads(bid.paper),
        "bidSignature": bid.signature,
        "offer": json.loads(offer.paper),
        "offerSignature": offer.signature,
        "attributes": json.loads(offer.attributes),
        "constraints": json.loads(bid.constraints),
        "jobDigest": bid.job_digest,
        "rate": row.rate,
        "index": row.seat_index,
        "attempt": row.attempt,
        "spent": row.spent,
        "claimed": row.claimed,
        "claimKind": row.claim_kind,
        "progress": str(progress_of(row).pack()),
        "openedAt": row.opened_at,
        "block": row.block,
        "blockHash": row.block_hash,
        "transaction": row.transaction,
        "state": row.state,
        "phase": row.phase,
        "reason": row.reason,
        "paid": row.paid,
        "fee": row.fee,
        "receipt": json.loads(receipt.receipt) if receipt else None,
        "receiptSignature": receipt.signature if receipt else None,
        "countersignature": receipt.countersignature if receipt else None,
        "settledTransaction": row.settled_transaction,
        "stoppedAt": row.clock if row.state == "stopped" else None,
        "clock": row.clock,
        "attemptsLeft": max(0, bid_of(bid).attempts - row.attempt),
    }


def report_phase(session: Session, lease: str, party: str, report: wire.Report) -> None:
    """The provider's word; phases only go forward, an earlier or equal one changes nothing."""
    row, role = lease_of(session, lease, party)
    require(role, "provider")
    if report.phase not in REPORTABLE:
        raise ProtocolError(
            f"{report.phase!r:.80} is no phase that a provider reports", hint="one of " + ", ".join(REPORTABLE)
        )
    advance_phase(session, row, report)


def advance_phase(session: Session, row: LeaseRow, report: wire.Report) -> None:
    """Takes a phase that is further on, and tells the consumer; any other changes nothing."""
    if _RANK[Phase(report.phase)] <= _RANK[Phase(row.phase)] or row.state not in OPEN_STATES:
        return
    row.phase, row.reason = report.phase, report.reason[:64]
    session.add(row)
    data = {"phase": row.phase, "reason": row.reason, "detail": report.detail}
    note(session, [row.consumer], "lease.phase", lease=row.id, bid=row.bid, data=data)
