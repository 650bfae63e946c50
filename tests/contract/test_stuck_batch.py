"""A market's batch that no block takes, on a real chain: whatever happens to the market, it is mined once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from suanli_market.chain.sender import Batch, Sender
from suanli_market.store import Store
from suanli_market.tables import ChainTransactionRow, ChainVersionRow
from suanli_protocol.errors import TimedOutError
from suanli_protocol.events import RoundCommitted
from suanli_protocol.signing import Signer
from support.devnet import Anvil, start_anvil
from support.market import World, a_world
from support.node import eventually

MINED_S = 0.3  # a version is given so long here
HEAD = b"\x07" * 32


@pytest.fixture(scope="module")
def devnet() -> Iterator[Anvil]:
    with start_anvil() as anvil:
        yield anvil


@dataclass
class Scene:
    """A market's key, and a chain that makes no block by itself any more."""

    devnet: Anvil
    world: World
    signer: Signer
    store: Store
    nonce: int
    is_ended: bool = False

    def sender(self) -> Sender:
        """As a process that begins has it."""
        chain, escrow = self.world.chain, self.world.escrow.address
        return Sender(
            self.store, chain, self.signer, escrow, on_mined=lambda: None, is_ended=lambda: self.is_ended,
            mined_s=MINED_S,
        )  # fmt: skip

    def batch(self) -> Batch:
        """A round that opens nothing."""
        return Batch("open", self.world.escrow.encode_open(HEAD, []), 150_000, ())

    def versions(self) -> set[str]:
        """Hashes of what was written down so far."""
        with self.store.read() as session:
            return set(session.exec(select(ChainVersionRow.hash)))

    def row(self) -> ChainTransactionRow:
        """The one transaction that was written down."""
        with self.store.read() as session:
            return session.exec(select(ChainTransactionRow)).one()

    def pooled(self) -> list[dict[str, Any]]:
        """What the chain's pool holds of the key."""
        content: Any = self.devnet.rpc("txpool_content")
        found = {sender.lower(): held for sender, held in content["pending"].items()}
        return list(found.get(self.signer.address.lower(), {}).values())

    def rounds(self) -> int:
        """How often the chain has the round."""
        events = self.world.escrow.events(0, self.world.chain.block("latest").number)
        return sum(isinstance(event, RoundCommitted) for event in events)

    def check_once(self) -> None:
        """It was mined once, at its nonce, and nothing waits."""
        assert self.rounds() == 1
        chain, row = self.world.chain, self.row()
        assert chain.nonce(self.signer.address, "latest") == chain.nonce(self.signer.address) == self.nonce + 1
        assert self.pooled() == []
        assert (row.state, row.nonce) == ("mined", self.nonce)
        assert row.hash in self.versions()


@pytest.fixture
def scene(devnet: Anvil, tmp_path: Path) -> Iterator[Scene]:
    world = a_world(devnet)
    signer, store = world.party(0).signer, Store(tmp_path)
    store.migrate()
    devnet.rpc("evm_setAutomine", False)
    try:
        yield Scene(devnet, world, signer, store, world.chain.nonce(signer.address))
    finally:
        devnet.rpc("evm_setAutomine", True)
        store.close()


def test_it_is_replaced_at_its_nonce_and_mined_once(scene: Scene) -> None:
    sender = threading.Thread(target=lambda: scene.sender().send(scene.batch()))
    sender.start()
    eventually(lambda: len(scene.versions()) >= 3, "two replacements")
    first = 2 * scene.world.chain.block("latest").base_fee
    (waiting,) = scene.pooled()
    assert int(waiting["nonce"], 16) == scene.nonce
    assert int(waiting["maxFeePerGas"], 16) > first
    scene.devnet.rpc("evm_mine")
    sender.join(30)
    assert not sender.is_alive()
    scene.check_once()


def test_a_market_that_starts_again_sends_the_same_one(scene: Scene) -> None:
    """Also after the pool has forgotten it."""
    ending = threading.Timer(MINED_S / 2, lambda: setattr(scene, "is_ended", True))
    ending.start()
    with pytest.raises(TimedOutError):
        scene.sender().send(scene.batch())
    scene.is_ended = False
    before = scene.versions()
    assert len(before) == 1
    scene.devnet.rpc("anvil_dropAllTransactions")
    assert scene.pooled() == []
    resumed = threading.Thread(target=lambda: scene.sender().resume())
    resumed.start()
    eventually(lambda: scene.pooled(), "it is in the pool again")
    assert {version["hash"] for version in scene.pooled()} <= scene.versions()
    assert int(scene.pooled()[0]["nonce"], 16) == scene.nonce
    scene.devnet.rpc("evm_mine")
    resumed.join(30)
    scene.check_once()
