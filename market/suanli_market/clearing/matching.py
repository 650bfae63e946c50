"""Matching: which bid gets which offer. Pure: integers in, integers out, the same in every order of the input.

`CheapestFirst` serves bids in the order of their declared surplus and gives each its cheapest feasible offer. The rate
of a match is the offer's own ask. Ties are broken by struct hash XOR the round's seed, which nobody chose: neither
arriving first nor picking a name helps. `reference` says the same without an index.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from suanli_market.clearing.conditions import (
    Condition,
    Facts,
    StandingBid,
    StandingOffer,
    Terms,
    failures,
)
from suanli_market.clearing.entry import Entry
from suanli_market.clearing.index import Index
from suanli_market.clearing.overlay import Overlay
from suanli_market.clearing.search import Hit, cheapest
from suanli_protocol.lease import Account

Kind = tuple[object, ...]  # of bids: see StandingBid.kind


@dataclass(frozen=True, slots=True)
class Proposal:
    """This bid on that offer; unsigned, and nothing until the escrow opens it."""

    bid: StandingBid
    offer: StandingOffer
    terms: Terms
    index: int = 0


@dataclass(slots=True)
class Rivalry:
    """Who was denied its first choice, and the accounts and seats where that happened."""

    bids: set[bytes] = field(default_factory=set)
    providers: set[str] = field(default_factory=set)
    consumers: set[str] = field(default_factory=set)
    seats: set[tuple[str, bytes]] = field(default_factory=set)

    def denied(self, first: Proposal, why: Iterable[Condition]) -> None:
        """A bid found its first choice taken; `why` are the conditions that fail there by now."""
        reasons = set(why)
        self.bids.add(first.bid.id)
        if Condition.CONSUMER_FUNDS in reasons:
            self.consumers.add(first.bid.bid.consumer)
        if reasons - {Condition.CONSUMER_FUNDS}:
            self.providers.add(first.offer.offer.provider)

    def denied_seat(self, bid: StandingBid) -> None:
        """Another bid of its seat was matched."""
        self.bids.add(bid.id)
        self.seats.add((bid.bid.consumer, bid.bid.seat))

    def holds(self, proposal: Proposal) -> bool:
        """Whether the proposal takes what another bid was denied, or is a denied bid's second choice."""
        bid = proposal.bid.bid
        return (
            proposal.bid.id in self.bids
            or proposal.offer.offer.provider in self.providers
            or bid.consumer in self.consumers
            or (bid.consumer, bid.seat) in self.seats
        )


@dataclass(frozen=True, slots=True)
class Clearing:
    """The outcome of one round.

    The competing bids are those that were denied their first choice and those that hold what was denied. Without them
    the others get the same, and they get the same after the others: so bids that do not compete need not wait.
    """

    proposals: tuple[Proposal, ...]
    unmatched: tuple[bytes, ...]  # struct hashes of bids
    competing: frozenset[bytes] = frozenset()  # struct hashes of bids, matched or not

    @classmethod
    def of(cls, bids: Sequence[StandingBid], proposals: Sequence[Proposal], rivalry: Rivalry) -> Clearing:
        """The outcome of matching these bids."""
        matched = {proposal.bid.id for proposal in proposals}
        left = sorted(bid.id for bid in bids if bid.id not in matched)
        holders = (proposal.bid.id for proposal in proposals if rivalry.holds(proposal))
        return cls(tuple(proposals), tuple(left), frozenset(rivalry.bids).union(holders))

    def without(self, bids: Collection[bytes]) -> Clearing:
        """The same, as if these bids had not been there."""
        kept = tuple(proposal for proposal in self.proposals if proposal.bid.id not in bids)
        return Clearing(kept, tuple(bid for bid in self.unmatched if bid not in bids), self.competing.difference(bids))


class Policy(Protocol):
    """The seam for engines: a name and a version that a round states, and one pure function."""

    name: str
    version: str

    def clear(self, bids: Sequence[StandingBid], offers: Index, facts: Facts) -> Clearing:
        """Proposals that are feasible one after the other, and the bids that are left."""
        ...


def reserve(accounts: MutableMapping[str, Account], proposal: Proposal) -> None:
    """Takes what the proposal would lock: capacity and bond of the provider, deposit of the consumer."""
    bid, offer = proposal.bid, proposal.offer
    provider = accounts.get(offer.offer.provider, Account())
    accounts[offer.offer.provider] = replace(
        provider, free=provider.free - proposal.terms.bond, used=provider.used + bid.need
    )
    consumer = accounts.get(bid.bid.consumer, Account())
    accounts[bid.bid.consumer] = replace(consumer, free=consumer.free - proposal.terms.deposit)


