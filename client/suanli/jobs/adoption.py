"""Jobs that another machine submitted: their records, as far as the market's papers tell."""

from __future__ import annotations

from dataclasses import replace

from suanli.jobs.record import Record
from suanli.network import Network
from suanli.session.agreement import Agreement
from suanli_protocol import wire
from suanli_protocol.reasons import Phase


def adopt(view: wire.LeaseView, *, network: Network, agreement: Agreement, info: wire.MarketInfo) -> Record:
    """The record of a job that another machine submitted, as far as the papers behind `agreement` tell."""
    return Record(
        id=wire.to_hex(agreement.bid.seat),
        created_at=view.opened_at,
        market=network.config.require("market"),
        chain=network.config.require("chain"),
        chain_id=info.chain_id,
        escrow=info.escrow,
        genesis=info.genesis,
        symbol=info.symbol,
        decimals=info.decimals,
        bid=view.bid,
        bid_hash=wire.to_hex(agreement.clauses.bid),
        constraints=view.constraints,
        job_digest=view.job_digest,
        signature=view.bid_signature,
        lease=view.id,
        number=view.number,
        phase=Phase.LEASED.value,
        reason="",
        provider=agreement.offer.provider,
        attributes=view.attributes,
        unchecked=["the job document: it lies on the machine that submitted the job"],
    )


def reported(record: Record, view: wire.LeaseView) -> Record:
    """The record with the phase and sums that the market reports, unchecked."""
    phase = Phase.SETTLED.value if view.state in ("settled", "released") else view.phase or record.phase
    return replace(record, phase=phase, reason=view.reason, paid=view.paid, fee=view.fee)
