"""The market's admission over a real database, with accounts that a test sets instead of a chain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from suanli_market.admission import checks
from suanli_market.admission.desk import Admission
from suanli_market.admission.log import AdmissionLog
from suanli_market.admission.papers import BidPaper, OfferPaper
from suanli_market.admission.submissions import Submission
from suanli_market.clearing.keeper import Keeper
from suanli_market.store import Store
from suanli_protocol.documents import documents_digest
from suanli_protocol.escrow import Block
from suanli_protocol.lease import Account
from suanli_protocol.signing import Signer, struct_hash
from support.builders import (
    CREDIT,
    NOW,
    a_bid,
    a_domain,
    a_job,
    an_offer,
    consumer,
    market,
    provider,
    some_attributes,
    some_constraints,
)


class KnownAccounts:
    """Accounts without a chain: what a test says."""

    def __init__(self) -> None:
        self.held: dict[str, Account] = {}
        self.asked: list[set[str]] = []

    def get(self, addresses: Any) -> dict[str, Account]:
        """The test's accounts; unknown ones are empty."""
        self.asked += [set(addresses)] if addresses else []
        return {address: self.held.get(address, Account()) for address in addresses}

    def advance(self, block: int, touched: Any, read: Any = None) -> None:
        """Nothing is kept."""


class Desk:
    """An admission over known accounts, at a fixed time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.accounts = KnownAccounts()
        self.accounts.held = {
            provider().address: Account(free=100 * CREDIT),
            consumer().address: Account(free=100 * CREDIT),
        }
        self.caught_up = 0
        self.keeper = Keeper(self.accounts, market().address)  # type: ignore[arg-type]
        self.keeper.advance(Block(1, b"\x01" * 32, bytes(32), NOW, 0), None, [])
        terms = checks.MarketTerms(market().address, a_domain(), 50, 0, 10)
        log = AdmissionLog(market(), a_domain())
        self.admission = Admission(store, self.keeper, log, terms, catch_up=self.catch_up)
        self.admission.start()

    def catch_up(self) -> None:
        self.caught_up += 1

    def submit(self, *submissions: Submission) -> list[Any]:
        """The outcomes, in order; all wait together."""

        async def run() -> list[Any]:
            return await asyncio.gather(*map(self.admission.submit, submissions), return_exceptions=True)

        return asyncio.run(run())


def an_offer_paper(signer: Signer | None = None, **fields: Any) -> OfferPaper:
    paper = an_offer(**fields)
    signature = (signer or provider()).sign(a_domain(), paper)
    attributes = some_attributes()
    return OfferPaper(struct_hash(paper), paper, signature, attributes, attributes.canonical())


def a_bid_paper(**fields: Any) -> BidPaper:
    job, constraints = a_job(), some_constraints()
    paper = a_bid(**{"documents": documents_digest(job.digest(), constraints.digest()), **fields})
    signature = consumer().sign(a_domain(), paper)
    return BidPaper(struct_hash(paper), paper, signature, constraints, job.digest())


@contextmanager
def a_desk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk over a new database, while the market's clock stands at NOW."""
    monkeypatch.setattr("suanli_market.clearing.keeper.time.time", lambda: float(NOW))
    store = Store(folder)
    store.migrate()
    made = Desk(store)
    yield made
    made.admission.stop()
    store.close()
