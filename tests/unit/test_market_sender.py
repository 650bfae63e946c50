"""The market's transactions: whenever it is killed, whatever the pool does, a batch is mined once at its one nonce."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from suanli_market.chain import journal
from suanli_market.chain.sender import Batch, Sender
from suanli_market.store import Store
from suanli_market.tables import BidRow, ChainTransactionRow, ChainVersionRow, MatchRow
from suanli_protocol import faults, letters
from suanli_protocol.errors import ChainError, ChainRevertedError, ChainUnavailableError, FundsError, TimedOutError
from suanli_protocol.letters import RAISES_MAX, NonceTakenError
from support import builders
from support.pool import Pool

ESCROW = "0x" + "11" * 20
STUCK = 10**9  # a fee that nothing reaches


class Killed(BaseException):
    """kill -9, as far as a call can feel it."""


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    opened.migrate()
    with opened.write() as session:
        paper: dict[str, Any] = {"paper": "{}", "signature": "0x", "constraints": "{}", "job_digest": "0x"}
        for n in range(2):
            bid = BidRow(
                id=f"0x{n}", seq=n, consumer="0x", seat=f"0x{n}", **paper, valid_until=0, received_at=0, state="matched"
            )
            session.add_all([bid, MatchRow(round=1, position=n, bid=bid.id, offer="0x", rate="1")])
    yield opened
    opened.close()


def a_sender(pool: Pool, store: Store) -> Sender:
    """As a process that begins has it."""
    chain: Any = pool
    return Sender(store, chain, builders.market(), ESCROW, on_mined=lambda: None, is_ended=lambda: False, mined_s=0.0)


def a_batch(data: bytes = b"one", *rows: int) -> Batch:
    return Batch("open", data, 150_000, rows or (1, 2))


def carriers(store: Store) -> list[int | None]:
    """The transaction of each match."""
    with store.read() as session:
        return list(session.exec(select(MatchRow.transaction)))


def intents(store: Store) -> list[tuple[int, str]]:
    """Nonce and state of what was written down."""
    with store.read() as session:
        return [(row.nonce, row.state) for row in session.exec(select(ChainTransactionRow))]


def versions(store: Store) -> set[str]:
    with store.read() as session:
        return set(session.exec(select(ChainVersionRow.hash)))


def test_what_is_mined_is_marked_with_its_cost_and_its_rows_stay_tied_to_it(pool: Pool, store: Store) -> None:
    a_sender(pool, store).send(a_batch())
    assert pool.contents() == [b"one"]
    assert carriers(store) == [1, 1]
    with store.read() as session:
        row = session.get_one(ChainTransactionRow, 1)
    assert (row.state, row.block, row.gas_used, row.gas_price) == ("mined", 1, 40_000, "2")
    assert {row.hash} == versions(store)


def test_what_is_stuck_is_replaced_at_its_nonce_and_nothing_goes_out_beside_it(pool: Pool, store: Store) -> None:
    pool.base = STUCK
    with pytest.raises(TimedOutError):
        a_sender(pool, store).send(a_batch())
    assert {nonce for nonce, _ in pool.sent} == {0}
    fees = [fee for _, fee in pool.sent]
    assert fees == sorted(set(fees))
    assert len(fees) == RAISES_MAX + 1
    assert fees[-1] <= 4 * pool.asks
    assert (intents(store), carriers(store)) == ([(0, "prepared")], [1, 1])


def test_the_bound_holds_over_restarts(pool: Pool, store: Store) -> None:
    pool.base = STUCK
    with pytest.raises(TimedOutError):
        a_sender(pool, store).send(a_batch())
    highest = pool.sent[-1]
    for _ in range(3):
        with pytest.raises(TimedOutError):
            a_sender(pool, store).resume()
    assert set(pool.sent[pool.sent.index(highest) :]) == {highest}, "the same version, sent again"
    pool.base = 0
    a_sender(pool, store).resume()
    assert pool.contents() == [b"one"]
    assert intents(store) == [(0, "mined")]


@pytest.mark.parametrize("point", ["intended", "sent", "mined", "marked"])
@pytest.mark.parametrize("base", [0, STUCK], ids=["mined at once", "stuck"])
def test_killed_at_any_point_a_batch_is_mined_once(
    pool: Pool, store: Store, monkeypatch: pytest.MonkeyPatch, point: str, base: int
) -> None:
    def strike(name: str) -> None:
        if name == f"market.open.{point}":
            raise Killed

    pool.base = base
    with monkeypatch.context() as patched:
        patched.setattr(faults, "reach", strike)
        with pytest.raises(TimedOutError if base and point in ("mined", "marked") else Killed):
            a_sender(pool, store).send(a_batch())
    before = versions(store)
    pool.base = 0
    sender = a_sender(pool, store)
    sender.resume()
    assert pool.contents() == [b"one"]
    assert versions(store) == before, "the same transaction, not another"
    assert (intents(store), carriers(store)) == ([(0, "mined")], [1, 1])
    sender.send(a_batch(b"two"))
    assert pool.contents() == [b"one", b"two"]


def test_an_answer_that_did_not_come_says_nothing(pool: Pool, store: Store) -> None:
    pool.gone = True
    sender = a_sender(pool, store)
    with pytest.raises(ChainUnavailableError):
        sender.send(a_batch())
    assert carriers(store) == [1, 1]
    pool.gone = False
    sender.resume()
    assert (pool.contents(), intents(store)) == ([b"one"], [(0, "mined")])


def test_what_the_endpoint_never_took_leaves_no_trace(pool: Pool, store: Store) -> None:
    """A key without coin tries again for days: that must not fill the disk."""
    pool.full_of = "no coin for gas"
    sender = a_sender(pool, store)
    for _ in range(3):
        with pytest.raises(FundsError):
            sender.send(a_batch())
    assert (intents(store), versions(store), carriers(store)) == ([], set(), [None, None])
    pool.full_of = ""
    sender.send(a_batch())
    assert intents(store) == [(0, "mined")]


def test_a_replacement_that_is_not_taken_gives_nothing_back(pool: Pool, store: Store) -> None:
    pool.base = STUCK
    with pytest.raises(TimedOutError):
        a_sender(pool, store).send(a_batch())
    pool.full_of = "no coin for gas"
    with pytest.raises(TimedOutError):
        a_sender(pool, store).resume()
    assert (intents(store), carriers(store)) == ([(0, "prepared")], [1, 1])


def test_another_program_with_the_same_key_takes_the_nonce_and_the_rows_wait_again(
    pool: Pool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "GONE_S", 0.0)
    pool.base = STUCK
    with pytest.raises(TimedOutError):
        a_sender(pool, store).send(a_batch())
    pool.foreign()
    with pytest.raises(NonceTakenError, match="took nonce 0"):
        a_sender(pool, store).resume()
    assert (intents(store), carriers(store)) == ([(0, "dropped")], [None, None])


def test_a_batch_that_reverts_is_given_back(pool: Pool, store: Store) -> None:
    pool.reverts = True
    sender = a_sender(pool, store)
    with pytest.raises(ChainRevertedError):
        sender.send(a_batch())
    assert (intents(store), carriers(store)) == ([(0, "failed")], [None, None])
    pool.reverts = False
    sender.send(a_batch(b"two"))
    assert intents(store)[1:] == [(1, "mined")]


@pytest.mark.parametrize("forgets", [True, False], ids=["the pool forgets", "mined again"])
def test_what_a_reorganisation_takes_is_the_same_transaction_again(pool: Pool, store: Store, forgets: bool) -> None:
    sender = a_sender(pool, store)
    sender.send(a_batch(b"one", 1))
    sender.send(a_batch(b"two", 2))
    before = versions(store)
    with store.write() as session:
        journal.undo(session, 0)
    assert intents(store) == [(0, "prepared"), (1, "prepared")]
    assert carriers(store) == [1, 2], "nothing of them goes out in another transaction"
    if forgets:
        pool.lose()
        pool.lose()
    sender.resume()
    assert pool.contents() == [b"one", b"two"]
    assert versions(store) == before
    assert intents(store) == [(0, "mined"), (1, "mined")]


def test_a_reorganisation_leaves_what_was_mined_before_it(pool: Pool, store: Store) -> None:
    sender = a_sender(pool, store)
    sender.send(a_batch(b"one", 1))
    sender.send(a_batch(b"two", 2))
    with store.write() as session:
        journal.undo(session, 1)
    assert intents(store) == [(0, "mined"), (1, "prepared")]
    pool.lose()
    sender.resume()
    assert pool.contents() == [b"one", b"two"]


def test_what_was_lost_before_its_block_counted_is_sent_again_before_what_follows(pool: Pool, store: Store) -> None:
    """The journal knows no such block, and of a lease that time ended no row waits for the answer."""
    sender = a_sender(pool, store)
    sender.send(a_batch(b"one", 1))
    sender.send(Batch("reclaim", b"two", 150_000, ("0x07",)))
    pool.lose()
    pool.lose()
    with pytest.raises(TimedOutError):
        sender.send(a_batch(b"three", 2))
    sender.resume()
    assert pool.contents() == [b"one", b"two", b"three"]
    assert intents(store) == [(0, "mined"), (1, "mined"), (2, "mined")]


def test_a_refused_batch_is_no_reason_to_forget_the_next_nonce(pool: Pool, store: Store) -> None:
    pool.refuses = b"large"
    sender = a_sender(pool, store)
    with pytest.raises(ChainError):
        sender.send(a_batch(b"large"))
    sender.send(a_batch(b"small"))
    assert (pool.contents(), [nonce for nonce, _ in pool.sent]) == ([b"small"], [0])


def test_what_the_endpoint_never_takes_leaves_its_nonce_to_nothing(
    pool: Pool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written down, never sent, and refused from now on: its nonce would hold up all others for ever."""

    def strike(name: str) -> None:
        if name == "market.open.intended":
            raise Killed

    monkeypatch.setattr(letters, "GONE_S", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(faults, "reach", strike)
        with pytest.raises(Killed):
            a_sender(pool, store).send(a_batch())
    pool.refuses = b"one"
    sender = a_sender(pool, store)
    with pytest.raises(NonceTakenError):
        sender.resume()
    assert (pool.contents(), intents(store), carriers(store)) == ([b""], [(0, "dropped")], [None, None])
    sender.resume()
    sender.send(a_batch(b"two"))
    assert pool.contents() == [b"", b"two"]


def test_what_the_pool_holds_keeps_its_nonce_though_it_is_refused_again(pool: Pool, store: Store) -> None:
    pool.base = STUCK
    with pytest.raises(TimedOutError):
        a_sender(pool, store).send(a_batch())
    sent = list(pool.sent)
    pool.refuses = b"one"
    with pytest.raises(TimedOutError):
        a_sender(pool, store).resume()
    assert pool.sent == sent
    assert (intents(store), carriers(store)) == ([(0, "prepared")], [1, 1])


def test_without_coin_no_nonce_is_left_to_nothing(pool: Pool, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.gone = True
    with pytest.raises(ChainUnavailableError):
        a_sender(pool, store).send(a_batch())
    pool.gone = False
    pool.lose()
    pool.full_of = "no coin for gas"
    with pytest.raises(TimedOutError):
        a_sender(pool, store).resume()
    pool.full_of = ""
    a_sender(pool, store).resume()
    assert (pool.contents(), intents(store)) == ([b"one"], [(0, "mined")])
