"""A block with the market's own transaction is lost before it counts: it is mined all the same, and only once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlmodel import select

from suanli_market.store import Store
from suanli_market.tables import ChainTransactionRow
from suanli_protocol import wire
from suanli_protocol.events import Finalized, Opened
from suanli_protocol.messages import Bid
from suanli_protocol.signing import struct_hash
from support.devnet import start_anvil
from support.market import a_world, market_key, serve_command, start_market
from support.market_scene import Market, a_pair, claim, eventually, later

pytestmark = pytest.mark.e2e
CONFIRMATIONS = 3
WINDOW, SECONDS, PATIENCE = 30, 60, 11


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    """On a devnet of its own, because it takes blocks back; a block counts once three more stand on it."""
    with start_anvil() as anvil:
        world = a_world(anvil)
        world.chain.rpc("anvil_mine", "0x5")
        key, password, _ = market_key(world, tmp_path / "key")
        waits = ("--confirmations", str(CONFIRMATIONS))
        with start_market(serve_command(world, key, password, tmp_path / "data", *waits)) as process:
            yield Market(world, process, tmp_path / "data")


def openings(market: Market, bid: bytes) -> list[Opened]:
    """The leases of a bid that the chain has."""
    head = market.world.chain.block("latest").number
    events = market.world.escrow.events(0, head)
    return [event for event in events if isinstance(event, Opened) and event.bid_hash == bid]


def marked(market: Market, kind: str) -> bool:
    """Whether the market knows its transaction of this kind as mined: before, it would just wait on for its block."""
    with closing(Store.existing(market.data)) as store, store.read() as session:
        states = session.exec(select(ChainTransactionRow.state).where(ChainTransactionRow.kind == kind)).all()
    return states == ["mined"]


def test_an_opening_whose_block_was_lost_is_sent_again(market: Market) -> None:
    world, chain = market.world, market.world.chain
    provider, consumer = world.party(), world.party()
    chain.rpc("anvil_mine", "0x4")  # their deposits count
    offer, bid = a_pair(market, provider, consumer)
    market.client(provider).post_offer(offer)
    market.client(consumer).post_bid(bid)
    hash_ = struct_hash(wire.paper_from_json(Bid, bid.bid))
    lost = eventually(lambda: openings(market, hash_))[0]
    eventually(lambda: marked(market, "open"))
    chain.rpc("anvil_reorg", 1, [])
    assert openings(market, hash_) == []
    again = eventually(lambda: openings(market, hash_))[0]
    assert again.transaction == lost.transaction, "the same one: two could both be mined"
    chain.rpc("anvil_mine", hex(CONFIRMATIONS + 1))
    client = market.client(consumer)
    lease = eventually(lambda: client.bid(hash_).lease)
    assert lease == wire.to_hex(again.lease_id)
    assert len(openings(market, hash_)) == 1


def test_a_lease_that_time_ended_is_ended_again_if_the_block_was_lost(market: Market) -> None:
    """No row waits for the answer to a finalize, so nothing but the key's own count says that it is no more."""
    world, chain = market.world, market.world.chain
    provider, consumer = world.party(), world.party()
    chain.rpc("anvil_mine", "0x4")
    limits = {"window": WINDOW, "max_seconds": SECONDS, "valid_until": int(time.time()) + 86_400}
    offer, bid = a_pair(market, provider, consumer, **limits)
    market.client(provider).post_offer(offer)
    client = market.client(consumer)
    client.post_bid(bid)
    hash_ = struct_hash(wire.paper_from_json(Bid, bid.bid))
    eventually(lambda: openings(market, hash_))
    chain.rpc("anvil_mine", "0x4")
    view = client.lease(wire.from_hex(eventually(lambda: client.bid(hash_).lease)))
    later(world, 20)
    claim(world, provider, view, 19)
    later(world, WINDOW + PATIENCE)
    chain.rpc("anvil_mine", "0x4")
    lost = eventually(lambda: finalized(market))[0]
    assert chain.transaction(lost.transaction).sender == market.process.address
    eventually(lambda: marked(market, "finalize"))
    chain.rpc("anvil_reorg", 1, [])
    assert finalized(market) == []
    chain.rpc("anvil_mine", hex(CONFIRMATIONS + 1))  # the number of the lost block counts, with another block
    again = eventually(lambda: finalized(market))[0]
    assert again.transaction == lost.transaction
    chain.rpc("anvil_mine", hex(CONFIRMATIONS + 1))
    assert eventually(lambda: client.lease(wire.from_hex(view.id)).state == "finalized")


def finalized(market: Market) -> list[Finalized]:
    """The leases that the chain says are finalized."""
    head = market.world.chain.block("latest").number
    return [event for event in market.world.escrow.events(0, head) if isinstance(event, Finalized)]
