"""The journal puts the rows back to exactly what they were at any step, whatever the chain had made of them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, select

from suanli_market.admission.submissions import Withdrawal
from suanli_market.chain import journal
from suanli_market.chain.projection import Projection, Stretch
from suanli_market.clearing.book import Change, Entered
from suanli_market.store import Store
from suanli_market.tables import (
    BidRow,
    ChainChangeRow,
    ChainStepRow,
    ChainVersionRow,
    EventRow,
    GoneLeaseRow,
    LeaseRow,
    LogChunkRow,
    MatchRow,
    OfferRow,
    ReceiptRow,
)
from suanli_protocol import wire
from suanli_protocol.events import (
    Bumped,
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
    Stopped,
)
from suanli_protocol.lease import Kind, Previous, Refusal, lease_id, terms
from support.builders import NOW, a_receipt, a_seat, consumer, provider
from support.market_desk import Desk, a_bid_paper, an_offer_paper

OURS = b"\x01" * 32
RATE = 35_100


class Story:
    """Bids that were matched, and what the chain says of them: one step for each block."""

    def __init__(self, store: Store, bids: int) -> None:
        self.store, self.offer = store, an_offer_paper()
        self.bids = [a_bid_paper(seat=a_seat(n), attempts=3) for n in range(bids)]
        self.block = self.opened = 0
        desk = Desk(store)
        desk.submit(self.offer, *self.bids)
        desk.admission.stop()
        with store.write() as session:
            journal.add_step(session, 0, "0x0", 0)
            session.add(ChainVersionRow(hash=wire.to_hex(OURS), transaction=1))
            for bid in session.exec(select(BidRow)).all():
                bid.constraints = bid.constraints.replace('"retry":[]', '"retry":["interruption","provider-error"]')
                session.add(bid)
        for n in range(bids):
            self.match(n)

    def match(self, n: int) -> None:
        """As a round does it: outside the journal."""
        with self.store.write() as session:
            bid = session.get_one(BidRow, wire.to_hex(self.bids[n].id))
            bid.state = "matched"
            session.add(bid)
            offer = wire.to_hex(self.offer.id)
            session.add(MatchRow(round=1, position=n, bid=bid.id, offer=offer, rate=str(RATE), transaction=1))

    def withdraw(self, n: int) -> None:
        """The consumer takes its bid off the book."""
        desk = Desk(self.store)
        outcomes = desk.submit(Withdrawal("bid", self.bids[n].id, consumer().address))
        desk.admission.stop()
        assert isinstance(outcomes[0], dict), outcomes

    def step(self, *events: Any) -> list[Change]:
        """One block; events are given without their place. What it changes in the book."""
        self.block += 1
        with self.store.write() as session:
            with journal.recorded(session, self.block):
                times = dict.fromkeys(range(self.block + 1), NOW + self.block)
                step = Projection().apply(session, Stretch(events, times), self.opened)
            journal.add_step(session, self.block, hex(self.block), step.opened)
        self.opened = step.opened
        return step.changes

    def at(self) -> tuple[int, bytes, bytes, int]:
        """Where the next events stand."""
        return (self.block + 1, bytes(32), OURS, 0)

    def opening(self, n: int) -> Opened:
        """The chain opened a bid's next attempt."""
        with self.store.read() as session:
            row = session.get_one(BidRow, wire.to_hex(self.bids[n].id))
            attempt, spent = row.attempt, int(row.spent) if row.attempt > 1 else 0
        bid, offer = self.bids[n], self.offer
        lease, _ = terms(
            bid.paper, offer.paper, rate=RATE, attempt=attempt, spent=spent, opened_at=NOW + self.block + 1
        )
        parties = (provider().address, consumer().address)
        return Opened(*self.at(), lease_id(lease), *parties, bid.id, offer.id, RATE, 0, attempt)

    def lease(self, n: int) -> bytes:
        """The open lease of a bid."""
        with self.store.read() as session:
            return wire.from_hex(session.get_one(BidRow, wire.to_hex(self.bids[n].id)).lease or "")

    def undo(self, block: int) -> list[str]:
        """A reorganisation down to a block."""
        with self.store.write() as session:
            before = set(session.exec(select(GoneLeaseRow.id)).all())
            journal.undo(session, block)
            gone = set(session.exec(select(GoneLeaseRow.id)).all()) - before
            kept = session.exec(select(ChainStepRow).where(ChainStepRow.block == block)).one()
            self.block, self.opened = kept.block, kept.opened
        return sorted(gone)

    def send_again(self) -> None:
        """The market's openings are under way once more."""
        with self.store.write() as session:
            for match in session.exec(select(MatchRow).where(MatchRow.state == "pending")).all():
                match.transaction = 2
                session.add(match)

    def state(self, n: int) -> tuple[str, int]:
        """State and attempt of a bid."""
        with self.store.read() as session:
            row = session.get_one(BidRow, wire.to_hex(self.bids[n].id))
            return row.state, row.attempt


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr("suanli_market.clearing.keeper.time.time", lambda: float(NOW))
    opened = Store(tmp_path)
    opened.migrate()
    yield opened
    opened.close()


