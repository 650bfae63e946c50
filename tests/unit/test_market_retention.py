"""Sealed data of a closed lease is deleted after seven days, and only then; what was signed stays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import col, select

from suanli_market.leasing import ageing, logs
from suanli_market.leasing.relay import Relay
from suanli_market.leasing.retention import KEPT_S, Retention
from suanli_market.store import Store
from suanli_market.tables import (
    BidRow,
    BlobRow,
    ChainStepRow,
    ChainTransactionRow,
    EventRow,
    GoneLeaseRow,
    LeaseRow,
    LogChunkRow,
    MatchRow,
    OfferRow,
    ReceiptRow,
)
from suanli_protocol import wire
from suanli_protocol.errors import NotFoundError
from support.builders import NOW, a_domain, consumer, market, provider

OPEN, OLD, YOUNG = (wire.to_hex(bytes([n]) * 32) for n in (1, 2, 3))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def relay(store: Store, tmp_path: Path) -> Relay:
    """A relay with three leases, each with a delivered blob, half of another, and a log of two chunks."""
    made = Relay(store, tmp_path / "blobs", market(), a_domain())
    closed = {OPEN: None, OLD: NOW - KEPT_S, YOUNG: NOW - KEPT_S + 1}
    for number, lease in enumerate(closed, 1):
        with store.write() as session:
            session.add(a_lease(lease, number))
        for slot, data in (("job", b"job"), ("inputs", b"in")):
            made.begin(lease, slot, consumer().address, 3, "")
            made.append(lease, slot, consumer().address, 0, data)
        with store.write() as session:
            chunks = [wire.LogChunk(seq=n, data="0xab") for n in range(2)]
            logs.append(session, lease, provider().address, wire.LogPage(chunks=chunks, complete=True))
    with store.write() as session:
        for lease, at in closed.items():
            row = session.get_one(LeaseRow, lease)
            row.state, row.closed_at = ("open" if at is None else "settled"), at
            session.add(row)
    return made


def a_lease(id_: str, number: int) -> LeaseRow:
    return LeaseRow(
        id=id_,
        number=number,
        provider=provider().address,
        consumer=consumer().address,
        bid="0x" + "0b" * 32,
        offer="0x" + "0c" * 32,
        rate="1",
        price="1",
        seat_index=0,
        attempt=1,
        opened_at=NOW,
        block=1,
        block_hash="0x" + "00" * 32,
        transaction="0x" + "00" * 32,
    )


def held(store: Store, tmp_path: Path) -> dict[str, tuple[int, int]]:
    """Files and log chunks of each lease."""
    with store.read() as session:
        return {
            lease: (
                len(list((tmp_path / "blobs" / lease).glob("*"))),
                len(session.exec(select(LogChunkRow).where(LogChunkRow.lease == lease)).all()),
            )
            for lease in (OPEN, OLD, YOUNG)
        }


def test_what_was_closed_seven_days_ago_is_deleted_and_nothing_else(store: Store, relay: Relay, tmp_path: Path) -> None:
    retention = Retention(store, tmp_path / "blobs", lambda: NOW)
    assert retention.sweep(NOW - 1) == 0
    assert held(store, tmp_path) == {OPEN: (2, 2), OLD: (2, 2), YOUNG: (2, 2)}
    assert retention.sweep(NOW) == 1
    assert held(store, tmp_path) == {OPEN: (2, 2), OLD: (0, 0), YOUNG: (2, 2)}
    assert retention.sweep(NOW) == 0
    assert retention.sweep(NOW + 1) == 1
    assert held(store, tmp_path) == {OPEN: (2, 2), OLD: (0, 0), YOUNG: (0, 0)}
    assert retention.sweep(NOW + 100 * KEPT_S) == 0, "an open lease is never swept"


def test_the_parties_are_told_that_it_is_gone_and_the_signature_stays(
    store: Store, relay: Relay, tmp_path: Path
) -> None:
    Retention(store, tmp_path / "blobs", lambda: NOW).sweep(NOW)
    with pytest.raises(NotFoundError, match="deleted 7 days after"):
        relay.path(OLD, "job", provider().address)
    with store.read() as session, pytest.raises(NotFoundError, match="deleted 7 days after"):
        logs.read(session, OLD, consumer().address, -1)
    with store.write() as session, pytest.raises(NotFoundError, match="deleted 7 days after"):
        logs.append(session, OLD, provider().address, wire.LogPage(chunks=[wire.LogChunk(seq=9, data="0x01")]))
    with pytest.raises(NotFoundError, match="no lease"):
        relay.path(OLD, "job", market().address)
    with store.read() as session:
        blob = session.get_one(BlobRow, (OLD, "job"))
        assert blob.delivered is not None
        assert blob.signature is not None
    assert relay.path(YOUNG, "job", provider().address).read_bytes() == b"job"


def test_a_sweep_that_broke_between_files_and_rows_is_finished(store: Store, relay: Relay, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "blobs" / OLD)
    assert Retention(store, tmp_path / "blobs", lambda: NOW).sweep(NOW) == 1
    assert held(store, tmp_path)[OLD] == (0, 0)


def test_what_was_handed_over_for_a_lease_that_a_reorganisation_took_is_deleted_with_all_its_rows(
    store: Store, relay: Relay, tmp_path: Path
) -> None:
    """OPEN is gone for good; YOUNG went as well, and was opened again."""
    with store.write() as session:
        session.add_all([GoneLeaseRow(id=OPEN, at=NOW), GoneLeaseRow(id=YOUNG, at=NOW)])
        session.add(ReceiptRow(lease=OPEN, receipt="{}", signature="0x", evidence="{}"))
        session.delete(session.get_one(LeaseRow, OPEN))
        young = session.get_one(LeaseRow, YOUNG)
        young.closed_at = None
        session.add(young)
    counted: list[bool] = []
    retention = Retention(store, tmp_path / "blobs", lambda: NOW, on_swept=lambda: counted.append(True))
    retention.sweep(NOW + KEPT_S - 1)
    assert held(store, tmp_path) == {OPEN: (2, 2), OLD: (0, 0), YOUNG: (2, 2)}
    retention.sweep(NOW + KEPT_S)
    assert held(store, tmp_path) == {OPEN: (0, 0), OLD: (0, 0), YOUNG: (2, 2)}
    with store.read() as session:
        assert session.exec(select(GoneLeaseRow)).all() == []
        assert session.exec(select(ReceiptRow)).all() == []
        assert {blob.lease for blob in session.exec(select(BlobRow))} == {OLD, YOUNG}
    assert len(counted) == 2, "the relay counts anew"


def test_the_thread_sweeps_when_it_starts(store: Store, relay: Relay, tmp_path: Path) -> None:
    retention = Retention(store, tmp_path / "blobs", lambda: NOW + 1)
    retention.start()
    for _ in range(500):
        with store.read() as session:
            left = session.exec(select(LeaseRow.id).where(col(LeaseRow.swept).is_(False))).all()
        if left == [OPEN]:
            break
        retention._stopping.wait(0.01)
    retention.stop()
    assert left == [OPEN]


def an_offer_row(id_: str, *, state: str = "expired", valid_until: int = NOW) -> OfferRow:
    papers = {"paper": "{}", "signature": "0x", "attributes": "{}"}
    return OfferRow(id=id_, seq=1, provider="0x", **papers, valid_until=valid_until, received_at=0, state=state)


def a_bid_row(id_: str, *, state: str = "expired", valid_until: int = NOW) -> BidRow:
    papers = {"paper": "{}", "signature": "0x", "constraints": "{}", "job_digest": "0x"}
    return BidRow(
        id=id_, seq=1, consumer="0x", seat="0x", **papers, valid_until=valid_until, received_at=0, state=state
    )


def test_papers_that_came_to_nothing_age_out_and_others_stay(store: Store) -> None:
    with store.write() as session:
        session.add_all(
            [
                *(an_offer_row("vain"), an_offer_row("open", state="open"), an_offer_row("matched")),
                *(an_offer_row("leased"), an_offer_row("young", valid_until=NOW + 1)),
                *(a_bid_row("vain"), a_bid_row("queued", state="queued"), a_bid_row("matched")),
                *(a_bid_row("leased", state="leased"), a_bid_row("young", valid_until=NOW + 1)),
                MatchRow(round=1, position=0, bid="matched", offer="matched", rate="1", state="released"),
            ]
        )
        lease = a_lease(OLD, 1)
        lease.bid, lease.offer = "leased", "leased"
        session.add(lease)
    assert ageing.age_out(store, NOW + ageing.KEPT_S) == 0
    assert ageing.age_out(store, NOW + ageing.KEPT_S + 1) == 2
    with store.read() as session:
        assert set(session.exec(select(OfferRow.id))) == {"open", "matched", "leased", "young"}
        assert set(session.exec(select(BidRow.id))) == {"queued", "matched", "leased", "young"}


def test_old_events_leave_but_their_numbers_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ageing, "SLICE", 2)
    with store.write() as session:
        session.add_all([EventRow(party="0x", at=(NOW + n) * 1000, kind="offer.expired") for n in range(7)])
    assert ageing.age_out(store, NOW + 5 + ageing.KEPT_S) == 5
    assert ageing.age_out(store, NOW + 99 + ageing.KEPT_S) == 1
    with store.write() as session:
        session.add(EventRow(party="0x", at=0, kind="offer.expired"))
    with store.read() as session:
        assert list(session.exec(select(EventRow.seq))) == [7, 8]


def test_calldata_stays_while_a_reorganisation_could_bring_it_back(store: Store) -> None:
    def sent(nonce: int, state: str, block: int | None) -> ChainTransactionRow:
        return ChainTransactionRow(kind="open", nonce=nonce, entries=1, calldata="0xab", state=state, block=block, at=0)

    with store.write() as session:
        session.add(ChainStepRow(block=5, block_hash="0x", opened=0))
        places = [("mined", 5), ("failed", 4), ("dropped", None), ("mined", 6), ("prepared", None)]
        session.add_all([sent(nonce, state, block) for nonce, (state, block) in enumerate(places)])
    assert ageing.age_out(store, NOW) == 3
    with store.read() as session:
        kept = select(ChainTransactionRow.nonce).where(ChainTransactionRow.calldata != "")
        assert list(session.exec(kept)) == [3, 4]
