"""A sender's refusals are counted: a flood of bad papers does not fill the log, and nobody else pays for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func
from sqlmodel import select

from suanli_market.admission.refusals import BURST, Refusals, TooManyRefusedError
from suanli_market.admission.submissions import RefusedError
from suanli_market.store import Store
from suanli_market.tables import EntryRow
from support.builders import NOW
from support.market_desk import Desk, a_bid_paper, an_offer_paper


def test_a_bucket_empties_and_fills_again_by_time() -> None:
    refusals = Refusals(burst=3, per_second=0.5)
    assert [refusals.take("10.0.0.1", 100.0) for _ in range(4)] == [True, True, True, False]
    assert not refusals.take("10.0.0.1", 101.9)
    assert refusals.take("10.0.0.1", 102.0)
    assert not refusals.take("10.0.0.1", 102.0)
    assert [refusals.take("10.0.0.1", 10_000.0) for _ in range(4)] == [True, True, True, False]


def test_a_sender_is_an_address_or_an_ipv6_network() -> None:
    refusals = Refusals(burst=1)
    assert refusals.take("10.0.0.1", 0.0)
    assert refusals.take("10.0.0.2", 0.0)
    assert refusals.take("2001:db8::1", 0.0)
    assert not refusals.take("2001:db8::ffff:1", 0.0)
    assert refusals.take("2001:db8:0:1::1", 0.0)
    assert refusals.take("", 0.0)
    assert not refusals.take("", 0.0)


def test_the_senders_are_bounded() -> None:
    refusals = Refusals(burst=1, senders_max=2)
    assert all(refusals.take(f"10.0.0.{n}", 0.0) for n in range(3))
    assert not refusals.take("10.0.0.2", 0.0)
    assert refusals.take("10.0.0.0", 0.0)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr("suanli_market.clearing.keeper.time.time", lambda: float(NOW))
    monkeypatch.setattr("suanli_market.admission.desk.time.monotonic", lambda: 0.0)
    store = Store(tmp_path)
    store.migrate()
    made = Desk(store)
    yield made
    made.admission.stop()
    store.close()


def lines(desk: Desk) -> int:
    with desk.store.read() as session:
        return session.exec(select(func.count()).select_from(EntryRow)).one()


def submit(desk: Desk, sender: str, *papers: Any) -> list[Any]:
    async def run() -> list[Any]:
        waiting = [desk.admission.submit(paper, sender) for paper in papers]
        return await asyncio.gather(*waiting, return_exceptions=True)

    return asyncio.run(run())


def test_beyond_the_limit_refusals_are_answered_but_not_logged(desk: Desk) -> None:
    bad = [an_offer_paper(counter=7, max_seconds=n + 100) for n in range(BURST + 20)]
    answers = submit(desk, "10.0.0.1", *bad)
    assert sum(isinstance(answer, RefusedError) for answer in answers) == BURST
    refused = [answer for answer in answers if isinstance(answer, TooManyRefusedError)]
    assert len(refused) == 20
    assert "counter" in refused[0].detail
    assert lines(desk) == BURST
    assert isinstance(submit(desk, "10.0.0.1", bad[0])[0], RefusedError), "what is in the log already costs nothing"
    assert isinstance(submit(desk, "10.0.0.1", an_offer_paper())[0], dict), "a good paper is admitted all the same"
    assert isinstance(submit(desk, "10.0.0.2", a_bid_paper(counter=7))[0], RefusedError)
    assert lines(desk) == BURST + 2
