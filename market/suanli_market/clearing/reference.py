"""The reference of matching: every bid against every offer, slow and clear; `matching` must equal it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from suanli_market.clearing.conditions import Facts, StandingBid, StandingOffer, failures, feasible, terms_of
from suanli_market.clearing.matching import Clearing, Proposal, Rivalry, by_surplus, reserve, tie


def ranked(bid: StandingBid, offers: Iterable[StandingOffer], facts: Facts) -> list[Proposal]:
    """The feasible offers for one bid, cheapest first."""
    found = []
    for offer in offers:
        terms = terms_of(bid, offer)
        if feasible(bid, offer, terms, facts):
            found.append(Proposal(bid, offer, terms))
    return sorted(found, key=lambda proposal: (proposal.terms.rate, tie(proposal.offer.id, facts.seed)))


class PlainCheapestFirst:
    """`CheapestFirst` without an index."""

    name = "cheapest-first"
    version = "1"

    def clear(self, bids: Sequence[StandingBid], offers: Iterable[StandingOffer], facts: Facts) -> Clearing:
        """Proposals that are feasible one after the other, and the bids that are left."""
        standing = tuple(offers)
        choices = {bid.id: ranked(bid, standing, facts) for bid in bids}
        firsts = [choices[bid.id][0] for bid in bids if choices[bid.id]]
        accounts = dict(facts.accounts)
        now = replace(facts, accounts=accounts)
        proposals: list[Proposal] = []
        seats: set[tuple[str, bytes]] = set()
        rivalry = Rivalry()
        for first in by_surplus(firsts, facts.seed):
            bid = first.bid
            seat = (bid.bid.consumer, bid.bid.seat)
            if seat in seats:
                rivalry.denied_seat(bid)
                continue
            choice = next((p for p in choices[bid.id] if feasible(bid, p.offer, p.terms, now)), None)
            if choice is not first:
                rivalry.denied(first, failures(bid, first.offer, first.terms, now))
            if choice is not None:
                reserve(accounts, choice)
                seats.add(seat)
                proposals.append(choice)
        return Clearing.of(bids, proposals, rivalry)
