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
from suanli_protocol.errors import IntegrityError, ProtocolError, SuanliError
from suanli_protocol.escrow import UNUSED
from suanli_protocol.lease import Clauses, Lease, Progress, lease_id, seat_word, terms
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.signing import Domain, verify

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
    constraints: Constraints
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
    return _with_terms(view, bid, offer, constraints, job_digest)


def _with_terms(
    view: wire.LeaseView, bid: Bid, offer: Offer, constraints: Constraints, job_digest: bytes
) -> Assignment:
    try:
        lease, clauses = terms(
            bid, offer, rate=int(view.rate), index=view.index, attempt=view.attempt, opened_at=view.opened_at
        )
        found = lease_id(lease)
    except ValueError as error:
        raise ProtocolError(f"the terms of the lease do not fit their types: {error}") from error
    if found != wire.from_hex(view.id, size=32, name="id"):
        raise IntegrityError(
            f"papers, rate, index, attempt and time of opening make the lease {wire.to_hex(found)}, not {view.id}"
        )
    return Assignment(found, bid, offer, constraints, lease, clauses, job_digest)


def check_on_chain(assignment: Assignment, read_seat: ReadSeat) -> None:
    """Passes only if the escrow holds this very lease, running and unpaid.

    NotYetOnChainError if the seat was never used (wait), IntegrityError if it holds something else.
    """
    word = read_seat(assignment.lease.seat_key)
    if word == UNUSED:
        raise NotYetOnChainError(f"the escrow has no lease at the seat of {wire.to_hex(assignment.id)}")
    if word != seat_word(assignment.id, Progress()):
        raise IntegrityError(f"the escrow's word at the seat is not that of {wire.to_hex(assignment.id)}, running")