def dump(store: Store) -> dict[str, list[dict[str, Any]]]:
    """All rows that follow the chain; what waits for a transaction of this market is to be sent anew in any case."""
    with store.read() as session:
        return {name: [_plain(row) for row in _rows(session, kind)] for name, kind in journal.FOLLOWING.items()}


def _rows(session: Session, kind: Any) -> Sequence[Any]:
    found: Sequence[Any] = session.exec(select(kind)).all()
    return found


def _plain(row: Any) -> dict[str, Any]:
    values: dict[str, Any] = row.model_dump()
    if isinstance(row, MatchRow | ReceiptRow):
        values.pop("transaction")
    return values


def a_receipt_of(store: Store, lease: bytes) -> None:
    """The provider's receipt, countersigned: it waits to be settled. A piece of the log with it."""
    with store.write() as session:
        paper, id_ = wire.paper_to_json(a_receipt(lease=lease)), wire.to_hex(lease)
        session.add(
            ReceiptRow(lease=id_, receipt=str(paper), signature="0x", evidence="{}", state="queued", transaction=7)
        )
        session.add(LogChunkRow(lease=id_, seq=0, data=b"sealed"))


def test_every_way_of_a_lease_is_undone_step_by_step(store: Store) -> None:
    story = Story(store, bids=4)
    dumps = [dump(store)]
    evidence = bytes(32)

    def step(*events: EscrowEvent) -> None:
        story.step(*events)
        dumps.append(dump(store))

    step(*[story.opening(n) for n in range(4)])
    leases = [story.lease(n) for n in range(4)]
    step(Stopped(*story.at(), leases[0], provider().address, NOW, False), Bumped(*story.at(), "0x" + "01" * 20, 4))
    step(
        Claimed(*story.at(), leases[0], 900, Kind.DONE, evidence, NOW + 3),
        Settled(*story.at(), leases[1], 40, 0, Kind.INTERIM, evidence),
    )
    step(Disputed(*story.at(), leases[0], consumer().address, NOW + 4))
    step(
        Resolved(*story.at(), leases[0], 500, 2, 0, 10, 20, evidence),
        Settled(*story.at(), leases[1], 50, 0, Kind.FAILED, evidence),
    )
    step(Claimed(*story.at(), leases[2], 0, Kind.FAILED, evidence, NOW + 6))
    step(Finalized(*story.at(), leases[2], 0, 0, Kind.FAILED, False), Released(*story.at(), leases[3], 0, 0))
    assert [story.state(n) for n in range(4)] == [("leased", 1), ("queued", 2), ("queued", 2), ("queued", 2)]
    assert story.opened == 4
    for block in range(len(dumps) - 2, -1, -1):
        gone = story.undo(block)
        assert dump(store) == dumps[block], block
        assert story.opened == (4 if block else 0)
        assert sorted(gone) == (sorted(map(wire.to_hex, leases)) if not block else [])


