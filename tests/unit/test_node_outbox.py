"""The outbox: whatever it was doing when it was killed, a transaction is mined once, or known to be void."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from suanli_node.outbox import Outbox
from suanli_protocol import faults, letters
from suanli_protocol.errors import ChainError, ChainRevertedError, ChainUnavailableError, FundsError, TimedOutError
from suanli_protocol.letters import RAISES_MAX
from support import builders
from support.pool import Pool

TO = "0x" + "11" * 20


class Killed(BaseException):
    """kill -9, as far as a call can feel it."""


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def an_outbox(pool: Pool, folder: Path) -> Outbox:
    """As a process that begins has it."""
    chain: Any = pool
    return Outbox(chain, builders.provider(), folder / "outbox.json", folder / "gas.jsonl", mined_s=0.0)


def costs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "gas.jsonl").read_text().splitlines()]


def test_what_is_mined_is_noted_with_its_cost_and_forgotten(pool: Pool, folder: Path) -> None:
    receipt = an_outbox(pool, folder).send(TO, b"one", what="claim", lease="0xab")
    assert pool.contents() == [b"one"]
    assert not (folder / "outbox.json").exists()
    (line,) = costs(folder)
    assert (line["what"], line["lease"], line["wei"], line["gasUsed"]) == ("claim", "0xab", "80000", 40_000)
    assert line["transaction"] == "0x" + receipt.transaction.hex()


def test_what_is_stuck_is_sent_again_with_the_same_nonce_at_a_higher_fee(pool: Pool, folder: Path) -> None:
    pool.base = 190
    an_outbox(pool, folder).send(TO, b"one", what="claim")
    assert pool.contents() == [b"one"]
    assert {nonce for nonce, _ in pool.sent} == {0}
    fees = [fee for _, fee in pool.sent]
    assert fees == sorted(fees)
    assert all(later * 10 >= earlier * 11 for earlier, later in pairwise(fees)), "a pool's own rule"


def test_the_fee_has_a_bound_and_the_next_call_goes_on_from_there(pool: Pool, folder: Path) -> None:
    pool.base = 10**9
    with pytest.raises(TimedOutError):
        an_outbox(pool, folder).send(TO, b"one", what="claim")
    assert len(pool.sent) == RAISES_MAX + 1
    assert pool.sent[-1][1] <= 400, "at most four times the fee that was right at first"
    assert (folder / "outbox.json").exists()
    pool.base = 0
    pool.mine()
    an_outbox(pool, folder).send(TO, b"two", what="settle")
    assert pool.contents() == [b"one", b"two"]
    assert [line["what"] for line in costs(folder)] == ["claim", "settle"]


def test_the_bound_is_the_transactions_own_however_often_it_is_taken_up(pool: Pool, folder: Path) -> None:
    pool.base = 10**9
    for _ in range(6):  # a daemon that is started again and again, or a claim that is tried every few minutes
        with pytest.raises(TimedOutError):
            an_outbox(pool, folder).send(TO, b"one", what="claim")
    assert max(fee for _, fee in pool.sent) <= 400
    assert json.loads((folder / "outbox.json").read_bytes())["tip"] <= 20
    assert len(pool.waiting) == 1
    pool.waiting.clear()
    with pytest.raises(TimedOutError):
        an_outbox(pool, folder).send(TO, b"one", what="claim")
    assert len(pool.waiting) == 1, "a pool that dropped it gets it again"


def test_beyond_the_bound_only_the_chains_own_fee_is_followed(pool: Pool, folder: Path) -> None:
    pool.base = 10**9
    with pytest.raises(TimedOutError):
        an_outbox(pool, folder).send(TO, b"one", what="claim")
    pool.asks, pool.base = 5_000, 4_000  # all of the chain is dearer now
    an_outbox(pool, folder).settle()
    assert pool.contents() == [b"one"]
    assert pool.sent[-1][1] == 5_000


@pytest.mark.parametrize("restart", [False, True])
def test_a_refusal_of_a_later_version_forgets_no_earlier_one(pool: Pool, folder: Path, restart: bool) -> None:
    """The wallet has coin for the first version alone: it waits in the pool, and is mined in the end."""
    pool.base, pool.purse = 10**9, 100
    with pytest.raises(TimedOutError):
        an_outbox(pool, folder).send(TO, b"one", what="claim")
    assert [fee for _, fee in pool.sent] == [100]
    pool.base = 0
    pool.mine()
    outbox = an_outbox(pool, folder)
    if restart:
        outbox.settle()
    else:
        pool.purse = 10**9
        outbox.send(TO, b"two", what="settle")
    assert pool.contents()[0] == b"one"
    assert costs(folder)[0]["what"] == "claim"
    assert not (folder / "outbox.json").exists()


def test_what_became_void_meanwhile_is_given_up(pool: Pool, folder: Path) -> None:
    pool.base = 10**9
    with pytest.raises(TimedOutError):
        an_outbox(pool, folder).send(TO, b"one", what="claim")
    pool.waiting.clear()  # the pool has dropped it
    pool.base, pool.void = 100, True
    outbox = an_outbox(pool, folder)
    outbox.settle()
    assert not (folder / "outbox.json").exists()
    assert pool.mined == {}
    pool.void = False
    outbox.send(TO, b"two", what="release")
    assert pool.contents() == [b"two"]


def test_what_the_chain_would_refuse_is_never_written_nor_sent(pool: Pool, folder: Path) -> None:
    pool.void = True
    with pytest.raises(ChainRevertedError):
        an_outbox(pool, folder).send(TO, b"one", what="claim")
    assert (pool.sent, (folder / "outbox.json").exists()) == ([], False)


def test_what_the_endpoint_does_not_take_is_not_kept(pool: Pool, folder: Path) -> None:
    pool.full_of = "no coin for gas"
    with pytest.raises(FundsError):
        an_outbox(pool, folder).send(TO, b"one", what="claim")
    assert not (folder / "outbox.json").exists()


def test_an_answer_that_did_not_come_says_nothing_and_the_letter_is_kept(pool: Pool, folder: Path) -> None:
    pool.gone = True
    with pytest.raises(ChainUnavailableError):
        an_outbox(pool, folder).send(TO, b"one", what="claim")
    pool.gone = False
    an_outbox(pool, folder).settle()
    assert pool.contents() == [b"one"]
    assert [line["what"] for line in costs(folder)] == ["claim"]


@pytest.mark.parametrize("killed", [False, True])
def test_a_receipt_may_come_after_its_nonce_is_used(
    pool: Pool, folder: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """Endpoints tell of a block piece by piece; that is no other program's transaction."""
    pool.late = 4
    if killed:
        with monkeypatch.context() as patched:
            patched.setattr(faults, "reach", _killing)
            with pytest.raises(Killed):
                an_outbox(pool, folder).send(TO, b"one", what="claim")
        pool.void = True  # it is done: a second one would be refused
        an_outbox(pool, folder).settle()
    else:
        an_outbox(pool, folder).send(TO, b"one", what="claim")
    assert pool.contents() == [b"one"]
    assert [line["what"] for line in costs(folder)] == ["claim"]


