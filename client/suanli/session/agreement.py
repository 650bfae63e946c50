"""What a lease must be before anything is sealed for it: the consumer's own reading of the market's word.

The market is a messenger. Its LeaseView is believed where signatures, digests and the escrow's own word say the same;
the first thing that does not is named. A breach that is on the chain is answered by `stop`, before any input left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from suanli_protocol import wire
from suanli_protocol.documents import Attributes, Constraints, documents_digest
from suanli_protocol.errors import IntegrityError, SuanliError
from suanli_protocol.lease import (
    Account,
    Clauses,
    Lease,
    Progress,
    Refusal,
    ask_up,
    lease_id,
    refusal,
    same_address,
    seat_word,
)
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.signing import Domain, struct_hash, verify
from suanli_protocol.stated_terms import stated_terms
from suanli_protocol.traits import Trait

NEVER_USED = bytes(32)
ReadSeat = Callable[[bytes], bytes]


class NotYetOnChainError(SuanliError):
    """The seat is still empty as the own endpoint sees it: the market may be a moment ahead of it."""

    code, title, exit_status, retryable = "not_on_chain", "The lease is not on the chain", 6, True


@dataclass(frozen=True)
class Agreement:
    """A lease with everything that follows from its papers."""

    id: bytes
    number: int
    bid: Bid
    offer: Offer
    attributes: Attributes
    constraints: Constraints
    lease: Lease
    clauses: Clauses
    job_digest: bytes

    @property
    def encryption_key(self) -> bytes:
        """The provider's X25519 key, from the signed offer alone."""
        return bytes.fromhex(self.attributes.encryption_key[2:])


def read_agreement(view: wire.LeaseView, domain: Domain, consumer: str) -> Agreement:
    """The agreement that the papers make, offline; ProtocolError or IntegrityError names what does not hold."""
    bid, offer = wire.paper_from_json(Bid, view.bid), wire.paper_from_json(Offer, view.offer)
    if not same_address(bid.consumer, consumer):
        raise IntegrityError(f"bid: it is {bid.consumer}'s, not yours ({consumer})")
    verify(domain, bid, wire.from_hex(view.bid_signature, name="bidSignature"), consumer)
    verify(domain, offer, wire.from_hex(view.offer_signature, name="offerSignature"), offer.provider)
    attributes, constraints = Attributes.parse(view.attributes), Constraints.parse(view.constraints)
    if attributes.digest() != offer.attributes:
        raise IntegrityError("attributes: they are not those that the offer names")
    job_digest = wire.from_hex(view.job_digest, size=32, name="jobDigest")
    if documents_digest(job_digest, constraints.digest()) != bid.documents:
        raise IntegrityError("documents: job and constraints are not those that the bid names")
    lease, clauses = stated_terms(view, bid, offer)
    return Agreement(lease_id(lease), view.number, bid, offer, attributes, constraints, lease, clauses, job_digest)


def check_bid(agreement: Agreement, own_bid: Bid) -> None:
    """IntegrityError unless the lease is of the bid that was signed here for this job."""
    if struct_hash(agreement.bid) != struct_hash(own_bid):
        raise IntegrityError("bid: it is not the one that was signed here for this job")


def check_terms(agreement: Agreement) -> None:
    """IntegrityError names the first of the consumer's own conditions that the lease breaks."""
    bid, offer = agreement.bid, agreement.offer
    if same_address(offer.provider, bid.market):
        raise IntegrityError("provider: it is the market itself")
    judged_by = (bid.consumer, offer.provider, bid.market)
    if any(same_address(bid.arbiter, party) for party in judged_by):
        raise IntegrityError("arbiter: it is a party of the lease, or its market")
    rate = agreement.clauses.rate
    rich = Account(free=2**96, counter=bid.counter)  # funds, counters and times are the escrow's to check
    code = refusal(
        bid,
        offer,
        rate=rate,
        caller=bid.market,
        now=0,
        consumer=rich,
        provider=Account(free=2**96, counter=offer.counter),
    )
    if code is not Refusal.NONE:
        named = {Refusal.RATE_BELOW_ASK: f"rate: {rate} is below what the offer asks, {ask_up(bid, offer)}"}
        raise IntegrityError(named.get(code, f"{code.name.lower()}: the two papers do not fit each other"))
    _check_constraints(agreement)


def _check_constraints(agreement: Agreement) -> None:
    wanted, have = agreement.constraints, agreement.attributes
    if wanted.regions and not any(is_within(have.region, region) for region in wanted.regions):
        raise IntegrityError(f"region: {have.region or 'unstated'} is none of {', '.join(wanted.regions)}")
    if wanted.arch and have.arch != wanted.arch:
        raise IntegrityError(f"arch: {have.arch}, not {wanted.arch}")
    if wanted.python and wanted.python not in have.pythons:
        raise IntegrityError(f"python: it has {', '.join(have.pythons) or 'none'}, not {wanted.python}")
    if wanted.environments and not have.environments:
        raise IntegrityError("environments: it prepares none")
    if bool(agreement.offer.traits & Trait.SANDBOX_B) != (have.sandbox in "AB"):
        raise IntegrityError(f"sandbox: tier {have.sandbox} and the offer's traits contradict each other")


def is_within(region: str, wanted: str) -> bool:
    """Whether a region is the wanted one or inside it (CN-GD is inside CN)."""
    return region == wanted or region.startswith(wanted + "-")


def runs_on_chain(agreement: Agreement, read_seat: ReadSeat) -> bool:
    """Whether the escrow holds this very lease, running and unpaid.

    NotYetOnChainError if the seat was never used: wait and ask again.
    """
    word = read_seat(agreement.lease.seat_key)
    if word == NEVER_USED:
        raise NotYetOnChainError(f"the escrow has no lease at the seat of {wire.to_hex(agreement.id)}")
    return word == seat_word(agreement.id, Progress())