@pytest.mark.parametrize("seed", range(4))
def test_any_stretches_are_undone_to_any_step(store: Store, seed: int) -> None:
    """Random lives of three bids; after going back to any step the same events give the same rows again."""
    chance, story = random.Random(seed), Story(store, bids=3)
    dumps, steps = [dump(store)], []
    for _ in range(10):
        events = [event for n in range(3) for event in _next_event(story, n, chance)]
        story.step(*events)
        steps.append(events)
        dumps.append(dump(store))
    back = chance.randrange(10)
    story.undo(back)
    assert dump(store) == dumps[back]
    story.send_again()
    for number, events in itertools.islice(enumerate(steps), back, None):
        story.step(*events)
        assert dump(store) == dumps[number + 1]


def _next_event(story: Story, n: int, chance: random.Random) -> list[EscrowEvent]:
    state, _ = story.state(n)
    if state == "matched":
        return [chance.choice([story.opening(n), Refused(*story.at(), a_seat(n), 0, Refusal.SEAT_TAKEN)])]
    if state != "leased":
        return []
    lease, at = story.lease(n), story.at()
    with story.store.read() as session:
        held = session.get_one(LeaseRow, wire.to_hex(lease)).state
    after: dict[str, list[EscrowEvent]] = {
        "open": [
            Stopped(*at, lease, consumer().address, NOW, True),
            Settled(*at, lease, 9, 0, Kind.DONE, bytes(32)),
            Claimed(*at, lease, 7, Kind.DONE, bytes(32), NOW),
        ],
        "stopped": [Claimed(*at, lease, 7, Kind.FAILED, bytes(32), NOW), Reclaimed(*at, lease, 0, 0, 5)],
        "claimed": [
            Disputed(*at, lease, consumer().address, NOW),
            Finalized(*at, lease, 7, 0, Kind.DONE, False),
        ],
        "disputed": [Resolved(*at, lease, 5, 0, 0, 0, 0, bytes(32)), Finalized(*at, lease, 7, 0, Kind.DONE, True)],
    }
    found = after.get(held, [])
    return [chance.choice(found)] if found and chance.random() < 0.8 else []


def test_what_was_handed_over_for_a_lease_outlives_it(store: Store) -> None:
    story = Story(store, bids=2)
    story.step(story.opening(0))
    story.step(story.opening(1))
    for n in range(2):
        a_receipt_of(store, story.lease(n))
    leases = {wire.to_hex(story.lease(n)) for n in range(2)}
    gone = story.undo(1)
    with store.read() as session:
        assert {row.lease for row in session.exec(select(LogChunkRow))} == leases
        assert {row.lease for row in session.exec(select(ReceiptRow))} == leases
        assert {row.transaction for row in session.exec(select(ReceiptRow))} == {None}  # it is sent again
        match = session.exec(select(MatchRow).where(MatchRow.bid == wire.to_hex(story.bids[1].id))).one()
        taken = [(row.id, row.at > 0) for row in session.exec(select(GoneLeaseRow))]
    assert (match.state, match.transaction) == ("pending", None)
    assert taken == [(gone[0], True)], "to be deleted if it does not come back"
    assert len(gone) == 1
    assert story.state(1) == ("matched", 1)
    story.step(story.opening(1))
    assert {wire.to_hex(story.lease(n)) for n in range(2)} == leases  # in the same second: the same lease


def test_a_match_for_an_attempt_that_is_undone_is_released(store: Store) -> None:
    """The lease was released and its bid matched again; then the chain forgets the release: the lease goes on."""
    story = Story(store, bids=1)
    story.step(story.opening(0))
    story.step(Released(*story.at(), story.lease(0), 0, 0))
    assert story.state(0) == ("queued", 2)
    story.match(0)
    story.undo(1)
    assert story.state(0) == ("leased", 1)
    with store.read() as session:
        assert [(row.state, row.reason) for row in session.exec(select(MatchRow))] == [
            ("opened", ""),
            ("released", "reorganised"),
        ]


