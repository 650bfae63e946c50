"""Admission's own bookkeeping over a real database: the chained log, its proofs, what is answered from the past."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from suanli_market.admission import crowding
from suanli_market.admission.log import AdmissionLog, Line, acknowledgements, tip_of
from suanli_market.admission.papers import OfferPaper
from suanli_market.admission.submissions import RefusedError, Withdrawal
from suanli_market.store import Store
from suanli_market.tables import BidRow, EntryRow, EventRow, HeadRow, OfferRow
from suanli_protocol import wire
from suanli_protocol.errors import FundsError, MarketError, NotFoundError, SignatureError
from suanli_protocol.lease import Account
from suanli_protocol.log import GENESIS_HEAD, EntryKind, ReasonCode, verify_acknowledgement
from suanli_protocol.signing import Signer
from support.builders import (
    CREDIT,
    NOW,
    a_domain,
    a_seat,
    a_signer,
    consumer,
    market,
    provider,
)
from support.market_desk import Desk, a_bid_paper, an_offer_paper


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def desk(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr("suanli_market.clearing.keeper.time.time", lambda: float(NOW))
    made = Desk(store)
    yield made
    made.admission.stop()


def entry_of(answer: wire.Json) -> Any:
    return verify_acknowledgement(wire.Acknowledgement.model_validate(answer), a_domain(), market().address)


def test_group_commits_are_chained_and_each_entry_is_proven(store: Store) -> None:
    log = AdmissionLog(market(), a_domain())
    for size in (1, 2, 5):
        with store.write() as session:
            lines = [Line(EntryKind.OFFER, bytes([size, i]) * 16) for i in range(size)]
            _, acks = log.append(session, tip_of(session), lines, 1_000 + size)
        assert [entry_of(ack).paper for ack in acks] == [line.paper for line in lines]
    with store.read() as session:
        heads = session.exec(select(HeadRow).order_by(HeadRow.last_seq)).all()  # type: ignore[arg-type]
        assert [(head.first_seq, head.last_seq) for head in heads] == [(1, 1), (2, 3), (4, 8)]
        assert wire.from_hex(heads[0].previous) == GENESIS_HEAD
        assert [head.previous for head in heads[1:]] == [head.head for head in heads[:-1]]
        again = acknowledgements(session, market().address, range(1, 9))
    assert [entry_of(again[seq]).seq for seq in range(1, 9)] == list(range(1, 9))


def test_the_same_paper_gets_the_same_answer_in_one_group_and_later(desk: Desk) -> None:
    offer = an_offer_paper()
    first = desk.submit(offer, offer, offer)
    assert first[0] == first[1] == first[2]
    assert desk.submit(offer) == [first[0]]
    with desk.store.read() as session:
        assert len(session.exec(select(EntryRow)).all()) == 1
        assert len(session.exec(select(OfferRow)).all()) == 1
    assert desk.keeper.count(provider().address) == (1, 1)


def test_one_bad_paper_does_not_touch_its_neighbours(desk: Desk) -> None:
    good, forged = an_offer_paper(), an_offer_paper(consumer(), valid_until=NOW + 5)
    outcomes = desk.submit(forged, good)
    assert isinstance(outcomes[0], RefusedError)
    assert isinstance(outcomes[0].error, SignatureError)
    assert entry_of(outcomes[0].acknowledgement).kind == EntryKind.REFUSE
    assert entry_of(outcomes[1]).kind == EntryKind.OFFER


def test_the_same_refusal_is_logged_once_and_a_cured_one_is_admitted(desk: Desk) -> None:
    desk.accounts.held[consumer().address] = Account()
    bid = a_bid_paper()
    (refused,) = desk.submit(bid)
    (again,) = desk.submit(bid)
    assert isinstance(refused.error, FundsError)
    assert refused.acknowledgement == again.acknowledgement
    desk.accounts.held[consumer().address] = Account(free=CREDIT)
    (admitted,) = desk.submit(bid)
    assert entry_of(admitted).kind == EntryKind.BID
    assert desk.submit(bid) == [admitted]


def test_the_chain_is_looked_at_before_its_facts_refuse(desk: Desk) -> None:
    desk.submit(an_offer_paper(bond_bps=1))
    assert desk.caught_up == 0
    desk.submit(an_offer_paper(counter=1))
    assert desk.caught_up == 1


def test_a_seat_that_is_leased_takes_no_other_bid(desk: Desk) -> None:
    bid = a_bid_paper()
    desk.submit(bid)
    with desk.store.write() as session:
        row = session.get_one(BidRow, wire.to_hex(bid.id))
        row.state = "leased"
        session.add(row)
    (refused,) = desk.submit(a_bid_paper(max_rate=123_456))
    assert refused.reason == "seat_taken"
    assert entry_of(desk.submit(a_bid_paper(seat=a_seat(4)))[0]).kind == EntryKind.BID


def test_withdrawals_are_logged_and_bounded(desk: Desk) -> None:
    offer = an_offer_paper()
    desk.submit(offer)
    stranger, missing, own, again = desk.submit(
        Withdrawal("offer", offer.id, consumer().address),
        Withdrawal("bid", offer.id, provider().address),
        Withdrawal("offer", offer.id, provider().address),
        Withdrawal("offer", offer.id, provider().address),
    )
    assert isinstance(stranger, NotFoundError)
    assert isinstance(missing, NotFoundError)
    assert own == again
    assert entry_of(own).kind == EntryKind.WITHDRAW
    assert list(desk.keeper.view().offers) == []
    assert entry_of(desk.submit(offer)[0]).kind == EntryKind.OFFER
    assert list(desk.keeper.view().offers) == []


def test_a_matched_bid_cannot_be_withdrawn(desk: Desk) -> None:
    bid = a_bid_paper()
    desk.submit(bid)
    with desk.store.write() as session:
        row = session.get_one(BidRow, wire.to_hex(bid.id))
        row.state = "matched"
        session.add(row)
    (late,) = desk.submit(Withdrawal("bid", bid.id, consumer().address))
    assert isinstance(late, MarketError)
    assert late.code == "too_late"


def test_a_full_book_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowding, "PAPERS_PER_PARTY_MAX", 1)
    desk.submit(an_offer_paper())
    (refused,) = desk.submit(an_offer_paper(valid_until=NOW + 700))
    assert refused.reason == "book_full"


def some_offers(count: int, signer: Signer, first: int = 0) -> list[OfferPaper]:
    return [
        an_offer_paper(signer, provider=signer.address, valid_until=NOW + 100 + n) for n in range(first, first + count)
    ]


def test_an_account_has_room_by_its_free_money(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that places cost money that is held, not one coin for all of them."""
    monkeypatch.setattr(crowding, "PAPERS_PER_PARTY_LEAST", 2)
    poor, better = a_signer(7), a_signer(8)
    desk.accounts.held |= {poor.address: Account(free=1), better.address: Account(free=30_000)}
    for signer, room in ((poor, 2), (better, 2 + 3)):
        for offer in some_offers(room, signer):
            desk.submit(offer)
        (refused,) = desk.submit(*some_offers(1, signer, 50))
        assert refused.reason == "book_full"
        assert f"it may have {room}" in refused.error.detail
    assert len(desk.submit(an_offer_paper())) == 1, "others have room"