def tie(id_: bytes, seed: bytes) -> int:
    """What orders equals."""
    return int.from_bytes(id_, "big") ^ int.from_bytes(seed, "big")


def by_surplus(firsts: Iterable[Proposal], seed: bytes) -> list[Proposal]:
    """Bids with their best offers, the largest declared surplus first.

    Declared surplus is what a bid would pay beyond the ask, over the lease's length.
    """

    def surplus(best: Proposal) -> int:
        return (best.bid.bid.max_rate - best.terms.rate) * best.terms.seconds

    return sorted(firsts, key=lambda first: (-surplus(first), tie(first.bid.id, seed)))


class CheapestFirst:
    """Largest declared surplus first; each bid takes its cheapest offer that is still feasible."""

    name = "cheapest-first"
    version = "1"

    def clear(self, bids: Sequence[StandingBid], offers: Index, facts: Facts) -> Clearing:
        """Proposals that are feasible one after the other, and the bids that are left."""
        found: dict[Kind, Hit | None] = {}
        hits: dict[bytes, tuple[Kind, Hit]] = {}
        firsts: list[Proposal] = []
        for bid in bids:
            kind = bid.kind
            if kind not in found:
                found[kind] = cheapest(bid, offers, facts)
            hit = found[kind]
            if hit is not None:
                hits[bid.id] = kind, hit
                firsts.append(Proposal(bid, hit.entry.offer, hit.terms))
        table = _Table(offers, facts)
        rivalry = Rivalry()
        for first in by_surplus(firsts, facts.seed):
            table.serve(first, *hits[first.bid.id], rivalry)
        return Clearing.of(bids, table.proposals, rivalry)


class _Table:
    """A clearing under way: what is matched, and offers and accounts less that."""

    def __init__(self, offers: Index, facts: Facts) -> None:
        self.proposals: list[Proposal] = []
        self._offers = offers
        self._accounts = Overlay(facts.accounts)
        self._now = replace(facts, accounts=self._accounts)
        self._seats: set[tuple[str, bytes]] = set()
        self._moved: dict[int, Entry] = {}  # entries that stand in place of the round's, by offer
        self._outdated: dict[int, Entry] = {}  # entries that flatter: their accounts have less by now
        self._why: dict[
            Kind, tuple[int, tuple[Condition, ...]]
        ] = {}  # what fails at the first choice, at so many taken
        self._unserved: set[Kind] = set()  # for whom nothing is left; nothing comes back within a clearing

    def serve(self, first: Proposal, kind: Kind, hit: Hit, rivalry: Rivalry) -> None:
        """Gives the bid its first choice, or else the cheapest offer that is left."""
        bid = first.bid
        seat = (bid.bid.consumer, bid.bid.seat)
        if seat in self._seats:
            rivalry.denied_seat(bid)
            return
        choice: Hit | None = hit
        if why := self._failures(first, kind):
            rivalry.denied(first, why)
            choice = self._next(bid, kind)
        if choice is not None:
            self._take(Proposal(bid, choice.entry.offer, choice.terms), choice.entry)
            self._seats.add(seat)

    def _failures(self, first: Proposal, kind: Kind) -> tuple[Condition, ...]:
        taken, why = self._why.get(kind, (-1, ()))
        if taken != len(self.proposals):
            why = tuple(failures(first.bid, first.offer, first.terms, self._now))
            self._why[kind] = len(self.proposals), why
        return why

    def _next(self, bid: StandingBid, kind: Kind) -> Hit | None:
        if kind in self._unserved:
            return None
        leave = [self._moved.get(id_, entry) for id_, entry in self._outdated.items()]
        stand = [entry.given(self._now.account(entry.offer.offer.provider)) for entry in leave]
        self._moved.update((entry.id, entry) for entry in stand)
        self._offers = self._offers.changed(leave=leave, stand=stand)
        misses: list[Entry] = []
        found = cheapest(bid, self._offers, self._now, misses=misses)
        self._outdated = {entry.id: entry for entry in misses}
        if found is None:
            self._unserved.add(kind)
        return found

    def _take(self, proposal: Proposal, entry: Entry) -> None:
        reserve(self._accounts, proposal)
        self._outdated[entry.id] = entry
        self.proposals.append(proposal)
