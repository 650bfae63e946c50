"""Rounds over a real database: what a clearing writes, when bids wait, what a withdrawal in between does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, select

from suanli_market.admission.log import head_at
from suanli_market.admission.submissions import Withdrawal
from suanli_market.clearing.book import Opened, View
from suanli_market.clearing.matching import CheapestFirst, Clearing
from suanli_market.clearing.rounds import Rounds
from suanli_market.tables import BidRow, EventRow, MatchRow, OfferRow, RoundRow
from suanli_protocol import wire
from suanli_protocol.escrow import Block
from suanli_protocol.lease import Account
from suanli_protocol.log import merkle_root
from suanli_protocol.messages import ZERO32, Match, Round
from suanli_protocol.signing import keccak256, struct_hash
from support.builders import CREDIT, NOW, a_need, a_seat, consumer, market, provider
from support.market_desk import Desk, a_bid_paper, a_desk, an_offer_paper


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("suanli_market.clearing.rounds.time.monotonic", made.monotonic)
    return made


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with a_desk(tmp_path, monkeypatch) as made:
        yield made


def some_rounds(desk: Desk, matched: list[int] | None = None, policy: Any = None) -> Rounds:
    counts = matched if matched is not None else []
    return Rounds(
        desk.store,
        desk.keeper,
        policy or CheapestFirst(),
        market=market().address,
        round_ms=500,
        decimals=6,
        symbol="DEVC",
        on_match=lambda: counts.append(1),
    )


def kinds_of(desk: Desk, party: str) -> list[str]:
    with desk.store.read() as session:
        return list(session.exec(select(EventRow.kind).where(EventRow.party == party).order_by(col(EventRow.seq))))


def test_a_round_states_all_it_claims_and_follows_the_one_before(desk: Desk, clock: Clock) -> None:
    matched: list[int] = []
    rounds = some_rounds(desk, matched)
    desk.submit(an_offer_paper(), a_bid_paper())
    rounds.step()
    desk.submit(a_bid_paper(seat=a_seat(1)))
    rounds.step()
    assert matched == [1, 1]
    with desk.store.read() as session:
        rows = session.exec(select(RoundRow).order_by(col(RoundRow.number))).all()
        first, second = (wire.paper_from_json(Round, json.loads(row.message)) for row in rows)
        (pending, _) = session.exec(select(MatchRow).order_by(col(MatchRow.id))).all()
        assert [wire.from_hex(row.hash) for row in rows] == [struct_hash(first), struct_hash(second)]
        assert (first.previous, second.previous) == (ZERO32, struct_hash(first))
        assert second.first_seq == first.last_seq + 1
        assert first.seed == keccak256(ZERO32 + head_at(session, first.last_seq))
        assert second.seed == keccak256(struct_hash(first) + head_at(session, second.last_seq))
        assert (first.block_number, first.block_hash) == (1, b"\x01" * 32)
    match = Match(wire.from_hex(pending.bid), wire.from_hex(pending.offer), int(pending.rate), 0)
    assert first.matches_root == merkle_root([keccak256(struct_hash(match))])
    assert (first.pending_root, first.prices_root, first.bound, first.surplus) == (ZERO32, ZERO32, 0, 0)
    assert kinds_of(desk, consumer().address) == ["bid.queued", "bid.matched", "bid.queued", "bid.matched"]


def test_a_pending_match_holds_its_capacity(desk: Desk, clock: Clock) -> None:
    rounds, need = some_rounds(desk), a_need(cpu_milli=3000).pack()
    desk.submit(an_offer_paper(), a_bid_paper(need=need, max_rate=200_000))
    rounds.step()
    desk.submit(a_bid_paper(need=need, max_rate=200_000, seat=a_seat(1)))
    rounds.step()
    with desk.store.read() as session:
        assert len(session.exec(select(MatchRow)).all()) == 1


def test_an_unmatched_bid_is_told_once(desk: Desk, clock: Clock) -> None:
    rounds = some_rounds(desk)
    desk.submit(an_offer_paper(), a_bid_paper(max_rate=1))
    for _ in range(3):
        rounds.step()
    desk.submit(an_offer_paper(valid_until=NOW + 700))
    rounds.step()
    assert kinds_of(desk, consumer().address) == ["bid.queued", "bid.unmatched"]
    some_rounds(desk).step()  # as after a restart
    assert kinds_of(desk, consumer().address) == ["bid.queued", "bid.unmatched"]


def test_competing_bids_wait_for_the_round_and_others_do_not(desk: Desk, clock: Clock) -> None:
    rounds, need = some_rounds(desk), a_need(cpu_milli=3000).pack()
    low, high = a_bid_paper(need=need, max_rate=150_000), a_bid_paper(need=need, max_rate=250_000, seat=a_seat(1))
    desk.submit(low, high, an_offer_paper())
    rounds.step()
    clock.seconds += 0.4
    rounds.step()
    with desk.store.read() as session:
        assert session.exec(select(MatchRow)).all() == []
    clock.seconds += 0.11
    rounds.step()
    with desk.store.read() as session:
        (match,) = session.exec(select(MatchRow)).all()
    assert match.bid == wire.to_hex(high.id)


def test_a_round_that_leaves_bids_waiting_opens_the_next(desk: Desk, clock: Clock) -> None:
    """What comes free then waits for no more than the rest of that round."""
    rounds, need = some_rounds(desk), a_need(cpu_milli=3000).pack()
    bids = [a_bid_paper(need=need, max_rate=200_000, seat=a_seat(n)) for n in range(4)]
    desk.submit(an_offer_paper(), *bids)

    def matched() -> int:
        rounds.step()
        with desk.store.read() as session:
            return len(session.exec(select(MatchRow)).all())

    def comes_free() -> None:
        (bid,) = [match.bid for match in latest_match()]
        desk.keeper.apply([Opened(wire.from_hex(bid))])

    def latest_match() -> list[MatchRow]:
        with desk.store.read() as session:
            return list(session.exec(select(MatchRow).order_by(col(MatchRow.id).desc()).limit(1)))

    assert matched() == 0
    clock.seconds += 0.5
    assert matched() == 1
    clock.seconds += 0.3
    comes_free()
    assert matched() == 1
    clock.seconds += 0.2
    assert matched() == 2
    clock.seconds += 0.6
    assert matched() == 2
    comes_free()
    assert matched() == 3


class Meddler(CheapestFirst):
    """A policy during whose work a paper is withdrawn."""

    def __init__(self, desk: Desk, withdrawal: Withdrawal) -> None:
        self._desk, self._withdrawal = desk, withdrawal

    def clear(self, bids: Any, offers: Any, facts: Any) -> Clearing:
        """Withdraws, then clears what was there before."""
        self._desk.submit(self._withdrawal)
        return super().clear(bids, offers, facts)


def test_a_bid_withdrawn_during_the_clearing_is_not_matched(desk: Desk, clock: Clock) -> None:
    bid = a_bid_paper()
    desk.submit(an_offer_paper(), bid)
    matched: list[int] = []
    rounds = some_rounds(desk, matched, Meddler(desk, Withdrawal("bid", bid.id, consumer().address)))
    rounds.step()
    assert matched == []
    with desk.store.read() as session:
        assert session.exec(select(MatchRow)).all() == []
        assert session.get_one(BidRow, wire.to_hex(bid.id)).state == "withdrawn"
    view: View = desk.keeper.view()
    assert view.waiting == ()
    assert view.facts.account(provider().address) == Account(free=100 * CREDIT)


def test_an_offer_withdrawn_during_the_clearing_is_not_matched(desk: Desk, clock: Clock) -> None:
    offer, bid = an_offer_paper(), a_bid_paper()
    desk.submit(offer, bid)
    matched: list[int] = []
    some_rounds(desk, matched, Meddler(desk, Withdrawal("offer", offer.id, provider().address))).step()
    assert matched == []
    with desk.store.read() as session:
        assert session.exec(select(MatchRow)).all() == []
        assert session.get_one(BidRow, wire.to_hex(bid.id)).state == "queued"
    assert [bid.id for bid in desk.keeper.view().waiting] == [bid.id]


def test_an_offer_that_left_by_its_row_leaves_the_book(desk: Desk, clock: Clock) -> None:
    offer, bid = an_offer_paper(), a_bid_paper()
    desk.submit(offer, bid)
    with desk.store.write() as session:
        session.get_one(OfferRow, wire.to_hex(offer.id)).state = "withdrawn"
    rounds = some_rounds(desk)
    rounds.step()
    rounds.step()
    assert kinds_of(desk, consumer().address) == ["bid.queued", "bid.unmatched"]
    assert desk.keeper.count(provider().address) == (0, 1)


def test_what_is_past_its_time_leaves(desk: Desk, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = some_rounds(desk)
    offer, bid = an_offer_paper(), a_bid_paper(max_rate=1)
    desk.submit(offer, bid)
    rounds.step()
    monkeypatch.setattr("suanli_market.clearing.keeper.time.time", lambda: float(NOW + 600))
    clock.seconds += 10
    rounds.step()
    with desk.store.read() as session:
        row = session.get_one(BidRow, wire.to_hex(bid.id))
        assert (row.state, row.reason) == ("expired", "queue_timeout")
        assert session.get_one(OfferRow, wire.to_hex(offer.id)).state == "expired"
        last = session.exec(select(EventRow).where(EventRow.kind == "bid.expired")).one()
    assert json.loads(last.data)["rejections"][0]["condition"] == "rate"
    assert kinds_of(desk, provider().address) == ["offer.expired"]
    assert desk.keeper.count(consumer().address) == (0, 0)


class Moved(CheapestFirst):
    """A policy during which the chain goes on."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def clear(self, *arguments: Any) -> Clearing:
        found = super().clear(*arguments)
        self._desk.keeper.advance(Block(2, b"\x02" * 32, b"\x01" * 32, NOW, 0), set(), [])
        return found


def test_a_round_states_the_block_that_it_judged_by(desk: Desk, clock: Clock) -> None:
    """An auditor replays the round on the facts of that block."""
    desk.submit(an_offer_paper(), a_bid_paper())
    some_rounds(desk, policy=Moved(desk)).step()
    with desk.store.read() as session:
        message = wire.paper_from_json(Round, json.loads(session.exec(select(RoundRow)).one().message))
    assert (message.block_number, message.block_hash) == (1, b"\x01" * 32)
