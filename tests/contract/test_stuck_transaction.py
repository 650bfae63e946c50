"""A node's transaction that no block takes, on a real chain: it is replaced within its bound, and mined once."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from suanli_node.outbox import Outbox, OutboxEscrow
from suanli_protocol import letters, wire
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import TimedOutError
from suanli_protocol.signing import Signer
from support.builders import CREDIT
from support.devnet import Anvil, start_anvil
from support.market import a_world
from support.node import eventually

MINED_S = 0.3  # a version is given so long here
TIMES = 3  # the base fee of the block that comes at last, in those of the block before


@pytest.fixture(scope="module")
def devnet() -> Iterator[Anvil]:
    with start_anvil() as anvil:
        yield anvil


@dataclass
class Scene:
    """A node's key with free money, and a chain that makes no block by itself any more."""

    devnet: Anvil
    signer: Signer
    escrow: OutboxEscrow
    folder: Path
    nonce: int

    def withdraw(self) -> TxReceipt:
        """One credit, through the outbox."""
        with self.escrow.purpose("withdraw"):
            return self.escrow.withdraw(self.signer, self.signer.address, CREDIT)

    def pooled(self) -> list[dict[str, Any]]:
        """What the chain's pool holds of this key."""
        content: Any = self.devnet.rpc("txpool_content")
        found = {sender.lower(): held for sender, held in content["pending"].items()}
        return list(found.get(self.signer.address.lower(), {}).values())

    def versions(self) -> list[str]:
        """Hashes of the versions that were written down so far."""
        path = self.folder / "outbox.json"
        return list(json.loads(path.read_bytes())["hashes"]) if path.exists() else []

    def raise_base_fee(self, times: int) -> None:
        """Of the next block."""
        fee = times * self.escrow.chain.block("latest").base_fee
        self.devnet.rpc("anvil_setNextBlockBaseFeePerGas", hex(fee))

    def check_once(self) -> None:
        """One nonce was used, one credit left, one cost was noted, nothing waits."""
        chain = self.escrow.chain
        assert chain.nonce(self.signer.address, "latest") == chain.nonce(self.signer.address) == self.nonce + 1
        assert self.escrow.account(self.signer.address).free == 9 * CREDIT
        assert len((self.folder / "gas.jsonl").read_text().splitlines()) == 1
        assert self.pooled() == []
        assert not (self.folder / "outbox.json").exists()


@pytest.fixture
def scene(devnet: Anvil, tmp_path: Path) -> Iterator[Scene]:
    world = a_world(devnet)
    signer = world.party(10 * CREDIT).signer
    outbox = Outbox(world.chain, signer, tmp_path / "outbox.json", tmp_path / "gas.jsonl", mined_s=MINED_S)
    escrow = OutboxEscrow(world.chain, world.escrow.address, outbox)
    devnet.rpc("evm_setAutomine", False)
    try:
        yield Scene(devnet, signer, escrow, tmp_path, world.chain.nonce(signer.address))
    finally:
        devnet.rpc("evm_setAutomine", True)


def test_replaced_at_a_higher_fee_it_is_mined_once(scene: Scene) -> None:
    mined: list[TxReceipt] = []
    sender = threading.Thread(target=lambda: mined.append(scene.withdraw()))
    sender.start()
    eventually(lambda: len(scene.versions()) >= 4, "three replacements")
    assert len(scene.pooled()) == 1
    first = scene.versions()[0]
    scene.raise_base_fee(TIMES)
    scene.devnet.rpc("evm_mine")
    sender.join(30)
    assert len(mined) == 1
    found: Any = scene.devnet.rpc("eth_getTransactionByHash", wire.to_hex(mined[0].transaction))
    base = scene.escrow.chain.block(mined[0].block).base_fee
    wanted = 2 * base // TIMES + int(1e9)  # about what the first version would have paid at most, with its tip
    assert found["hash"] != first
    assert int(found["nonce"], 16) == scene.nonce
    assert base <= int(found["maxFeePerGas"], 16) <= 4 * wanted
    assert scene.escrow.chain.receipt(wire.from_hex(first)) is None
    scene.check_once()


def test_it_does_not_wait_for_ever_behind_one_that_was_lost_with_its_block(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "GAP_S", 0.5)
    scene.devnet.rpc("evm_setAutomine", True)
    scene.withdraw()  # the first costs more gas than those after it
    before, nonce = scene.devnet.rpc("evm_snapshot"), scene.nonce + 1
    scene.withdraw()
    scene.devnet.rpc("evm_setAutomine", False)
    mined: list[TxReceipt] = []
    sender = threading.Thread(target=lambda: mined.append(scene.withdraw()))
    sender.start()
    eventually(lambda: len(scene.pooled()) == 1, "the second is sent")
    scene.devnet.rpc("evm_revert", before)  # the first is nowhere now, and the second behind a gap
    scene.devnet.rpc("anvil_dropAllTransactions")
    assert scene.escrow.chain.nonce(scene.signer.address, "pending") == nonce
    for _ in range(200):
        scene.devnet.rpc("evm_mine")
        sender.join(0.1)
        if mined:
            break
    assert len(mined) == 1
    assert scene.escrow.chain.nonce(scene.signer.address, "latest") == nonce + 2
    assert scene.escrow.account(scene.signer.address).free == 8 * CREDIT, "the lost one was for nothing"
    assert not (scene.folder / "outbox.json").exists()


def test_one_before_it_that_a_pool_still_holds_is_left_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "GAP_S", 0.1)
    chain, own = scene.escrow.chain, scene.signer.address
    first = chain.sign(scene.signer, b"", to=own, gas=21_000, nonce=scene.nonce, fees=chain.fees())
    chain.submit(first.raw)
    mined: list[TxReceipt] = []
    sender = threading.Thread(target=lambda: mined.append(scene.withdraw()))
    sender.start()
    eventually(lambda: len(scene.versions()) >= 3, "two replacements")
    scene.devnet.rpc("evm_mine")
    sender.join(30)
    assert len(mined) == 1
    assert chain.receipt(first.hash) is not None
    assert chain.nonce(own, "latest") == scene.nonce + 2


def test_at_its_bound_it_waits_and_the_next_call_finds_it_mined(scene: Scene) -> None:
    with pytest.raises(TimedOutError):
        scene.withdraw()
    (waiting,) = scene.pooled()
    fee, tip = scene.escrow.chain.fees()
    assert fee < int(waiting["maxFeePerGas"], 16) <= 4 * fee
    assert tip < int(waiting["maxPriorityFeePerGas"], 16) <= 4 * tip
    assert waiting["hash"] == scene.versions()[-1]
    scene.raise_base_fee(TIMES)
    scene.devnet.rpc("evm_mine")
    scene.escrow.outbox.settle()
    scene.check_once()
