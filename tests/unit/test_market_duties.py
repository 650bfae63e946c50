"""What time alone ends is found behind any number of running leases, and is done once, also where blocks count late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from suanli_market.chain import journal
from suanli_market.chain.accounts import Accounts
from suanli_market.chain.duties import AGAIN_S, PATIENCE_S, Duties
from suanli_market.chain.projection import Projection, Stretch
from suanli_market.chain.writer import ChainWriter
from suanli_market.clearing.keeper import Keeper
from suanli_market.leasing.leases import state_of
from suanli_market.store import Store, insert_rows
from suanli_market.tables import BidRow, LeaseRow, MatchRow
from suanli_protocol import wire
from suanli_protocol.chain import Chain
from suanli_protocol.errors import ChainRevertedError
from suanli_protocol.escrow import Escrow
from suanli_protocol.events import Claimed, EscrowEvent, Opened
from suanli_protocol.lease import Kind, lease_id, terms
from support.builders import NOW, consumer, market, provider
from support.market_desk import Desk, a_bid_paper, an_offer_paper
from support.pool import Pool

RATE = 35_100
OTHERS = 600
ESCROW = "0x" + "11" * 20


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A market with one lease, claimed."""
    monkeypatch.setattr("suanli_market.clearing.keeper.time.time", lambda: float(NOW))
    opened = Store(tmp_path)
    opened.migrate()
    offer, bid = an_offer_paper(), a_bid_paper()
    desk = Desk(opened)
    desk.submit(offer, bid)
    desk.admission.stop()
    with opened.write() as session:
        journal.add_step(session, 0, "0x0", 0)
        session.add(MatchRow(round=1, position=0, bid=wire.to_hex(bid.id), offer=wire.to_hex(offer.id), rate=str(RATE)))
    apply(opened, Opened(1, bytes(32), bytes(32), 0, the_lease(), *parties(), bid.id, offer.id, RATE, 0, 1))
    apply(opened, Claimed(2, bytes(32), bytes(32), 0, the_lease(), 100, Kind.DONE, bytes(32), NOW + 5))
    yield opened
    opened.close()


def parties() -> tuple[str, str]:
    return provider().address, consumer().address


def the_lease() -> bytes:
    return lease_id(terms(a_bid_paper().paper, an_offer_paper().paper, rate=RATE, opened_at=NOW)[0])


def apply(store: Store, event: EscrowEvent) -> None:
    with store.write() as session, journal.recorded(session, event.block):
        Projection().apply(session, Stretch([event], {event.block: NOW}), opened=0)


def row_of(session: Session) -> LeaseRow:
    return session.get_one(LeaseRow, wire.to_hex(the_lease()))


def due_at(store: Store) -> int | None:
    with store.read() as session:
        return row_of(session).due_at


def final_at(store: Store) -> int:
    """When the claim is final."""
    with store.read() as session:
        return NOW + 5 + state_of(session, row_of(session)).clauses.window


class KnownEscrow(Escrow):
    """An escrow whose newest block a test knows."""

    word = b""

    def seat(self, seat_key: bytes, *, block: Any = "latest") -> bytes:
        assert block == "latest"
        return self.word


class KnownPool(Pool):
    """A chain that estimates."""

    estimates = 0

    def estimate(self, request: dict[str, Any]) -> int:
        self.estimates += 1
        return super().estimate(request)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The process's clock."""
    at = [1_000.0]
    monkeypatch.setattr("suanli_market.chain.duties.time.monotonic", lambda: at[0])
    return at


def a_writer(pool: Pool, store: Store) -> tuple[ChainWriter, KnownEscrow]:
    chain: Any = pool
    escrow = KnownEscrow(Chain("http://127.0.0.1:1"), ESCROW)
    with store.read() as session:
        escrow.word = state_of(session, row_of(session)).word
    keeper = Keeper(Accounts(escrow), market().address)
    keeper.now = lambda: final_at(store) + PATIENCE_S  # type: ignore[method-assign]
    nothing = lambda: None  # noqa: E731
    return ChainWriter(store, keeper, chain, escrow, market(), on_mined=nothing, catch_up=nothing, mined_s=0.0), escrow


def test_when_it_is_due_follows_the_chain_and_is_undone_with_it(store: Store) -> None:
    assert due_at(store) == final_at(store)
    with store.write() as session:
        journal.undo(session, 1)
    before = due_at(store)
    assert before is not None
    assert before > final_at(store), "the reclaim of a lease that runs"


def test_it_is_found_behind_any_number_of_running_leases(store: Store) -> None:
    with store.write() as session:
        running = row_of(session).model_dump() | {"state": "open", "opened_at": NOW - 9, "due_at": NOW + 10**6}
        insert_rows(session, "lease", [running | {"id": f"0x{n:064x}"} for n in range(OTHERS)])
    assert Duties(store).next(final_at(store) + PATIENCE_S - 1) is None
    duty = Duties(store).next(final_at(store) + PATIENCE_S)
    assert duty is not None
    assert (duty.id, duty.change) == (wire.to_hex(the_lease()), "finalize")


def test_a_time_that_is_not_known_is_looked_up(store: Store) -> None:
    """As leases from before it was kept have it."""
    with store.write() as session:
        row_of(session).due_at = 0
    assert Duties(store).next(NOW + PATIENCE_S) is None
    assert due_at(store) == final_at(store)


def test_what_is_mined_and_does_not_count_yet_is_not_sent_again(store: Store, clock: list[float]) -> None:
    pool = KnownPool()
    writer, escrow = a_writer(pool, store)
    writer.step()
    assert len(pool.sent) == 1
    escrow.word = b"\x01" * 32  # the newest block has it done; the followed ones do not say so for a long while
    for _ in range(13):
        clock[0] += AGAIN_S
        writer.step()
    assert (len(pool.sent), pool.estimates) == (1, 1)


def test_what_the_escrow_would_refuse_is_not_sent(store: Store, clock: list[float]) -> None:
    pool = KnownPool(void=True)
    writer, _ = a_writer(pool, store)
    for _ in range(3):
        writer.step()
        clock[0] += AGAIN_S
    assert (len(pool.sent), pool.estimates) == (0, 3)
    with pytest.raises(ChainRevertedError):
        pool.estimate({})


def test_a_lease_that_closed_is_none_of_them(store: Store) -> None:
    with store.write() as session:
        row = row_of(session)
        row.state = "finalized"
        session.add(row)
    assert Duties(store).next(final_at(store) + 10**6) is None
    with store.read() as session:
        assert session.get(BidRow, wire.to_hex(a_bid_paper().id)) is not None
