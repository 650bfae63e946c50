"""Quotes: what a bid would get now, at which price, and why the other offers would not do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

from suanli_market.admission.papers import wish_of
from suanli_market.clearing.book import View
from suanli_market.clearing.conditions import StandingBid
from suanli_market.clearing.explain import explain, explained
from suanli_market.clearing.matching import Proposal
from suanli_market.clearing.overlay import Overlay
from suanli_market.clearing.search import hits
from suanli_protocol import wire
from suanli_protocol.documents import Constraints
from suanli_protocol.lease import Account, stake_down
from suanli_protocol.messages import Bid
from suanli_protocol.signing import struct_hash

OFFERS_MAX = 50


@dataclass(frozen=True, slots=True)
class Found:
    """The best proposals; of how many offers the rejections speak, those that would do among them."""

    proposals: tuple[Proposal, ...]
    considered: int
    rejections: tuple[wire.Rejection, ...]

    def as_json(self, offers: Mapping[str, wire.Json]) -> wire.Json:
        """As wire.Quote has it; an offer that left the book meanwhile is left out."""
        quoted = [
            {
                "offer": offers[wire.to_hex(proposal.offer.id)],
                "rate": str(proposal.terms.rate),
                "seconds": proposal.terms.seconds,
                "price": str(proposal.terms.price),
                "fee": str(proposal.terms.fee),
                "stake": str(stake_down(proposal.terms.price)),
            }
            for proposal in self.proposals
            if wire.to_hex(proposal.offer.id) in offers
        ]
        rejections = [rejection.to_json() for rejection in self.rejections]
        return {"offers": quoted, "considered": self.considered, "rejections": rejections}


def quote(body: wire.QuoteRequest, view: View, *, decimals: int, symbol: str) -> Found:
    """What the bid would get, were its account funded (a price comes before a deposit); ProtocolError if malformed."""
    paper = wire.paper_from_json(Bid, body.bid)
    wish = wish_of(Constraints.parse(body.constraints))
    bid = StandingBid.of(struct_hash(paper), 0, paper, wish)
    rich = Account(free=2**96 - 1)
    facts = replace(view.facts, accounts=Overlay(view.facts.accounts, {paper.consumer: rich}))
    best = islice(hits(bid, view.offers, facts), OFFERS_MAX)
    proposals = tuple(Proposal(bid, hit.entry.offer, hit.terms) for hit in best)
    rejections = explain(bid, view.offers, facts, decimals=decimals, symbol=symbol)
    return Found(proposals, explained(view.offers), tuple(rejections))
