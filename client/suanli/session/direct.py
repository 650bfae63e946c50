"""A deal without a market: the consumer opens the lease itself, brings its papers to the node, and settles itself."""

from __future__ import annotations

from suanli.jobs.record import Record
from suanli.lease_change import change_lease
from suanli.session.agreement import Agreement
from suanli.session.desk import Desk
from suanli.session.lookback import newest_lease
from suanli.session.standing import standing
from suanli_protocol import wire
from suanli_protocol.errors import ChainError, IntegrityError
from suanli_protocol.escrow import UNUSED, Fill, Opening, Settlement, TxReceipt
from suanli_protocol.events import Opened, Refused
from suanli_protocol.lease import Refusal, seat_key
from suanli_protocol.lease_history import LeaseHistory
from suanli_protocol.messages import Bid, Offer, Receipt
from suanli_protocol.reasons import Phase
from suanli_protocol.signing import struct_hash

NO_ROUND = bytes(32)  # what a market would commit to here


def is_direct(record: Record) -> bool:
    """Whether the job's bid names no market but the consumer itself."""
    return str(record.bid["market"]).lower() == str(record.bid["consumer"]).lower()


def open_lease(desk: Desk) -> None:
    """Opens the lease unless that is done, and brings it to the node. May be repeated after any break.

    ChainError names why the escrow left the lease out.
    """
    bid = wire.paper_from_json(Bid, desk.record.bid)
    opened = _open(desk, bid) if desk.escrow.seat(seat_key(bid.seat, bid.consumer)) == UNUSED else None
    opened = opened or newest_lease(desk.escrow, bid, desk.record.created_at)
    if opened is None:
        raise IntegrityError("the seat is used, but by no lease of this bid", hint="suanli audit all")
    view = desk.market.take(_taken(desk, opened))
    desk.save(lease=view.id, phase=Phase.LEASED.value)


def _open(desk: Desk, bid: Bid) -> Opened | None:
    """The event of the own transaction; None if the seat was taken meanwhile, by an earlier one of this bid."""
    signed = wire.SignedOffer.model_validate(desk.record.plan["offer"])
    offer = wire.paper_from_json(Offer, signed.offer)
    fill = Fill(offer, wire.from_hex(signed.signature, size=64), int(desk.record.plan["rate"]))
    opening = Opening(bid, wire.from_hex(desk.record.signature, size=64), (fill,))
    desk.tell("opening", "the lease is opened on the chain, by yourself")
    receipt = desk.escrow.open(desk.signer, NO_ROUND, [opening])
    for event in desk.escrow.events_of(receipt):
        if isinstance(event, Opened) and event.bid_hash == struct_hash(bid):
            return event
        if isinstance(event, Refused) and event.seat == bid.seat and event.refusal is not Refusal.SEAT_TAKEN:
            reason = event.refusal.name.lower()
            raise ChainError(
                f"the escrow did not open the lease: {reason}", hint="take the node's newest offer", code="refused"
            )
    return None


def _taken(desk: Desk, opened: Opened) -> wire.TakenLease:
    record, signed = desk.record, wire.SignedOffer.model_validate(desk.record.plan["offer"])
    return wire.TakenLease(
        id=wire.to_hex(opened.lease_id),
        bid=record.bid,
        bid_signature=record.signature,
        offer=signed.offer,
        offer_signature=signed.signature,
        attributes=signed.attributes,
        constraints=record.constraints,
        job_digest=record.job_digest,
        rate=str(opened.rate),
        opened_at=desk.network.chain.block(opened.block).timestamp,
        block=opened.block,
        block_hash=wire.to_hex(opened.block_hash),
        transaction=wire.to_hex(opened.transaction),
    )


def settle(desk: Desk, agreement: Agreement) -> None:
    """Pays the receipt that both sides signed, unless the other side has done it already."""
    record = desk.record
    receipt = wire.paper_from_json(Receipt, record.receipt)
    signatures = (wire.from_hex(record.receipt_signature, size=64), wire.from_hex(record.countersignature, size=64))

    def look() -> LeaseHistory:
        return standing(desk, agreement)

    def send(found: LeaseHistory) -> TxReceipt:
        paid = Settlement(agreement.lease, found.progress, receipt.amount, receipt.kind, receipt.evidence, *signatures)
        return desk.escrow.settle(desk.signer, [paid])

    change_lease(desk.escrow, look(), read=look, wants=lambda found: found.closed_by is None, send=send)
