"""Book and tables change together, whatever is written while the book is loaded anew after a reorganisation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from suanli_market.admission.submissions import Withdrawal
from suanli_market.bootstrap import load_book
from suanli_market.clearing.matching import CheapestFirst
from suanli_market.clearing.rounds import Rounds
from suanli_market.store import follow
from suanli_market.tables import BidRow, MatchRow
from suanli_protocol import wire
from support.builders import a_seat, consumer, market
from support.market_desk import Desk, a_bid_paper, a_desk, an_offer_paper

SLOW_S = 0.3  # longer than what runs beside it would take


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with a_desk(tmp_path, monkeypatch) as made:
        yield made


def some_rounds(desk: Desk) -> Rounds:
    return Rounds(
        desk.store, desk.keeper, CheapestFirst(), market=market().address, round_ms=0, decimals=6, symbol="DEVC",
        on_match=lambda: None,
    )  # fmt: skip


def load_while(desk: Desk, meanwhile: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads the book; between its look at the tables and the new book something else is tried."""
    beside = threading.Thread(target=meanwhile)
    replace = desk.keeper.replace

    def slowly(*arguments: Any, **named: Any) -> None:
        beside.start()
        beside.join(SLOW_S)
        replace(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(desk.keeper, "replace", slowly)
        load_book(desk.store, desk.keeper)
    beside.join()


def waiting(desk: Desk) -> set[str]:
    return {wire.to_hex(bid.id) for bid in desk.keeper.view().waiting}


def in_the_tables(desk: Desk) -> set[str]:
    with desk.store.read() as session:
        return set(session.exec(select(BidRow.id).where(BidRow.state == "queued")))


def test_a_bid_that_is_admitted_meanwhile_is_in_the_new_book(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    load_while(desk, lambda: desk.submit(a_bid_paper()), monkeypatch)
    assert waiting(desk) == in_the_tables(desk) == {wire.to_hex(a_bid_paper().id)}


def test_a_bid_that_is_withdrawn_meanwhile_does_not_come_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bid = a_bid_paper()
    desk.submit(bid)
    load_while(desk, lambda: desk.submit(Withdrawal("bid", bid.id, consumer().address)), monkeypatch)
    assert waiting(desk) == in_the_tables(desk) == set()


def test_a_match_that_is_made_meanwhile_is_pending_in_the_new_book(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.submit(an_offer_paper(), a_bid_paper())
    rounds = some_rounds(desk)
    load_while(desk, rounds.step, monkeypatch)
    with desk.store.read() as session:
        assert session.exec(select(BidRow.state)).one() == "matched"
    assert waiting(desk) == set()
    assert desk.keeper.idle()


def test_a_match_of_a_bid_that_left_keeps_no_market_from_starting(desk: Desk) -> None:
    desk.submit(an_offer_paper(), a_bid_paper())
    some_rounds(desk).step()
    with desk.store.write() as session:
        session.exec(select(BidRow)).one().state = "leased"
    load_book(desk.store, desk.keeper)
    assert waiting(desk) == set()


def test_a_book_that_has_a_bid_too_many_goes_on_without_it(desk: Desk) -> None:
    desk.submit(an_offer_paper(), a_bid_paper(), a_bid_paper(seat=a_seat(1)))
    with desk.store.write() as session:
        session.get_one(BidRow, wire.to_hex(a_bid_paper().id)).state = "withdrawn"
    rounds = some_rounds(desk)
    rounds.step()
    rounds.step()
    with desk.store.read() as session:
        assert session.exec(select(MatchRow.bid)).all() == [wire.to_hex(a_bid_paper(seat=a_seat(1)).id)]


def test_what_follows_a_commit_does_not_follow_one_that_failed(desk: Desk) -> None:
    followed: list[int] = []
    with desk.store.write() as session:
        follow(session, lambda: followed.append(1))

    def fail() -> None:
        with desk.store.write() as session:
            follow(session, lambda: followed.append(2))
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert followed == [1]
