"""Batches: what fits into a transaction goes in one, what the chain does not take rests and goes smaller, alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

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
from support.builders import NOW, a_seat, market
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
    assert writer._paces["open"].limit == BATCH_MAX // 2
    writer.step()
    assert len(pool.sent) == 1, "it rests"
    pool.refuses = b""
    monkeypatch.setattr(writer_module.time, "monotonic", lambda: 1e12)
    writer.step()
    assert [entries for _, entries in transactions(store)[1:]] == [40]


def test_bids_with_one_seat_never_share_a_transaction(store: Store) -> None:
    """A refusal names the seat alone, and a seat is only a number that anyone can copy."""
    some_matches(store, [a_seat(1), a_seat(2)])
    with store.write() as session:
        for bid in session.exec(select(BidRow)).all():
            bid.seat = wire.to_hex(a_seat(1))
            session.add(bid)
    a_writer(Pool(), store).step()
    assert [entries for _, entries in transactions(store)] == [1, 1]
