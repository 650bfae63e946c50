"""Papers as they arrive and as they lie in the tables: parsed once, with their documents and struct hashes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from suanli_market.clearing.conditions import Place, StandingBid, StandingOffer, Wish
from suanli_market.tables import BidRow, OfferRow
from suanli_protocol import wire
from suanli_protocol.documents import Attributes, Constraints
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.signing import struct_hash

KNOWN_MAX, KNOWN_CHARACTERS_MAX = 1024, 4096  # documents that are kept, and how long one may be


@dataclass(frozen=True, slots=True)
class OfferPaper:
    """An offer with its signature and attributes; nothing about it is checked but its form."""

    id: bytes
    paper: Offer
    signature: bytes
    attributes: Attributes
    document: bytes  # the attributes' canonical bytes

    @property
    def party(self) -> str:
        """Who is to have signed it."""
        return self.paper.provider

    def standing(self, seq: int) -> StandingOffer:
        """As the book holds it."""
        return StandingOffer.of(self.id, seq, self.paper, place_of(self.attributes))


@dataclass(frozen=True, slots=True)
class BidPaper:
    """A bid with its signature, constraints and job digest; nothing about it is checked but its form."""

    id: bytes
    paper: Bid
    signature: bytes
    constraints: Constraints
    job_digest: bytes

    @property
    def party(self) -> str:
        """Who is to have signed it."""
        return self.paper.consumer

    def standing(self, seq: int, now: int = 0) -> StandingBid:
        """As the book holds it from `now` (seconds) on."""
        leaves_at = now + self.constraints.queue_seconds if now else None
        return StandingBid.of(self.id, seq, self.paper, wish_of(self.constraints), leaves_at=leaves_at)


def read_offer(body: wire.SignedOffer) -> OfferPaper:
    """From a hostile body; ProtocolError names what is malformed."""
    offer = wire.paper_from_json(Offer, body.offer)
    attributes, document = _read_attributes(body.attributes)
    return OfferPaper(struct_hash(offer), offer, bytes.fromhex(body.signature[2:]), attributes, document)


def read_bid(body: wire.SignedBid) -> BidPaper:
    """From a hostile body; ProtocolError names what is malformed."""
    bid = wire.paper_from_json(Bid, body.bid)
    constraints = Constraints.parse(body.constraints)
    job_digest = bytes.fromhex(body.job_digest[2:])
    return BidPaper(struct_hash(bid), bid, bytes.fromhex(body.signature[2:]), constraints, job_digest)


def _read_attributes(value: wire.Json) -> tuple[Attributes, bytes]:
    """With their canonical bytes; a machine says the same of itself in each offer."""
    text = json.dumps(value)
    return _known_attributes(text) if len(text) <= KNOWN_CHARACTERS_MAX else _parse_attributes(value)


@lru_cache(KNOWN_MAX)
def _known_attributes(text: str) -> tuple[Attributes, bytes]:
    return _parse_attributes(json.loads(text))


def _parse_attributes(value: wire.Json) -> tuple[Attributes, bytes]:
    attributes = Attributes.parse(value)
    return attributes, attributes.canonical()


def place_of(attributes: Attributes) -> Place:
    """What matching looks at."""
    return Place(attributes.region, attributes.arch, attributes.pythons, attributes.environments)


def wish_of(constraints: Constraints) -> Wish:
    """What matching looks at."""
    return Wish(constraints.regions, constraints.arch, constraints.python, constraints.environments)


def offer_of(row: OfferRow) -> Offer:
    """The paper of a row."""
    return _offer(row.paper)


def bid_of(row: BidRow) -> Bid:
    """The paper of a row."""
    return _bid(row.paper)


@lru_cache(KNOWN_MAX)
def _offer(text: str) -> Offer:
    return wire.paper_from_json(Offer, json.loads(text))


@lru_cache(KNOWN_MAX)
def _bid(text: str) -> Bid:
    return wire.paper_from_json(Bid, json.loads(text))


def standing_offer(row: OfferRow) -> StandingOffer:
    """A row as the book holds it."""
    place = place_of(Attributes.parse(json.loads(row.attributes)))
    return StandingOffer.of(bytes.fromhex(row.id[2:]), row.seq, offer_of(row), place)


def standing_bid(row: BidRow) -> StandingBid:
    """A row as the book holds it."""
    constraints = Constraints.parse(json.loads(row.constraints))
    return StandingBid.of(
        bytes.fromhex(row.id[2:]),
        row.seq,
        bid_of(row),
        wish_of(constraints),
        spent=int(row.spent),
        leaves_at=row.queued_at + constraints.queue_seconds,
    )