def test_of_two_matches_of_a_bid_the_newer_stays(store: Store) -> None:
    story = Story(store, bids=1)
    story.step(Refused(*story.at(), a_seat(0), 0, Refusal.CONSUMER_FUNDS))
    story.match(0)
    story.undo(0)
    with store.read() as session:
        assert [row.state for row in session.exec(select(MatchRow))] == ["released", "pending"]
    assert story.state(0) == ("matched", 1)


def test_a_withdrawn_bid_stays_withdrawn(store: Store) -> None:
    story = Story(store, bids=1)
    story.step(Refused(*story.at(), a_seat(0), 0, Refusal.CONSUMER_FUNDS))
    with store.write() as session:
        bid = session.exec(select(BidRow)).one()
        bid.state, bid.reason = "withdrawn", ""
        session.add(bid)
    story.undo(0)
    assert story.state(0)[0] == "withdrawn"
    with store.read() as session:
        assert session.exec(select(MatchRow)).one().state == "released"


def test_a_bid_that_was_withdrawn_between_two_attempts_stays_so_when_the_retry_comes_again(store: Store) -> None:
    story = Story(store, bids=1)
    story.step(story.opening(0))
    released = Released(*story.at(), story.lease(0), 0, 0)
    story.step(released)
    story.withdraw(0)
    withdrawn = dump(store)
    assert story.state(0) == ("withdrawn", 2)
    story.undo(1)
    assert story.state(0) == ("leased", 1), "its lease goes on"
    changes = story.step(released)
    assert dump(store) == withdrawn
    assert not [change for change in changes if isinstance(change, Entered)], "it does not enter the book"
    with store.read() as session:
        told = list(session.exec(select(EventRow.kind).where(EventRow.kind == "bid.retried")))
    assert len(told) == 1


def test_the_proof_of_the_attempt_is_undone_with_it(store: Store) -> None:
    story = Story(store, bids=1)
    story.step(story.opening(0))
    story.step(Settled(*story.at(), story.lease(0), 30, 0, Kind.FAILED, bytes(32)))
    with store.read() as session:
        bid = session.exec(select(BidRow)).one()
        assert Previous.decode(bytes.fromhex(bid.previous)).total == int(bid.spent) == 30
    story.undo(1)
    with store.read() as session:
        bid = session.exec(select(BidRow)).one()
        assert (bid.previous, bid.spent, bid.attempt, bid.lease) == ("", "0", 1, wire.to_hex(story.lease(0)))


def test_only_the_newest_steps_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "STEPS_KEPT", 3)
    story = Story(store, bids=4)
    for n in range(4):
        story.step(story.opening(n))
        story.step()
    with store.read() as session:
        assert [step.block for step in journal.steps(session, up_to=99)] == [8, 7, 6]
        assert {change.block for change in session.exec(select(ChainChangeRow))} <= {6, 7, 8}
    story.undo(6)
    assert [story.state(n)[0] for n in range(4)] == ["leased", "leased", "leased", "matched"]
    with store.read() as session:
        assert {row.id for row in session.exec(select(OfferRow))} == {wire.to_hex(story.offer.id)}


def test_what_the_market_does_by_itself_is_not_recorded(store: Store) -> None:
    story = Story(store, bids=1)
    story.step(story.opening(0))
    with store.write() as session:
        row = session.exec(select(LeaseRow)).one()
        row.phase = "running"
        session.add(row)
    story.step(Stopped(*story.at(), story.lease(0), provider().address, NOW, False))
    story.undo(1)
    with store.read() as session:
        row = session.exec(select(LeaseRow)).one()
        assert (row.phase, row.state, row.clock) == ("running", "open", 0)
