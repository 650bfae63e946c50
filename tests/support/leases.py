"""Builders of leases as a node meets them: the view of a market, and the word that the escrow would hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from suanli_protocol import wire
from suanli_protocol.documents import Constraints, JobDocument, documents_digest, hex32
from suanli_protocol.lease import Clauses, Lease, Progress, ask_up, lease_id, seat_word, terms
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.signing import struct_hash
from support import builders


@dataclass(frozen=True)
class Opened:
    """A lease that was opened: its papers, terms and the view that a truthful market gives."""

    bid: Bid
    offer: Offer
    constraints: Constraints
    job: JobDocument
    lease: Lease
    clauses: Clauses
    view: wire.LeaseView

    @property
    def id(self) -> bytes:
        """The lease's id."""
        return lease_id(self.lease)

    def word(self, progress: Progress | None = None) -> bytes:
        """What the escrow holds at the seat."""
        return seat_word(self.id, progress or Progress())

    def told(self, **fields: Any) -> wire.LeaseView:
        """The view with lies in it."""
        return self.view.model_copy(update=fields)


def an_opened_lease(
    *,
    job: JobDocument | None = None,
    opened_at: int = builders.NOW,
    rate: int | None = None,
    attempt: int = 1,
    spent: int = 0,
    **bid_fields: Any,
) -> Opened:
    """A lease of `builders.provider()` by `builders.consumer()`, at the ask unless a rate is given."""
    job, constraints = job or builders.a_job(), builders.some_constraints()
    offer = builders.an_offer(market=builders.market().address)
    documents = documents_digest(job.digest(), constraints.digest())
    bid = replace(builders.a_bid(), documents=documents, **bid_fields)
    rate = ask_up(bid, offer) if rate is None else rate
    lease, clauses = terms(bid, offer, rate=rate, attempt=attempt, spent=spent, opened_at=opened_at)
    domain = builders.a_domain()
    view = wire.LeaseView(
        id=hex32(lease_id(lease)),
        number=1,
        bid=wire.paper_to_json(bid),
        bid_signature=wire.to_hex(builders.consumer().sign(domain, bid)),
        offer=wire.paper_to_json(offer),
        offer_signature=wire.to_hex(builders.provider().sign(domain, offer)),
        attributes=builders.some_attributes().to_json(),
        constraints=constraints.to_json(),
        job_digest=hex32(job.digest()),
        rate=str(rate),
        index=0,
        attempt=attempt,
        spent=str(spent),
        opened_at=opened_at,
        block=10,
        block_hash="0x" + "aa" * 32,
        transaction="0x" + "bb" * 32,
        state="open",
        phase="leased",
    )
    return Opened(bid, offer, constraints, job, lease, clauses, view)


def other_offer(opened: Opened, **fields: Any) -> wire.Json:
    """The lease's offer with other fields, as JSON."""
    return wire.paper_to_json(replace(opened.offer, **fields))


def offer_id(opened: Opened) -> str:
    """The struct hash of the lease's offer."""
    return hex32(struct_hash(opened.offer))
