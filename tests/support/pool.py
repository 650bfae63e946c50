"""A chain as its endpoint shows it to a sender: a pool that has its rule for replacements, and blocks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from suanli_protocol.chain import SignedTransaction
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import ChainError, ChainRevertedError, ChainUnavailableError, FundsError
from suanli_protocol.rpc_errors import LackingError


@dataclass
class Pool:
    """Transactions of one key."""

    base: int = 100  # the highest fee that a transaction needs; under it one stays in the pool
    asks: int = 100  # the fee that it says is right
    purse: int = 2**60  # the highest fee that the wallet's coin suffices for
    waiting: dict[int, tuple[bytes, int, bytes]] = field(default_factory=dict)  # by nonce: hash, fee, data
    mined: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    sent: list[tuple[int, int]] = field(default_factory=list)  # nonce and fee of each version that came
    void: bool = False
    full_of: str = ""  # why nothing is taken
    refuses: bytes = b""  # the beginning of the data that is not taken
    shuns: bytes = b""  # what no data that is taken holds
    reverts: bool = False
    gone: bool = False  # no answer comes
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

    def lose(self) -> None:
        """A reorganisation takes the last block, and the pool forgets what it held."""
        self.mined.popitem()
        self.waiting.clear()

    def contents(self) -> list[bytes]:
        """The data of what was mined."""
        return [data for _, data in self.mined.values()]

    # What a sender asks of a chain

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
        if self.shuns and self.shuns in bytes.fromhex(data):
            raise ChainError("transaction rejected")
        if self.refuses and bytes.fromhex(data).startswith(self.refuses):
            raise ChainError("oversized data")
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

    def transaction(self, version: bytes) -> bytes:
        if version not in self.mined and version not in {held for held, _, _ in self.waiting.values()}:
            raise LackingError("no such transaction")
        return version

    def receipt(self, version: bytes) -> TxReceipt | None:
        if version not in self.mined:
            return None
        if self.late:
            self.late -= 1
            return None
        return TxReceipt(version, int(not self.reverts), 40_000, 2, self.mined[version][0] + 1, bytes(32), "", ())

    def wait(self, version: bytes) -> TxReceipt:
        found = self.receipt(version)
        assert found is not None
        if not found.status:
            raise ChainRevertedError("out of gas")
        return found
