"""Verification: a market's word that a lease was opened is believed only when papers and chain say the same.

The market is a messenger here. What it sends is checked against signatures, digests and the escrow's own word, read
from the node's own chain endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from suanli_protocol import wire
from suanli_protocol.capacity import Lanes
from suanli_protocol.documents import Attributes, Constraints, documents_digest
from suanli_protocol.errors import IntegrityError, SuanliError
from suanli_protocol.lease import Clauses, Lease, lease_id
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.signing import Domain, verify
from suanli_protocol.stated_terms import stated_terms

ReadSeat = Callable[[bytes], bytes]  # the escrow's word at a seat key, at the depth that the node trusts


class NotYetOnChainError(SuanliError):
    """The seat is still empty as the node's own endpoint sees it: the market may be a moment ahead of it."""

    code, title, retryable = "not_on_chain", "The lease is not on the chain", True


@dataclass(frozen=True)
class Assignment:
    """A lease of this node with everything that follows from its papers."""

    id: bytes
    bid: Bid
    offer: Offer
    lease: Lease
    clauses: Clauses
    job_digest: bytes

    @property
    def need(self) -> Lanes:
        """The capacity that the lease takes."""
        return Lanes.unpack(self.bid.need)

    @property
    def end(self) -> int:
        """Seconds of Unix UTC after which nothing is paid."""
        return self.clauses.opened_at + self.clauses.max_seconds


def read_assignment(view: wire.LeaseView, provider: str, domain: Domain) -> Assignment:
    """The assignment that the papers make, offline; ProtocolError or IntegrityError names what does not hold."""
    bid = wire.paper_from_json(Bid, view.bid)
    offer = wire.paper_from_json(Offer, view.offer)
    if offer.provider != provider:
        raise IntegrityError(f"the offer is {offer.provider}'s, not this node's")
    verify(domain, offer, wire.from_hex(view.offer_signature, name="offerSignature"), provider)
    verify(domain, bid, wire.from_hex(view.bid_signature, name="bidSignature"), bid.consumer)
    if Attributes.parse(view.attributes).digest() != offer.attributes:
        raise IntegrityError("the attributes are not those that the offer names")
    constraints = Constraints.parse(view.constraints)
    job_digest = wire.from_hex(view.job_digest, size=32, name="jobDigest")
    if documents_digest(job_digest, constraints.digest()) != bid.documents:
        raise IntegrityError("job and constraints are not those that the bid names")
    return _with_terms(view, bid, offer, job_digest)


def read_bare(view: wire.LeaseView, provider: str) -> Assignment:
    """The assignment of papers that the escrow itself has checked, without documents: it can be ended, never run."""
    bid, offer = wire.paper_from_json(Bid, view.bid), wire.paper_from_json(Offer, view.offer)
    if offer.provider != provider:
        raise IntegrityError(f"the offer is {offer.provider}'s, not this node's")
    return _with_terms(view, bid, offer, bytes(32))


def _with_terms(view: wire.LeaseView, bid: Bid, offer: Offer, job_digest: bytes) -> Assignment:
    lease, clauses = stated_terms(view, bid, offer)
    return Assignment(lease_id(lease), bid, offer, lease, clauses, job_digest)
