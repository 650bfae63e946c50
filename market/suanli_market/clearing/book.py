"""The book: open offers, waiting bids and pending matches, folded from changes in the order of the log. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from suanli_market.clearing.conditions import Facts, StandingBid, StandingOffer
from suanli_market.clearing.matching import Proposal, reserve
from suanli_protocol.lease import Account


@dataclass(frozen=True, slots=True)
class Entered:
    """A paper was admitted."""

    paper: StandingOffer | StandingBid


@dataclass(frozen=True, slots=True)
class Left:
    """A paper is no longer open: withdrawn, expired, dead by counter, or leased."""

    id: bytes


@dataclass(frozen=True, slots=True)
class Proposed:
    """A round matched a bid; it is pending until the chain opens or refuses it."""

    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Opened:
    """The chain opened the bid's lease: bid and pending match leave, the account's chain facts now carry it."""

    bid: bytes


@dataclass(frozen=True, slots=True)
class Returned:
    """The chain did not open the match: the bid waits again at its old place."""

    bid: bytes


Change = Entered | Left | Proposed | Opened | Returned


@dataclass(frozen=True, slots=True)
class View:
    """The book at one moment: what is open, what waits, the facts to judge by, the line of the log it stands at."""

    offers: tuple[StandingOffer, ...]
    waiting: tuple[StandingBid, ...]
    facts: Facts
    last_seq: int = 0

    def seeded(self, seed: bytes) -> View:
        """The same with a round's seed."""
        return replace(self, facts=replace(self.facts, seed=seed))


@dataclass
class Book:
    """Insertion-ordered by admission; the holder of the book serialises changes."""

    offers: dict[bytes, StandingOffer] = field(default_factory=dict)
    bids: dict[bytes, StandingBid] = field(default_factory=dict)
    pending: dict[bytes, Proposal] = field(default_factory=dict)
    by_party: Counter[str] = field(default_factory=Counter)

    def apply(self, change: Change) -> None:
        """Folds one change in. Changes about papers that are not there change nothing."""
        match change:
            case Entered(paper):
                self._add(paper)
            case Left(id_):
                self._remove(id_)
            case Proposed(proposal):
                self.pending[proposal.bid.id] = proposal
            case Opened(bid_id):
                self.pending.pop(bid_id, None)
                self._remove(bid_id)
            case Returned(bid_id):
                self.pending.pop(bid_id, None)
            case _:
                assert_never(change)

    def _add(self, paper: StandingOffer | StandingBid) -> None:
        match paper:
            case StandingOffer():
                self.offers[paper.id] = paper
                self.by_party[paper.offer.provider] += 1
            case StandingBid():
                self.bids[paper.id] = paper
                self.by_party[paper.bid.consumer] += 1
            case _:
                assert_never(paper)

    def _remove(self, id_: bytes) -> None:
        offer, bid = self.offers.pop(id_, None), self.bids.pop(id_, None)
        if offer is not None:
            self.by_party[offer.offer.provider] -= 1
        if bid is not None:
            self.by_party[bid.bid.consumer] -= 1

    def count(self, party: str) -> tuple[int, int]:
        """How many papers are open: by the party, in all."""
        return self.by_party[party], len(self.offers) + len(self.bids)

    def waiting(self) -> tuple[StandingBid, ...]:
        """The bids that no pending match takes, nor another bid of their seat, by their place in the log."""
        taken = {(p.bid.bid.consumer, p.bid.bid.seat) for p in self.pending.values()}
        free = (bid for bid in self.bids.values() if (bid.bid.consumer, bid.bid.seat) not in taken)
        return tuple(sorted(free, key=lambda bid: bid.seq))

    def standing(self) -> tuple[StandingOffer, ...]:
        """The open offers."""
        return tuple(self.offers.values())

    def expired(self, now: int) -> tuple[list[bytes], list[bytes]]:
        """The offers and the bids (but pending ones) whose time is over."""
        offers = [offer.id for offer in self.offers.values() if offer.offer.valid_until <= now]
        bids = [bid.id for bid in self.bids.values() if bid.bid.valid_until <= now and bid.id not in self.pending]
        return offers, bids

    def less_pending(self, accounts: Mapping[str, Account]) -> dict[str, Account]:
        """Chain facts less what pending matches will lock."""
        left = dict(accounts)
        for proposal in self.pending.values():
            reserve(left, proposal)
        return left

    def parties(self) -> set[str]:
        """All accounts that matter to the book."""
        return {o.offer.provider for o in self.offers.values()} | {b.bid.consumer for b in self.bids.values()}
