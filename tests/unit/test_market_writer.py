"""Batches: what fits into a transaction goes in one, what the chain does not take rests and goes smaller, alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from suanli_market.chain import aside
from suanli_market.chain import writer as writer_module
from suanli_market.chain.accounts import Accounts
from suanli_market.chain.sender import Batch
from suanli_market.chain.writer import BATCH_MAX, BYTES_MAX, ChainWriter
from suanli_market.clearing.keeper import Keeper
from suanli_market.store import Store
from suanli_market.tables import BidRow, ChainTransactionRow, MatchRow, RoundRow
from suanli_protocol import wire
from suanli_protocol.chain import Chain
from suanli_protocol.escrow import Escrow
from suanli_protocol.signing import address_bytes
from support.builders import NOW, a_bid, a_seat, consumer, market
from support.market_desk import Desk, a_bid_paper, an_offer_paper
from support.pool import Pool

ESCROW = "0x" + "11" * 20


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr("suanli_market.clearing.keeper.time.time", lambda: float(NOW))
    opened = Store(tmp_path)
    opened.migrate()
    yield opened
    opened.close()


def a_writer(pool: Pool, store: Store) -> ChainWriter:
    chain: Any = pool
    escrow = Escrow(Chain("http://127.0.0.1:1"), ESCROW)
    keeper = Keeper(Accounts(escrow), market().address)
    return ChainWriter(
        store, keeper, chain, escrow, market(), on_mined=lambda: None, catch_up=lambda: None, mined_s=0.0
    )


def some_matches(store: Store, seats: list[bytes], *, attempt: int = 1) -> None:
    """Matches of bids with these seats, as a round writes them."""
    desk = Desk(store)
    offer, bids = an_offer_paper(), [a_bid_paper(seat=seat) for seat in seats]
    desk.submit(offer, *bids)
    desk.admission.stop()
    with store.write() as session:
        session.add(RoundRow(number=1, hash="0x" + "00" * 32, message="{}", last_seq=1, at=NOW))
        for n, bid in enumerate(bids):
            row = session.get_one(BidRow, wire.to_hex(bid.id))
            row.attempt, row.previous = attempt, "ab" * 416 if attempt > 1 else ""
            paper = wire.to_hex(offer.id)
            session.add_all([row, MatchRow(round=1, position=n, bid=row.id, offer=paper, rate="35100")])


def transactions(store: Store) -> list[tuple[int, int]]:
    """Bytes of calldata and entries of each."""
    with store.read() as session:
        return [(len(row.calldata) // 2 - 1, row.entries) for row in session.exec(select(ChainTransactionRow))]


@pytest.mark.parametrize("attempt", [1, 2], ids=["first attempts", "retries"])
def test_a_batch_is_bounded_by_its_bytes_too(store: Store, attempt: int) -> None:
    some_matches(store, [a_seat(n) for n in range(BATCH_MAX)], attempt=attempt)
    pool = Pool()
    a_writer(pool, store).step()
    sent = transactions(store)
    assert sum(entries for _, entries in sent) == BATCH_MAX
    assert all(size <= BYTES_MAX for size, _ in sent)
    assert len(sent) == 2


def test_what_is_not_taken_goes_smaller_and_stops_nothing_else(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    some_matches(store, [a_seat(n) for n in range(40)])
    pool = Pool()
    writer = a_writer(pool, store)
    monkeypatch.setattr(writer, "_settlements", lambda: Batch("settle", b"receipts", 1, ()) if not done() else None)

    def done() -> bool:
        return b"receipts" in pool.contents()

    pool.refuses = writer._escrow.encode_open(bytes(32), [])[:4]
    writer.step()
    assert pool.contents() == [b"receipts"]
    assert writer._paces["open"].limit == 20
    writer.step()
    assert len(pool.sent) == 1, "it rests"
    pool.refuses = b""
    monkeypatch.setattr(writer_module.time, "monotonic", lambda: 1e12)
    writer.step()
    assert [entries for _, entries in transactions(store)[1:]] == [20, 20]


def test_bids_with_one_seat_never_share_a_transaction(store: Store) -> None:
    """A refusal names the seat alone, and a seat is only a number that anyone can copy."""
    some_matches(store, [a_seat(1), a_seat(2)])
    with store.write() as session:
        for bid in session.exec(select(BidRow)).all():
            bid.seat = wire.to_hex(a_seat(1))
            session.add(bid)
    a_writer(Pool(), store).step()
    assert [entries for _, entries in transactions(store)] == [1, 1]


# One that nobody takes


class Clock:
    """The process's clock."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(writer_module.time, "monotonic", made)
    return made


def steps(writer: ChainWriter, clock: Clock, seconds: float) -> None:
    for _ in range(int(seconds)):
        writer.step()
        clock.now += 1


def opened(store: Store) -> int:
    """How many entries are in transactions."""
    return sum(entries for _, entries in transactions(store))


