"""A block with the market's own opening is lost before it counts: the lease is opened all the same, and only once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from suanli_protocol import wire
from suanli_protocol.events import Opened
from suanli_protocol.messages import Bid
from suanli_protocol.signing import struct_hash
from support.devnet import start_anvil
from support.market import a_world, market_key, serve_command, start_market
from support.market_scene import Market, a_pair, eventually

pytestmark = pytest.mark.e2e
CONFIRMATIONS = 3


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


def test_an_opening_whose_block_was_lost_is_sent_again(market: Market) -> None:
    world, chain = market.world, market.world.chain
    provider, consumer = world.party(), world.party()
    chain.rpc("anvil_mine", "0x4")  # their deposits count
    offer, bid = a_pair(market, provider, consumer)
    market.client(provider).post_offer(offer)
    market.client(consumer).post_bid(bid)
    hash_ = struct_hash(wire.paper_from_json(Bid, bid.bid))
    lost = eventually(lambda: openings(market, hash_))[0]
    chain.rpc("anvil_reorg", 1, [])
    assert openings(market, hash_) == []
    again = eventually(lambda: openings(market, hash_))[0]
    assert again.transaction == lost.transaction, "the same one: two could both be mined"
    chain.rpc("anvil_mine", hex(CONFIRMATIONS + 1))
    client = market.client(consumer)
    lease = eventually(lambda: client.bid(hash_).lease)
    assert lease == wire.to_hex(again.lease_id)
    assert len(openings(market, hash_)) == 1
