"""The outbox: whatever it was doing when it was killed, a transaction is mined once, or known to be void."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from suanli_node import outbox as outbox_module
from suanli_node.outbox import RAISES_MAX, Outbox
from suanli_protocol import faults
from suanli_protocol.chain import SignedTransaction
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import ChainError, ChainRevertedError, ChainUnavailableError, FundsError, TimedOutError
from support import builders

TO = "0x" + "11" * 20


class Killed(BaseException):
    """kill -9, as far as a call can feel it."""


@dataclass
class Pool:
    """A chain as its endpoint shows it: a pool with its rule for replacements, and blocks that are made when asked."""

    base: int = 100  # the highest fee that a transaction needs; under it one stays in the pool
    waiting: dict[int, tuple[bytes, int, bytes]] = field(default_factory=dict)  # by nonce: hash, fee, data
    mined: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    sent: list[tuple[int, int]] = field(default_factory=list)  # nonce and fee of each version that came
    void: bool = False
    full_of: str = ""  # why nothing is taken
    gone: bool = False  # no answer comes
    asks: int = 100  # the fee that it says is right
    purse: int = 2**60  # the highest fee that the wallet's coin suffices for
    late: int = 0  # so often a receipt is not there yet, though the nonce is used

    def mine(self) -> None:
        """A block with what pays enough."""
        for nonce, (version, fee, data) in sorted(self.waiting.items()):
            if fee >= self.base and nonce == len(self.mined):
                self.mined[version] = (nonce, data)
                del self.waiting[nonce]

    def foreign(self) -> None:
        """Another program with the same key."""
        nonce = len(self.mined)
        self.waiting.pop(nonce, None)
        self.mined[b"\xff" * 31 + bytes([nonce])] = (nonce, b"")

    # What the outbox asks of a chain

    def estimate(self, _: dict[str, Any]) -> int:
        if self.void:
            raise ChainRevertedError("the escrow has closed the seat")
        return 50_000

    def fees(self) -> tuple[int, int]:
        return self.asks, 1

    def nonce(self, _: str, block: str = "pending") -> int:
        return len(self.mined) + (len(self.waiting) if block == "pending" else 0)

    def sign(
        self, _: object, data: bytes, *, to: str, gas: int, nonce: int, fees: tuple[int, int]
    ) -> SignedTransaction:
        raw = json.dumps([data.hex(), to, gas, nonce, *fees]).encode()
        return SignedTransaction(hashlib.sha256(raw).digest(), raw)

    def submit(self, raw: bytes) -> None:
        data, _, _, nonce, fee, _ = json.loads(raw)
        version = hashlib.sha256(raw).digest()
        if self.full_of:
            raise FundsError(self.full_of)
        if fee > self.purse:
            raise FundsError("no coin for so much gas")
        if nonce < len(self.mined):
            if version in self.mined:
                return
            raise ChainError("nonce too low", code="nonce")
        held = self.waiting.get(nonce)
        if held is not None and held[0] != version and fee * 10 < held[1] * 11:
            raise ChainError("replacement transaction underpriced", code="nonce")
        self.waiting[nonce] = (version, fee, bytes.fromhex(data))
        self.sent.append((nonce, fee))
        self.mine()
        if self.gone:
            raise ChainUnavailableError("the answer did not come")

    def receipt(self, version: bytes) -> TxReceipt | None:
        if version not in self.mined:
            return None
        if self.late:
            self.late -= 1
            return None
        return TxReceipt(version, 1, 40_000, 2, self.mined[version][0] + 1, bytes(32), "", ())

    def wait(self, version: bytes) -> TxReceipt:
        found = self.receipt(version)
        assert found is not None
        return found


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


def contents(pool: Pool) -> list[bytes]:
    return [data for _, data in pool.mined.values()]


def costs(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "gas.jsonl").read_text().splitlines()]


def test_what_is_mined_is_noted_with_its_cost_and_forgotten(pool: Pool, folder: Path) -> None:
    receipt = an_outbox(pool, folder).send(TO, b"one", what="claim", lease="0xab")
    assert contents(pool) == [b"one"]
    assert not (folder / "outbox.json").exists()
    (line,) = costs(folder)
    assert (line["what"], line["lease"], line["wei"], line["gasUsed"]) == ("claim", "0xab", "80000", 40_000)
    assert line["transaction"] == "0x" + receipt.transaction.hex()


def test_what_is_stuck_is_sent_again_with_the_same_nonce_at_a_higher_fee(pool: Pool, folder: Path) -> None:
    pool.base = 190
    an_outbox(pool, folder).send(TO, b"one", what="claim")
    assert contents(pool) == [b"one"]
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
    assert contents(pool) == [b"one", b"two"]
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
    assert contents(pool) == [b"one"]
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
    assert contents(pool)[0] == b"one"
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
    assert contents(pool) == [b"two"]


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
    assert contents(pool) == [b"one"]
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
    assert contents(pool) == [b"one"]
    assert [line["what"] for line in costs(folder)] == ["claim"]


def _killing(name: str) -> None:
    if name == "node.transaction.sent":
        raise Killed


def test_another_program_with_the_same_key_is_named(pool: Pool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.base = 10**9
    monkeypatch.setattr(outbox_module, "GONE_S", 0.0)
    monkeypatch.setattr(time, "sleep", lambda _: pool.foreign())
    outbox = an_outbox(pool, folder)
    outbox._mined_s = 60.0
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
    assert contents(pool) == [b"one"]
    assert len({line["transaction"] for line in costs(folder)}) == 1
    assert not (folder / "outbox.json").exists()
