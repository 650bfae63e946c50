"""What the chain's words change in the tables, and whose words count: anyone may make the escrow refuse something."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, select

from suanli_market.admission.papers import BidPaper
from suanli_market.chain.projection import Projection, Step, Stretch
from suanli_market.clearing.book import Entered, Left, Returned
from suanli_market.clearing.conditions import StandingBid
from suanli_market.leasing.leases import state_of, terms_of, view_of
from suanli_market.store import Store
from suanli_market.tables import BidRow, ChainVersionRow, EventRow, LeaseRow, MatchRow, OfferRow, ReceiptRow
from suanli_protocol import wire
from suanli_protocol.documents import documents_digest
from suanli_protocol.events import (
    Claimed,
    Disputed,
    EscrowEvent,
    Finalized,
    Opened,
    Reclaimed,
    Refused,
    Released,
    Resolved,
    Settled,
    SettlementRefused,
    Stopped,
)
from suanli_protocol.lease import Kind, Previous, Progress, Refusal, clauses_hash, lease_id, terms
from suanli_protocol.lease import Phase as ChainPhase
from suanli_protocol.signing import struct_hash
from support.builders import NOW, a_bid, a_domain, a_job, a_receipt, consumer, provider, some_constraints
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
        session.add_all([row, match, ChainVersionRow(hash=wire.to_hex(OURS), transaction=1)])
    return store


def apply(store: Store, *events: EscrowEvent) -> Step:
    with store.write() as session:
        stretch = Stretch(events, times={1: NOW, 2: NOW + 9})
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
    session.add(ReceiptRow(lease=id_, receipt=body, signature="0x", evidence="{}", state="queued", transaction=1))
    session.merge(ChainVersionRow(hash=wire.to_hex(OURS), transaction=1))


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
    with store.write() as session:
        session.get_one(ReceiptRow, wire.to_hex(LEASE)).transaction = 1  # sent again
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


# Ways out and further attempts


@dataclass
class Seat:
    """A lease of one bid, as the chain opened it, and what is to come of it."""

    store: Store
    bid: BidPaper
    lease: bytes

    @property
    def row(self) -> LeaseRow:
        """The lease."""
        with self.store.read() as session:
            return session.get_one(LeaseRow, wire.to_hex(self.lease))

    @property
    def bid_row(self) -> BidRow:
        """The bid."""
        with self.store.read() as session:
            return session.get_one(BidRow, wire.to_hex(self.bid.id))


def a_seat_leased(
    store: Store, *, retry: tuple[str, ...] = ("interruption", "provider-error"), attempts: int = 2, valid_s: int = 600
) -> Seat:
    """A bid whose first attempt is open, at NOW."""
    offer, constraints = an_offer_paper(), some_constraints(retry=retry)
    documents = documents_digest(a_job().digest(), constraints.digest())
    paper = a_bid(documents=documents, attempts=attempts, valid_until=NOW + valid_s)
    signature = consumer().sign(a_domain(), paper)
    bid = BidPaper(struct_hash(paper), paper, signature, constraints, a_job().digest())
    desk = Desk(store)
    outcomes = desk.submit(offer, bid)
    desk.admission.stop()
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    with store.write() as session:
        row = session.get_one(BidRow, wire.to_hex(bid.id))
        row.state = "matched"
        session.add_all(
            [row, MatchRow(round=1, position=0, bid=row.id, offer=wire.to_hex(offer.id), rate="35100", transaction=1)]
        )
    lease, _ = terms(bid.paper, offer.paper, rate=35_100, opened_at=NOW)
    parties = (provider().address, consumer().address)
    opened = Opened(1, bytes(32), OURS, 0, lease_id(lease), *parties, bid.id, offer.id, 35_100, 0, 1)
    apply(store, opened)
    return Seat(store, bid, lease_id(lease))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suanli_market.clearing.keeper.time.time", lambda: float(NOW))


AT = (2, bytes(32), OURS, 0)


@pytest.mark.usefixtures("clock")
def test_a_claim_is_finalized(store: Store) -> None:
    seat = a_seat_leased(store)
    step = apply(store, Claimed(*AT, seat.lease, 900, Kind.DONE, b"\x05" * 32, NOW + 7))
    assert (seat.row.state, seat.row.claimed, seat.row.claim_kind, seat.row.clock) == ("claimed", "900", 1, NOW + 7)
    assert step.touched == {provider().address}  # its capacity is free again
    with store.read() as session:
        state = state_of(session, seat.row)
    assert state.progress == Progress().claimed_by(900, NOW + 7, Kind.DONE)
    step = apply(store, Finalized(*AT, seat.lease, 900, 4, Kind.DONE, False))
    row = seat.row
    assert (row.state, row.phase, row.paid, row.fee, row.closed_at) == ("finalized", "settled", "900", "4", NOW + 9)
    assert row.settled_transaction == wire.to_hex(OURS)
    assert (seat.bid_row.state, seat.bid_row.lease) == ("leased", row.id)
    assert step.changes == []
    assert {"lease.claimed", "lease.finalized"} <= set(events(store))


@pytest.mark.usefixtures("clock")
def test_a_dispute_is_resolved(store: Store) -> None:
    seat = a_seat_leased(store)
    stop = Stopped(*AT, seat.lease, consumer().address, NOW + 3, True)
    apply(store, stop, Claimed(*AT, seat.lease, 900, Kind.FAILED, b"\x05" * 32, NOW + 7))
    apply(store, Disputed(*AT, seat.lease, consumer().address, NOW + 8))
    assert (seat.row.state, seat.row.clock) == ("disputed", NOW + 8)
    with store.read() as session:
        progress = state_of(session, seat.row).progress
    assert (progress.phase, progress.kind, progress.by_consumer_side) == (ChainPhase.DISPUTED, Kind.FAILED, True)
    step = apply(store, Resolved(*AT, seat.lease, 500, 2, 3, 4, 5, b"\x06" * 32))
    row = seat.row
    assert (row.state, row.phase, row.paid, row.fee) == ("resolved", "settled", "500", "2")
    assert step.touched == {provider().address, consumer().address}
    assert seat.bid_row.state == "leased"  # a verdict closes the seat for good


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("ending", "retry", "spent"),
    [
        (Reclaimed(*AT, bytes(32), 40, 0, 3510), "interruption", 40),
        (Released(*AT, bytes(32), 40, 0), "interruption", 40),
        (Settled(*AT, bytes(32), 400, 2, Kind.FAILED, bytes(32)), "provider-error", 402),
        (Finalized(*AT, bytes(32), 400, 2, Kind.FAILED, False), "provider-error", 402),
    ],
)
def test_the_next_attempt_waits_with_the_proof_of_the_last(
    store: Store, ending: EscrowEvent, retry: str, spent: int
) -> None:
    seat = a_seat_leased(store, retry=(retry,))
    step = apply(store, replace(ending, lease_id=seat.lease))  # type: ignore[call-arg]
    bid = seat.bid_row
    assert (bid.state, bid.lease, bid.attempt, bid.spent, bid.queued_at) == ("queued", None, 2, str(spent), NOW + 9)
    previous = Previous.decode(bytes.fromhex(bid.previous))
    assert (previous.spent, previous.total, previous.next_attempt) == (spent, spent, 2)
    with store.read() as session:
        assert clauses_hash(previous.clauses) == terms_of(session, seat.row)[0].clauses
    entered = [change.paper for change in step.changes if isinstance(change, Entered)]
    assert [paper.id for paper in entered] == [seat.bid.id]
    assert isinstance(entered[0], StandingBid)
    assert entered[0].budget == seat.bid.paper.budget - spent
    assert "bid.retried" in events(store)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("ending", "fields"),
    [
        (Reclaimed(*AT, bytes(32), 0, 0, 3510), {"retry": ()}),
        (Reclaimed(*AT, bytes(32), 0, 0, 3510), {"retry": ("provider-error",)}),
        (Settled(*AT, bytes(32), 0, 0, Kind.FAILED, bytes(32)), {"retry": ("interruption",)}),
        (Settled(*AT, bytes(32), 9, 0, Kind.DONE, bytes(32)), {}),
        (Resolved(*AT, bytes(32), 0, 0, 0, 0, 0, bytes(32)), {}),
        (Released(*AT, bytes(32), 0, 0), {"attempts": 1}),
        (Released(*AT, bytes(32), 0, 0), {"valid_s": 9}),
    ],
)
def test_no_attempt_follows_that_nobody_asked_for(store: Store, ending: EscrowEvent, fields: dict[str, Any]) -> None:
    seat = a_seat_leased(store, **fields)
    step = apply(store, replace(ending, lease_id=seat.lease))  # type: ignore[call-arg]
    bid = seat.bid_row
    assert (bid.state, bid.lease, bid.attempt, bid.previous) == ("leased", seat.row.id, 1, "")
    assert not [change for change in step.changes if isinstance(change, Entered)]
    assert "bid.retried" not in events(store)


@pytest.mark.usefixtures("clock")
def test_the_second_attempt_has_its_own_terms_and_is_the_last(store: Store) -> None:
    seat = a_seat_leased(store)
    apply(store, Released(*AT, seat.lease, 40, 0))
    with store.write() as session:
        bid = session.get_one(BidRow, wire.to_hex(seat.bid.id))
        offer = session.exec(select(OfferRow)).one()
        session.add(MatchRow(round=2, position=0, bid=bid.id, offer=offer.id, rate="35100", transaction=2))
    offer_paper = an_offer_paper()
    lease, _ = terms(seat.bid.paper, offer_paper.paper, rate=35_100, attempt=2, spent=40, opened_at=NOW + 9)
    parties = (provider().address, consumer().address)
    again = Opened(2, bytes(32), OURS, 0, lease_id(lease), *parties, seat.bid.id, offer_paper.id, 35_100, 0, 2)
    apply(store, again)
    second = Seat(store, seat.bid, lease_id(lease))
    assert (second.row.state, second.row.attempt, second.row.spent) == ("open", 2, "40")
    assert (second.bid_row.state, second.bid_row.lease) == ("leased", second.row.id)
    with store.read() as session:
        assert view_of(session, second.row)["attemptsLeft"] == 0
        assert view_of(session, seat.row)["state"] == "released"
    apply(store, Released(*AT, second.lease, 0, 0))
    assert (second.bid_row.state, second.bid_row.lease) == ("leased", second.row.id)


@pytest.mark.usefixtures("clock")
def test_a_provider_that_vanished_is_not_offered_again(store: Store) -> None:
    seat = a_seat_leased(store)
    step = apply(store, Reclaimed(*AT, seat.lease, 0, 0, 3510))
    assert Left(an_offer_paper().id) in step.changes
    with store.read() as session:
        assert session.exec(select(OfferRow.state)).one() == "dead"


def another_bid(store: Store, **fields: Any) -> str:
    """A bid that waits beside the matched one."""
    desk = Desk(store)
    bid = a_bid_paper(**fields)
    outcome = desk.submit(bid)
    desk.admission.stop()
    assert isinstance(outcome[0], dict), outcome
    return wire.to_hex(bid.id)


def state_of_bid(store: Store, bid: str) -> tuple[str, str]:
    with store.read() as session:
        row = session.get_one(BidRow, bid)
        return row.state, row.reason


def the_opening() -> Opened:
    bid, offer = a_bid_paper(), an_offer_paper()
    lease, _ = terms(bid.paper, offer.paper, rate=35_100, opened_at=NOW)
    parties = (provider().address, consumer().address)
    return Opened(1, bytes(32), OURS, 0, lease_id(lease), *parties, bid.id, offer.id, 35_100, 0, 1)


def test_a_refusal_of_another_transaction_of_ours_is_no_answer(matched: Store) -> None:
    """A seat is a number that a stranger can copy into a bid of its own, which this market then sends."""
    theirs = b"\x03" * 32
    with matched.write() as session:
        session.add(ChainVersionRow(hash=wire.to_hex(theirs), transaction=2))
    apply(matched, refused(theirs, Refusal.BID_COUNTER))
    assert the_match(matched) == ("pending", "matched")


def test_the_version_that_was_mined_need_not_be_the_first(matched: Store) -> None:
    replacement = b"\x04" * 32
    with matched.write() as session:
        session.add(ChainVersionRow(hash=wire.to_hex(replacement), transaction=1))
    apply(matched, refused(replacement, Refusal.CONSUMER_FUNDS))
    assert the_match(matched) == ("released", "queued")


def test_when_a_seat_is_taken_its_other_bids_leave(matched: Store) -> None:
    """Each would cost the market an entry that the escrow refuses."""
    rivals = [another_bid(matched, budget=10**9 + n) for n in range(1, 4)]
    other = another_bid(matched, seat=b"\x55" * 32)
    step = apply(matched, the_opening())
    assert [state_of_bid(matched, bid) for bid in rivals] == [("refused", "seat_taken")] * 3
    assert state_of_bid(matched, other)[0] == "queued"
    assert {change.id for change in step.changes if isinstance(change, Left)} == set(map(wire.from_hex, rivals))


def test_when_a_lease_opens_no_other_match_of_its_bid_waits(matched: Store) -> None:
    """Such a match would be of a bid that is not in the book."""
    with matched.write() as session:
        first = session.exec(select(MatchRow)).one()
        offer = session.get_one(OfferRow, first.offer).model_dump() | {"id": "0x" + "09" * 32}
        session.add_all([OfferRow(**offer), MatchRow(round=2, position=0, bid=first.bid, offer=offer["id"], rate="1")])
    apply(matched, the_opening())
    with matched.read() as session:
        assert list(session.exec(select(MatchRow.state))) == ["opened", "released"]
        assert session.exec(select(BidRow.state)).one() == "leased"
