"""Matching: which bid gets which offer. Pure: integers in, integers out, the same in every order of the input.

`CheapestFirst` serves bids in the order of their declared surplus and gives each its cheapest feasible offer. The rate
of a match is the offer's own ask. Ties are broken by struct hash XOR the round's seed, which nobody chose: neither
arriving first nor picking a name helps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from suanli_market.clearing.conditions import Facts, StandingBid, StandingOffer, Terms, feasible, terms_of
from suanli_protocol.capacity import Lanes
from suanli_protocol.lease import Account


@dataclass(frozen=True, slots=True)
class Proposal:
    """This bid on that offer; unsigned, and nothing until the escrow opens it."""

    bid: StandingBid
    offer: StandingOffer
    terms: Terms
    index: int = 0


@dataclass(frozen=True, slots=True)
class Clearing:
    """The outcome of one round."""

    proposals: tuple[Proposal, ...]
    unmatched: tuple[bytes, ...]  # struct hashes of bids


class Policy(Protocol):
    """The seam for engines: a name and a version that a round states, and one pure function."""

    name: str
    version: str

    def clear(self, bids: Sequence[StandingBid], offers: Sequence[StandingOffer], facts: Facts) -> Clearing:
        """Proposals that are feasible one after the other, and the bids that are left."""
        ...


def reserve(accounts: dict[str, Account], proposal: Proposal) -> None:
    """Takes what the proposal would lock: capacity and bond of the provider, deposit of the consumer."""
    bid, offer = proposal.bid, proposal.offer
    provider = accounts.get(offer.offer.provider, Account())
    accounts[offer.offer.provider] = replace(
        provider, free=provider.free - proposal.terms.bond, used=provider.used + bid.need
    )
    consumer = accounts.get(bid.bid.consumer, Account())
    accounts[bid.bid.consumer] = replace(consumer, free=consumer.free - proposal.terms.deposit)


def ranked(bid: StandingBid, offers: Sequence[StandingOffer], facts: Facts) -> list[Proposal]:
    """The feasible offers for one bid, cheapest first."""
    found = []
    for offer in offers:
        terms = terms_of(bid, offer)
        if feasible(bid, offer, terms, facts):
            found.append(Proposal(bid, offer, terms))
    return sorted(found, key=lambda proposal: (proposal.terms.rate, _tie(proposal.offer.id, facts.seed)))


def _tie(id_: bytes, seed: bytes) -> int:
    return int.from_bytes(id_, "big") ^ int.from_bytes(seed, "big")


def _surplus(best: Proposal) -> int:
    """Declared surplus of a bid with its best offer: what it would pay beyond the ask, over the lease's length."""
    return (best.bid.bid.max_rate - best.terms.rate) * best.terms.seconds


class CheapestFirst:
    """Largest declared surplus first; each bid takes its cheapest offer that is still feasible."""

    name = "cheapest-first"
    version = "1"

    def clear(self, bids: Sequence[StandingBid], offers: Sequence[StandingOffer], facts: Facts) -> Clearing:
        """Proposals that are feasible one after the other, and the bids that are left."""
        choices = {bid.id: ranked(bid, offers, facts) for bid in bids}
        wanting = [bid for bid in bids if choices[bid.id]]
        wanting.sort(key=lambda bid: (-_surplus(choices[bid.id][0]), _tie(bid.id, facts.seed)))
        accounts = dict(facts.accounts)
        proposals: list[Proposal] = []
        seats: set[tuple[str, bytes]] = set()
        now = replace(facts, accounts=accounts)
        for bid in wanting:
            seat = (bid.bid.consumer, bid.bid.seat)
            choice = next((p for p in choices[bid.id] if feasible(bid, p.offer, p.terms, now)), None)
            if choice is not None and seat not in seats:
                reserve(accounts, choice)
                seats.add(seat)
                proposals.append(choice)
        matched = {proposal.bid.id for proposal in proposals}
        left = sorted(bid.id for bid in bids if bid.id not in matched)
        return Clearing(tuple(proposals), tuple(left))


def contested(bids: Sequence[StandingBid], offers: Sequence[StandingOffer], facts: Facts) -> frozenset[bytes]:
    """The bids that compete: some account that would serve them cannot serve all who could want it.

    A bid that no offer serves competes for nothing. Alternatives of one seat, and bids of one consumer whose money
    does not suffice for all of them, compete with each other.
    """
    if len(bids) < 2:
        return frozenset()
    choices = {bid.id: ranked(bid, offers, facts) for bid in bids}
    providers = _demand(choices)
    tight = {address for address, wants in providers.items() if not _suffices(address, wants, facts)}
    return frozenset(
        bid.id
        for bid in bids
        if any(p.offer.offer.provider in tight for p in choices[bid.id]) or _crowded(bid, bids, choices, facts)
    )


def _demand(choices: dict[bytes, list[Proposal]]) -> dict[str, dict[bytes, Proposal]]:
    """For each provider: the bids that it could serve, each with the dearest of its proposals there."""
    wants: dict[str, dict[bytes, Proposal]] = {}
    for proposals in choices.values():
        for proposal in proposals:
            wants.setdefault(proposal.offer.offer.provider, {})[proposal.bid.id] = proposal
    return wants


def _suffices(provider: str, wants: dict[bytes, Proposal], facts: Facts) -> bool:
    account = facts.account(provider)
    need = sum((p.bid.need for p in wants.values()), Lanes()) + account.used
    bonds = sum(p.terms.bond for p in wants.values())
    return bonds <= account.free and all(p.offer.capacity.covers(need) for p in wants.values())


def _crowded(bid: StandingBid, bids: Sequence[StandingBid], choices: dict[bytes, list[Proposal]], facts: Facts) -> bool:
    own = [other for other in bids if other.bid.consumer == bid.bid.consumer and choices[other.id]]
    if len(own) < 2 or not choices[bid.id]:
        return False
    dearest = sum(max(p.terms.deposit for p in choices[other.id]) for other in own)
    same_seat = sum(other.bid.seat == bid.bid.seat for other in own) > 1
    return same_seat or dearest > facts.account(bid.bid.consumer).free
