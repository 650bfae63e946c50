"""The book: open offers, waiting bids and pending matches, folded from changes in the order of the log. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from heapq import nsmallest
from itertools import chain
from typing import assert_never

from suanli_market.clearing.conditions import Facts, StandingBid, StandingOffer
from suanli_market.clearing.entry import Entry
from suanli_market.clearing.index import Index
from suanli_market.clearing.matching import Proposal, reserve
from suanli_market.clearing.overlay import EMPTY, Ledger
from suanli_protocol.lease import Account

BEHIND_MAX = 1_000  # changes that the index may lack; a look makes them good in some milliseconds


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
    """The book at one moment: what is open, what waits, the facts to judge by, the line of the log and the block of
    the chain that it stands at.
    """

    offers: Index
    waiting: tuple[StandingBid, ...]
    facts: Facts
    last_seq: int = 0
    block: int = 0
    block_hash: bytes = bytes(32)

    def seeded(self, seed: bytes) -> View:
        """The same with a round's seed."""
        return replace(self, facts=replace(self.facts, seed=seed))


@dataclass
class Book:
    """Papers, pending matches, and the accounts behind them; the holder of the book serialises changes.

    The index follows when somebody looks, or when it is far behind: many changes at once cost it far less each. An
    account's change comes with `settle`: until then the account is stale, and a view would be wrong.
    """

    offers: dict[bytes, Entry] = field(default_factory=dict)
    bids: dict[bytes, StandingBid] = field(default_factory=dict)
    pending: dict[bytes, Proposal] = field(default_factory=dict)
    by_party: Counter[str] = field(default_factory=Counter)
    stale: set[str] = field(default_factory=set)  # accounts of the book to be brought by `settle`
    _index: Index = field(default_factory=Index)
    _behind: dict[bytes, Entry | None] = field(default_factory=dict)  # offers whose change it has not: as it has them
    _accounts: Ledger = field(default_factory=Ledger)
    _of_provider: dict[str, set[bytes]] = field(default_factory=dict)

    def apply(self, change: Change) -> None:
        """Folds one change in. Changes about papers that are not there change nothing."""
        self.apply_all((change,))

    def apply_all(self, changes: Iterable[Change]) -> None:
        """Folds changes in."""
        for change in changes:
            self._apply(change)
        if len(self._behind) > BEHIND_MAX:
            self._catch_up()

    @property
    def index(self) -> Index:
        """The open offers as they are now."""
        self._catch_up()
        return self._index

    def _catch_up(self) -> None:
        leave = [entry for entry in self._behind.values() if entry is not None]
        stand = [self.offers[id_] for id_ in self._behind if id_ in self.offers]
        self._index = self._index.changed(leave=leave, stand=stand)
        self._behind = {}

    def _apply(self, change: Change) -> None:
        match change:
            case Entered(paper):
                self._add(paper)
            case Left(id_):
                self._remove(id_)
            case Proposed(proposal):
                self.pending[proposal.bid.id] = proposal
                self._touch(proposal)
            case Opened(bid_id):
                self._touch(self.pending.pop(bid_id, None))
                self._remove(bid_id)
            case Returned(bid_id):
                self._touch(self.pending.pop(bid_id, None))
            case _:
                assert_never(change)

    def _add(self, paper: StandingOffer | StandingBid) -> None:
        match paper:
            case StandingOffer():
                provider = paper.offer.provider
                self._behind.setdefault(paper.id, self.offers.get(paper.id))
                if paper.id not in self.offers:
                    self.by_party[provider] += 1
                self.stale.add(provider)
                self._of_provider.setdefault(provider, set()).add(paper.id)
                self.offers[paper.id] = Entry.of(paper, self._accounts[provider])
            case StandingBid():
                if paper.id not in self.bids:
                    self.by_party[paper.bid.consumer] += 1
                self.bids[paper.id] = paper
                self.stale.add(paper.bid.consumer)
            case _:
                assert_never(paper)

    def _remove(self, id_: bytes) -> None:
        entry, bid = self.offers.pop(id_, None), self.bids.pop(id_, None)
        if bid is not None:
            self._leave(bid.bid.consumer)
        if entry is None:
            return
        self._behind.setdefault(id_, entry)
        provider = entry.offer.offer.provider
        self._of_provider[provider].discard(id_)
        self._leave(provider)

    def _leave(self, party: str) -> None:
        self.by_party[party] -= 1
        if not self.by_party[party]:
            del self.by_party[party]
            self._of_provider.pop(party, None)
            self.stale.add(party)  # to be forgotten

    def _touch(self, proposal: Proposal | None) -> None:
        if proposal is not None:
            self.touch((proposal.offer.offer.provider, proposal.bid.bid.consumer))

    def touch(self, parties: Iterable[str] | None) -> None:
        """The chain's facts of these accounts (None: of all) may have changed."""
        self.stale |= set(self.by_party) if parties is None else {party for party in parties if party in self.by_party}

    def settle(self, accounts: Mapping[str, Account]) -> None:
        """Brings the chain's facts of some accounts, less what pending matches will lock."""
        left = self.less_pending(accounts)
        known = {address: account if address in self.by_party else EMPTY for address, account in left.items()}
        news = {address: account for address, account in known.items() if account != self._accounts[address]}
        self._accounts.update(news)
        self._follow(news)
        self.stale.difference_update(left)
        if not self.stale:
            self.stale = set()  # an emptied set is as slow to walk as when it was full

    def _follow(self, news: Mapping[str, Account]) -> None:
        """Has the index show these accounts' offers as the accounts are now."""
        for address, account in news.items():
            for id_ in self._of_provider.get(address, ()):
                self._behind.setdefault(id_, self.offers[id_])
                self.offers[id_] = self.offers[id_].given(account)

    def accounts(self, others: Mapping[str, Account]) -> Mapping[str, Account]:
        """The accounts of the book and (by the chain) others, less what pending matches will lock; it stays so."""
        return self._accounts.view(self.less_pending(others))

    def count(self, party: str) -> tuple[int, int]:
        """How many papers are open: by the party, in all."""
        return self.by_party[party], len(self.offers) + len(self.bids)

    def least_worth(self, count: int, below: int) -> list[bytes]:
        """The papers with the least free money of their account for each, less than `below`; of equals the oldest.

        A bid that is being opened is none of them. The accounts are those of the last `settle`.
        """
        worth = {party: self._accounts[party].free // papers for party, papers in self.by_party.items()}
        offers = (((worth[e.offer.offer.provider], e.offer.seq), id_) for id_, e in self.offers.items())
        bids = (((worth[bid.bid.consumer], bid.seq), id_) for id_, bid in self.bids.items() if id_ not in self.pending)
        least = nsmallest(count, (entry for entry in chain(offers, bids) if entry[0][0] < below))
        return [id_ for _, id_ in least]

    def waiting(self) -> tuple[StandingBid, ...]:
        """The bids that no pending match takes, nor another bid of their seat, by their place in the log."""
        taken = {(p.bid.bid.consumer, p.bid.bid.seat) for p in self.pending.values()}
        free = (bid for bid in self.bids.values() if (bid.bid.consumer, bid.bid.seat) not in taken)
        return tuple(sorted(free, key=lambda bid: bid.seq))

    def expired(self, now: int) -> tuple[list[bytes], list[bytes]]:
        """The offers and the bids (but pending ones) whose time is over."""
        offers = [id_ for id_, entry in self.offers.items() if entry.offer.offer.valid_until <= now]
        bids = [bid.id for bid in self.bids.values() if bid.leaves_at <= now and bid.id not in self.pending]
        return offers, bids

    def less_pending(self, accounts: Mapping[str, Account]) -> dict[str, Account]:
        """The chain's facts of these accounts, less what pending matches will lock."""
        left = dict(accounts)
        for proposal in self.pending.values():
            if proposal.offer.offer.provider in accounts or proposal.bid.bid.consumer in accounts:
                reserve(left, proposal)
        return {address: left[address] for address in accounts}

    def parties(self) -> set[str]:
        """All accounts that matter to the book."""
        return set(self.by_party)
