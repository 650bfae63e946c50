"""What the chain's words change in the tables, and whose words count: anyone may make the escrow refuse something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import Session, select

from suanli_market.chain.projection import Projection, Step, Stretch
from suanli_market.clearing.book import Returned
from suanli_market.store import Store
from suanli_market.tables import BidRow, EventRow, LeaseRow, MatchRow, OfferRow, ReceiptRow
from suanli_protocol import wire
from suanli_protocol.events import EscrowEvent, Opened, Refused, Released, Settled, SettlementRefused
from suanli_protocol.lease import Kind, Refusal, lease_id, terms
from support.builders import NOW, a_receipt, consumer, provider
from support.market_desk import Desk, a_bid_paper, an_offer_paper

OURS, STRANGERS = b"\x01" * 32, b"\x02" * 32
LEASE = b"\x07" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def matched(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A bid and an offer with a match that is under way to the chain."""
    monkeypatch.setattr("suanli_market.clearing.keeper.time.time", lambda: float(NOW))
    desk = Desk(store)
    offer, bid = an_offer_paper(), a_bid_paper()
    desk.submit(offer)
    desk.submit(bid)
    desk.admission.stop()
    with store.write() as session:
        row = session.get_one(BidRow, wire.to_hex(bid.id))
        row.state = "matched"
        match = MatchRow(round=1, position=0, bid=row.id, offer=wire.to_hex(offer.id), rate="35100", transaction=1)
        session.add_all([row, match])
    return store


def apply(store: Store, *events: EscrowEvent) -> Step:
    with store.write() as session:
        stretch = Stretch(events, times={1: NOW, 2: NOW + 9}, own=frozenset({OURS}))
        return Projection().apply(session, stretch, opened=0)


def refused(transaction: bytes, refusal: Refusal) -> Refused:
    return Refused(1, bytes(32), transaction, 0, a_bid_paper().paper.seat, 0, refusal)


def the_match(store: Store) -> tuple[str, str]:
    with store.read() as session:
        return session.exec(select(MatchRow.state)).one(), session.exec(select(BidRow.state)).one()


def events(store: Store) -> list[str]:
    with store.read() as session:
        return list(session.exec(select(EventRow.kind)))


@pytest.mark.parametrize("refusal", [Refusal.NOT_THE_MARKET, Refusal.CONSUMER_FUNDS, Refusal.OFFER_SIGNATURE])
def test_a_strangers_refused_opening_changes_nothing(matched: Store, refusal: Refusal) -> None:
    step = apply(matched, refused(STRANGERS, refusal))
    assert the_match(matched) == ("pending", "matched")
    assert step.changes == []
    assert events(matched) == ["bid.queued"]


def test_our_refused_opening_brings_the_bid_back_or_ends_it(matched: Store) -> None:
    step = apply(matched, refused(OURS, Refusal.CONSUMER_FUNDS))
    assert the_match(matched) == ("released", "queued")
    assert step.changes == [Returned(a_bid_paper().id)]


def test_a_seat_that_is_dead_ends_the_bid(matched: Store) -> None:
    apply(matched, refused(OURS, Refusal.SEAT_TAKEN))
    assert the_match(matched) == ("released", "refused")


def test_a_refusal_after_the_opening_leaves_the_lease_alone(matched: Store) -> None:
    """What was sent twice after a break is refused the second time; another match of the same bid is then released."""
    bid, offer = a_bid_paper(), an_offer_paper()
    with matched.write() as session:
        again = MatchRow(round=2, position=0, bid=wire.to_hex(bid.id), offer="0x" + "09" * 32, rate="1", transaction=2)
        other = session.get_one(OfferRow, wire.to_hex(offer.id)).model_dump() | {"id": again.offer}
        session.add_all([OfferRow(**other), again])
    lease, _ = terms(bid.paper, offer.paper, rate=35_100, opened_at=NOW)
    parties = (provider().address, consumer().address)
    apply(
        matched,
        Opened(1, bytes(32), OURS, 0, lease_id(lease), *parties, bid.id, offer.id, 35_100, 0, 1),
        refused(OURS, Refusal.SEAT_TAKEN),
    )
    with matched.read() as session:
        assert list(session.exec(select(MatchRow.state))) == ["opened", "released"]
        assert session.exec(select(BidRow.state)).one() == "leased"
    assert "bid.refused" not in events(matched)


def a_queued_receipt(session: Session) -> None:
    receipt = a_receipt(lease=LEASE)
    id_ = wire.to_hex(LEASE)
    session.add(
        LeaseRow(
            id=id_,
            number=1,
            provider=provider().address,
            consumer=consumer().address,
            rate="35100",
            price="35100",
            seat_index=0,
            attempt=1,
            opened_at=NOW,
            block=1,
            block_hash="0x" + "00" * 32,
            transaction=wire.to_hex(OURS),
        )
    )
    body = json.dumps(wire.paper_to_json(receipt))
    session.add(ReceiptRow(lease=id_, receipt=body, signature="0x", evidence="{}", state="queued"))


def the_receipt(store: Store) -> tuple[str, int]:
    with store.read() as session:
        row = session.get_one(ReceiptRow, wire.to_hex(LEASE))
        return row.state, row.tries


@pytest.mark.parametrize("refusal", [Refusal.UNKNOWN_LEASE, Refusal.PROVIDER_SIGNATURE])
def test_a_strangers_refused_settlement_does_not_end_ours(store: Store, refusal: Refusal) -> None:
    """A lease's terms are public: anyone can bring them to the escrow with nonsense beside them."""
    with store.write() as session:
        a_queued_receipt(session)
    apply(store, *[SettlementRefused(1, bytes(32), STRANGERS, i, LEASE, refusal) for i in range(9)])
    assert the_receipt(store) == ("queued", 0)


def test_our_refused_settlement_is_tried_again_and_then_given_up(store: Store) -> None:
    with store.write() as session:
        a_queued_receipt(session)
    apply(store, SettlementRefused(1, bytes(32), OURS, 0, LEASE, Refusal.UNKNOWN_LEASE))
    assert the_receipt(store) == ("queued", 1)
    apply(store, SettlementRefused(1, bytes(32), OURS, 0, LEASE, Refusal.PROVIDER_SIGNATURE))
    assert the_receipt(store) == ("refused", 2)


@pytest.mark.parametrize(
    "close",
    [Settled(2, bytes(32), OURS, 0, LEASE, 5, 0, Kind.DONE, bytes(32)), Released(2, bytes(32), OURS, 0, LEASE, 0, 0)],
)
def test_a_closed_lease_knows_when(store: Store, close: EscrowEvent) -> None:
    with store.write() as session:
        a_queued_receipt(session)
    apply(store, Settled(1, bytes(32), OURS, 0, LEASE, 5, 0, Kind.INTERIM, bytes(32)))
    with store.read() as session:
        assert session.get_one(LeaseRow, wire.to_hex(LEASE)).closed_at is None
    apply(store, close)
    with store.read() as session:
        assert session.get_one(LeaseRow, wire.to_hex(LEASE)).closed_at == NOW + 9