def states(store: Store) -> dict[str, int]:
    with store.read() as session:
        return dict(Counter(session.exec(select(MatchRow.state)).all()))


def another_match(store: Store, seat: bytes) -> None:
    """A copy of the first match, of a bid with another seat."""
    with store.write() as session:
        match = session.get_one(MatchRow, 1)
        bid = session.get_one(BidRow, match.bid).model_dump()
        paper = wire.paper_to_json(a_bid(seat=seat))
        bid |= {"id": wire.to_hex(seat), "seat": wire.to_hex(seat), "paper": json.dumps(paper), "state": "matched"}
        session.add_all(
            [BidRow(**bid), MatchRow(round=1, position=0, bid=bid["id"], offer=match.offer, rate=match.rate)]
        )


@pytest.mark.parametrize("place", [0, 5, 99], ids=["first", "amid", "last"])
def test_an_opening_that_nobody_takes_holds_up_none(store: Store, clock: Clock, place: int) -> None:
    some_matches(store, [a_seat(n) for n in range(100)])
    pool = Pool(shuns=a_seat(place))
    writer = a_writer(pool, store)
    steps(writer, clock, 20)
    assert opened(store) == 99
    assert states(store) == {"pending": 100}, "as far as the chain has told"


def test_it_is_tried_again_by_itself_and_goes_once_it_is_taken(store: Store, clock: Clock) -> None:
    some_matches(store, [a_seat(0), a_seat(1)])
    pool = Pool(shuns=a_seat(0))
    writer = a_writer(pool, store)
    steps(writer, clock, 20)
    pool.shuns = b""
    steps(writer, clock, aside.REST_S[1])
    assert [entries for _, entries in transactions(store)] == [1, 1]
    assert not writer._aside.rows("open")


def test_its_tries_make_no_other_smaller(store: Store, clock: Clock) -> None:
    some_matches(store, [a_seat(0)])
    writer = a_writer(Pool(shuns=a_seat(0)), store)
    steps(writer, clock, 10)
    for n in range(1, 40):
        another_match(store, a_seat(n))
    steps(writer, clock, 60)
    assert opened(store) == 39
    limit = writer._paces["open"].limit
    steps(writer, clock, 600)
    assert (writer._paces["open"].limit, writer._paces["open"].rest_s) == (limit, 0.0)
    assert len(transactions(store)) <= 6


def test_one_that_others_overtake_again_and_again_is_released_with_a_reason(store: Store, clock: Clock) -> None:
    some_matches(store, [a_seat(0)])
    with store.write() as session:
        session.get_one(BidRow, session.get_one(MatchRow, 1).bid).state = "matched"
    writer = a_writer(Pool(shuns=a_seat(0)), store)
    for n in range(1, 1 + aside.PROOFS_MAX):
        steps(writer, clock, 60)
        assert state_of(store)[:2] == ("pending", "")
        another_match(store, a_seat(n))
    steps(writer, clock, 300)
    assert state_of(store) == ("released", "open_failed", "queued", "open_failed")
    assert not writer._aside.rows("open")


def test_while_nobody_else_goes_either_it_waits(store: Store, clock: Clock) -> None:
    some_matches(store, [a_seat(0), a_seat(1)])
    writer = a_writer(Pool(shuns=address_bytes(consumer().address)), store)
    steps(writer, clock, 2_000)
    assert states(store) == {"pending": 2}


def test_without_coin_none_is_set_aside(store: Store, clock: Clock) -> None:
    some_matches(store, [a_seat(0)])
    pool = Pool(full_of="no coin for gas")
    writer = a_writer(pool, store)
    steps(writer, clock, 400)
    assert not writer._aside.rows("open")
    pool.full_of = ""
    steps(writer, clock, 6)
    assert opened(store) == 1


def test_one_whose_papers_are_over_is_released(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    some_matches(store, [a_seat(0)])
    writer = a_writer(Pool(shuns=a_seat(0)), store)
    steps(writer, clock, 10)
    monkeypatch.setattr("suanli_market.clearing.keeper.time.time", lambda: float(NOW + 600))
    steps(writer, clock, 300)
    assert state_of(store) == ("released", "bid_expired", "refused", "bid_expired")


def test_what_was_released_meanwhile_is_forgotten(store: Store, clock: Clock) -> None:
    some_matches(store, [a_seat(0)])
    writer = a_writer(Pool(shuns=a_seat(0)), store)
    steps(writer, clock, 2)
    assert writer._aside.rows("open") == [1]
    with store.write() as session:
        session.get_one(MatchRow, 1).state = "released"
    steps(writer, clock, 10)
    assert writer._aside.rows("open") == []


def state_of(store: Store) -> tuple[str, str, str, str]:
    """State and reason of the first match, and of its bid."""
    with store.read() as session:
        match = session.get_one(MatchRow, 1)
        bid = session.get_one(BidRow, match.bid)
    return match.state, match.reason, bid.state, bid.reason
