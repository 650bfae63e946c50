"""Room in the book: each account's by its free money, so that nobody fills it for a coin; a full book loses the papers
of those who have least behind each.
"""

from __future__ import annotations

import time

from suanli_market.admission.checks import Doubt, MarketTerms
from suanli_market.clearing.keeper import Keeper
from suanli_protocol.lease import Account
from suanli_protocol.log import ReasonCode

PAPERS_MAX = 200_000
PAPERS_PER_PARTY_MAX = 2_000
PAPERS_PER_PARTY_LEAST = 20  # also of an account whose money is all locked in leases
LEAVING_MAX = 500  # papers that leave a full book at once: looking for them costs a pass over it
LOOK_S = 1.0  # until a look that found nothing is worth another


class Crowding:
    """Of the admission thread alone: says whether a paper has room, and which ones leave for it."""

    def __init__(self, keeper: Keeper, terms: MarketTerms) -> None:
        self._keeper, self._terms = keeper, terms
        self._leaving: list[bytes] = []
        self._places = 0  # that those who leave give, and nobody took yet
        self._in_vain = (0.0, -1)  # until when, and up to which worth, nobody stands below

    def begin(self) -> None:
        """A group of papers is to be judged."""
        self._leaving, self._places = [], 0

    def leaving(self) -> list[bytes]:
        """The papers that make room for the group."""
        return self._leaving

    def doubt(self, party: str, account: Account) -> Doubt | None:
        """What speaks against one more paper of the party."""
        own, total = self._keeper.count(party)
        room = min(PAPERS_PER_PARTY_MAX, PAPERS_PER_PARTY_LEAST + account.free // self._terms.paper_money)
        if own >= room:
            detail = f"account {party} has {own} open papers; with {account.free} base units free it may have {room}"
            return Doubt(ReasonCode.BOOK_FULL, detail, "withdraw some, wait until some expire, or deposit more")
        if total >= PAPERS_MAX and not self._finds_place(account.free // (own + 1)):
            detail = f"the book is full ({total} papers), and no account has less money for each of its papers"
            return Doubt(ReasonCode.BOOK_FULL, detail, "deposit more, or wait until some expire")
        return None

    def _finds_place(self, worth: int) -> bool:
        """Whether papers with less money behind each leave for one with this much (base units)."""
        if not self._places:
            until, in_vain = self._in_vain
            if worth <= in_vain and time.monotonic() < until:
                return False
            self._keeper.view()  # brings the accounts of the book
            found = [id_ for id_ in self._keeper.least_worth(LEAVING_MAX, worth) if id_ not in set(self._leaving)]
            if not found:
                self._in_vain = time.monotonic() + LOOK_S, worth
                return False
            self._leaving += found
            self._places = len(found)
        self._places -= 1
        return True