def _killing(name: str) -> None:
    if name == "node.transaction.sent":
        raise Killed


def test_another_program_with_the_same_key_is_named(pool: Pool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.base = 10**9
    monkeypatch.setattr(letters, "GONE_S", 0.0)
    monkeypatch.setattr(time, "sleep", lambda _: pool.foreign())
    outbox = an_outbox(pool, folder)
    outbox._carrier._mined_s = 60.0
    with pytest.raises(ChainError, match="took nonce 0"):
        outbox.send(TO, b"one", what="claim")
    assert not (folder / "outbox.json").exists()


POINTS = ("node.transaction.recorded", "node.transaction.sent", "node.transaction.mined")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("base", [0, 10**9], ids=["mined at once", "stuck"])
def test_killed_at_any_point_a_transaction_is_mined_once(
    pool: Pool, folder: Path, monkeypatch: pytest.MonkeyPatch, point: str, base: int
) -> None:
    def strike(name: str) -> None:
        if name == point:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(faults, "reach", strike)
        pool.base = base
        first: Callable[[], object] = lambda: an_outbox(pool, folder).send(TO, b"one", what="claim")  # noqa: E731
        if point == POINTS[-1] and base:
            with pytest.raises(TimedOutError):
                first()
        else:
            with pytest.raises(Killed):
                first()
    pool.base = 0
    an_outbox(pool, folder).settle()
    assert pool.contents() == [b"one"]
    assert len({line["transaction"] for line in costs(folder)}) == 1
    assert not (folder / "outbox.json").exists()