def test_a_full_book_loses_who_has_least_behind_each_paper(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    poor, other = a_signer(7), a_signer(8)
    desk.accounts.held |= {poor.address: Account(free=100), other.address: Account(free=33)}
    offers = some_offers(3, poor)
    for offer in offers:
        desk.submit(offer)
    monkeypatch.setattr(crowding, "PAPERS_MAX", 3)
    monkeypatch.setattr(crowding, "LEAVING_MAX", 1)
    (refused,) = desk.submit(*some_offers(1, other))
    assert refused.reason == "book_full"
    (refused,) = desk.submit(*some_offers(1, other))
    assert "no account has less" in refused.error.detail
    (answer,) = desk.submit(an_offer_paper())
    assert entry_of(answer).kind == EntryKind.OFFER
    assert desk.keeper.count(poor.address) == (2, 3)
    with desk.store.read() as session:
        states = [session.get_one(OfferRow, wire.to_hex(offer.id)).state for offer in offers]
        line = session.exec(select(EntryRow).where(EntryRow.kind == EntryKind.WITHDRAW)).one()
        told = session.exec(select(EventRow).where(EventRow.party == poor.address)).one()
    assert states == ["expired", "open", "open"], "the oldest"
    assert (line.paper, line.reason) == (wire.to_hex(offers[0].id), ReasonCode.BOOK_FULL)
    assert told.kind == "offer.expired"


def test_a_bid_that_left_a_full_book_says_why(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.accounts.held[consumer().address] = Account(free=CREDIT)
    bid = a_bid_paper()
    desk.submit(bid)
    monkeypatch.setattr(crowding, "PAPERS_MAX", 1)
    desk.submit(an_offer_paper())
    with desk.store.read() as session:
        row = session.get_one(BidRow, wire.to_hex(bid.id))
        assert (row.state, row.reason) == ("expired", "book_full")
    assert desk.keeper.count(consumer().address) == (0, 1)


def test_a_full_disk_accepts_nothing(desk: Desk) -> None:
    with desk.store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    limits: list[int] = []

    def limit(connection: Any, record: Any, proxy: Any) -> None:
        limits.append(connection.execute(f"PRAGMA max_page_count={pages}").fetchone()[0])

    from sqlalchemy import event

    event.listen(desk.store.engine, "checkout", limit)
    outcomes = [desk.submit(an_offer_paper(valid_until=NOW + 100 + n))[0] for n in range(40)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert failed
    assert {error.code for error in failed} == {"storage"}  # type: ignore[attr-defined]
    event.remove(desk.store.engine, "checkout", limit)
    with desk.store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert len(desk.keeper.view().offers) == len(outcomes) - len(failed)
    assert limits


def test_of_a_paper_whose_signature_does_not_hold_no_account_is_read(desk: Desk) -> None:
    """Or whoever invents papers could have the chain asked, and accounts kept, without end."""
    forged = replace(an_offer_paper(), signature=bytes(64))
    stale = a_bid_paper(valid_until=NOW)
    refused = desk.submit(forged, stale)
    assert [error.reason for error in refused] == ["signature", "bid_expired"]
    assert desk.accounts.asked == []
    desk.submit(an_offer_paper(), a_bid_paper())
    assert desk.accounts.asked[0] == {provider().address, consumer().address}
