"""An opening or a settlement that the chain's endpoint does not take: the others of its kind go on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from suanli_protocol import wire
from support.market import World, bid_id, market_key, serve_command, start_market
from support.market_scene import Market, a_pair, countersigned, eventually, leased, opened_lease, signed_receipt
from support.meddler import Meddler, start_meddler

pytestmark = pytest.mark.e2e
REJECTED = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32003, "message": "transaction rejected"}}'
REFUSALS = {
    "in JSON-RPC": (200, REJECTED),
    "in JSON-RPC as a bad request": (400, REJECTED),
    "as too large": (413, b"<html>Payload Too Large</html>"),
}


@pytest.fixture(scope="module")
def endpoint(world: World) -> Iterator[Meddler]:
    """What stands between the market and the chain."""
    with start_meddler(world.url) as made:
        yield made


@pytest.fixture(scope="module")
def market(world: World, endpoint: Meddler, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    folder = tmp_path_factory.mktemp("market")
    key, password, _ = market_key(world, folder / "key")
    command = serve_command(replace(world, url=endpoint.url), key, password, folder / "data", "--round-ms", "0")
    with start_market(command) as process:
        yield Market(world, process, folder / "data")
        assert not [line for line in process.log if "Traceback" in line], "".join(process.log)


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_other_openings_go_on_and_it_goes_once_it_is_taken(
    market: Market, endpoint: Meddler, refusal: tuple[int, bytes]
) -> None:
    world = market.world
    provider, shunned, other = world.party(), world.party(), world.party()
    pairs = [a_pair(market, provider, party) for party in (shunned, other, other)]
    first = market.client(shunned)
    with endpoint.refusing(pairs[0][1].bid["seat"][2:].encode(), *refusal):
        for (offer, bid), party in zip(pairs, (shunned, other, other), strict=True):
            market.client(provider).post_offer(offer)
            market.client(party).post_bid(bid)
        for _, bid in pairs[1:]:
            assert leased(market.client(other), bid_id(bid)).state == "open"
        assert first.bid(bid_id(pairs[0][1])).lease is None
    assert leased(first, bid_id(pairs[0][1])).state == "open"


def test_other_settlements_go_on_and_it_goes_once_it_is_taken(market: Market, endpoint: Meddler) -> None:
    provider, parties = market.world.party(), [market.world.party() for _ in range(2)]
    views = [opened_lease(market, provider, consumer) for consumer in parties]
    receipts = [signed_receipt(market, provider, view) for view in views]

    def is_settled(view: wire.LeaseView) -> bool:
        return market.client(provider).lease(wire.from_hex(view.id)).state == "settled"

    with endpoint.refusing(receipts[0].signature[2:].encode(), *REFUSALS["in JSON-RPC"]):
        for view, signed, consumer in zip(views, receipts, parties, strict=True):
            market.client(provider).post_receipt(wire.from_hex(view.id), signed)
            seal = countersigned(market, consumer, signed.receipt)
            market.client(consumer).countersign(wire.from_hex(view.id), seal)
        eventually(lambda: is_settled(views[1]))
        assert not is_settled(views[0])
    eventually(lambda: is_settled(views[0]))
