"""Leases that end without a receipt, and what the market does of itself: finalize, reclaim, open the next attempt.

The chain is this file's own: its time is moved, its newest blocks are replaced, and a proxy before it withholds events.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from web3.utils import abi_to_signature

from suanli_protocol import wire
from suanli_protocol.abi import artifact
from suanli_protocol.errors import NotFoundError
from suanli_protocol.escrow import Settlement
from suanli_protocol.lease import Kind, Progress, fee_down, seat_key, seat_word
from suanli_protocol.market_client import MarketClient
from suanli_protocol.messages import ZERO32, Bid, Receipt
from suanli_protocol.signing import keccak256, struct_hash
from support.builders import some_attributes, some_constraints, some_prices
from support.devnet import Anvil, start_anvil
from support.market import Party, World, bid_id, market_key, serve_command, start_market
from support.market_scene import (
    Market,
    claim,
    countersigned,
    eventually,
    later,
    leased,
    opened_lease,
    progress_of,
    signed_receipt,
    terms_of,
    unique_region,
)
from support.meddler import start_meddler

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
WINDOW, SECONDS, PATIENCE = 30, 60, 11
DAY = 86_400


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    with start_anvil() as devnet:
        yield devnet


def limits(**fields: Any) -> dict[str, Any]:
    """A bid's short times, that outlive what this file does to the chain's clock."""
    return {"window": WINDOW, "max_seconds": SECONDS, "valid_until": int(time.time()) + DAY, **fields}


def until(client: MarketClient, lease: str, state: str) -> wire.LeaseView:
    """The lease once it is in this state."""

    def look() -> wire.LeaseView | None:
        view = client.lease(wire.from_hex(lease))
        return view if view.state == state else None

    found: wire.LeaseView = eventually(look)
    return found


def kinds(client: MarketClient, bid: bytes) -> list[str]:
    """The events of a bid so far, in their order."""
    wanted = wire.to_hex(bid)
    page: list[str] = []
    deadline = time.monotonic() + 5
    for event in client.events(0):
        if event.bid == wanted:
            page.append(event.kind)
        if (event.kind == "lease.settled" and event.bid == wanted) or time.monotonic() > deadline:
            break
    return page


def settled(market: Market, provider: Party, consumer: Party, view: wire.LeaseView) -> wire.LeaseView:
    """The lease's ordinary end."""
    lease = wire.from_hex(view.id)
    signed = signed_receipt(market, provider, view)
    market.client(provider).post_receipt(lease, signed)
    market.client(consumer).countersign(lease, countersigned(market, consumer, signed.receipt))
    return until(market.client(consumer), view.id, "settled")


def test_a_claim_is_finalized_by_the_market(market: Market, provider: Party, consumer: Party) -> None:
    world, client = market.world, market.client(consumer)
    view = opened_lease(market, provider, consumer, **limits())
    free = world.escrow.account(consumer.address).free
    later(world, 20)
    claim(world, provider, view, 190)
    claimed = until(client, view.id, "claimed")
    assert (claimed.claimed, claimed.claim_kind, claimed.attempts_left) == ("190", Kind.DONE, 0)
    lease, _ = terms_of(view)
    assert seat_word(wire.from_hex(view.id), progress_of(claimed)) == world.escrow.seat(lease.seat_key)
    later(world, WINDOW + PATIENCE)
    ended = until(client, view.id, "finalized")
    assert (ended.paid, ended.fee, ended.phase) == ("190", str(fee_down(190, lease.fee_bps)), "settled")
    transaction = world.chain.transaction(wire.from_hex(ended.settled_transaction or ""))
    assert transaction.sender == market.process.address
    assert world.escrow.account(consumer.address).free == free + lease.deposit - 190 - int(ended.fee)
    assert world.escrow.account(provider.address).used.pack() == 0
    assert until(market.client(provider), view.id, "finalized") == ended


@pytest.mark.parametrize("judged", [True, False])
def test_a_dispute_is_decided_by_the_arbiter_or_split(
    market: Market, provider: Party, consumer: Party, judged: bool
) -> None:
    world, client, arbiter = market.world, market.client(consumer), market.world.party(0)
    region = unique_region()
    named = {"arbiter": arbiter.address, "valid_until": int(time.time()) + DAY}
    market.client(provider).post_offer(market.offer(provider, attributes=some_attributes(region=region), **named))
    bid = market.bid(consumer, constraints=some_constraints(regions=(region,)), **limits(**named))
    client.post_bid(bid)
    view = leased(client, bid_id(bid))
    later(world, 20)
    claim(world, provider, view, 190)
    view = until(client, view.id, "claimed")
    world.escrow.dispute(consumer.signer, *terms_of(view), progress_of(view))
    view = until(client, view.id, "disputed")
    if judged:
        world.escrow.resolve(arbiter.signer, *terms_of(view), progress_of(view), 100, 1, ZERO32)
        ended = until(client, view.id, "resolved")
        assert ended.paid == "100"
        assert world.escrow.account(arbiter.address).free == 190 // 10
    else:
        later(world, 3 * WINDOW + PATIENCE)
        assert until(client, view.id, "finalized").paid == "95"


def two_providers(market: Market, **bid_fields: Any) -> tuple[Party, Party, Party, bytes]:
    """A cheap and a dear provider, a consumer, and its bid for two attempts on either."""
    cheap, dear, consumer = (market.world.party() for _ in range(3))
    region, valid_until = unique_region(), int(time.time()) + DAY
    for party, core in ((cheap, 30_000), (dear, 40_000)):
        offer = market.offer(
            party,
            attributes=some_attributes(region=region),
            prices=some_prices(core=core).pack(),
            valid_until=valid_until,
        )
        market.client(party).post_offer(offer)
    constraints = some_constraints(regions=(region,), retry=("interruption",))
    bid = market.bid(consumer, constraints=constraints, **limits(attempts=2, **bid_fields))
    market.client(consumer).post_bid(bid)
    return cheap, dear, consumer, bid_id(bid)


def test_a_vanished_providers_job_goes_to_another(market: Market) -> None:
    world = market.world
    cheap, dear, consumer, bid = two_providers(market)
    client = market.client(consumer)
    first = leased(client, bid)
    assert first.attempts_left == 1
    assert first.offer["provider"] == cheap.address
    free = world.escrow.account(consumer.address).free
    later(world, SECONDS + WINDOW + PATIENCE)
    over = until(client, first.id, "reclaimed")
    assert (over.paid, over.fee, over.phase) == ("0", "0", "failed")
    second = leased(client, bid, but=first.id)
    assert (second.attempt, second.attempts_left, second.spent) == (2, 0, "0")
    assert second.offer["provider"] == dear.address
    (lost, _), (held, _) = terms_of(first), terms_of(second)
    assert world.escrow.account(consumer.address).free == free + lost.deposit + lost.bond - held.deposit
    assert held.seat_key == lost.seat_key
    ended = settled(market, dear, consumer, second)
    assert world.escrow.account(consumer.address).free == free + lost.deposit + lost.bond - 100 - int(ended.fee)
    told = kinds(client, bid)
    wanted = ["lease.opened", "lease.reclaimed", "bid.retried", "lease.opened", "lease.settled"]
    assert [kind for kind in told if kind in wanted] == wanted
    assert [lease.id for lease in client.leases()] in ([first.id, second.id], [second.id, first.id])


def test_what_a_released_attempt_cost_counts_against_the_budget(market: Market) -> None:
    world = market.world
    cheap, _, consumer, bid = two_providers(market)
    client = market.client(consumer)
    first = leased(client, bid)
    receipt = Receipt(wire.from_hex(first.id), 40, Kind.INTERIM, ZERO32)
    signatures = (party.signer.sign(world.escrow.domain, receipt) for party in (cheap, consumer))
    lease, clauses = terms_of(first)
    world.escrow.settle(consumer.signer, [Settlement(lease, Progress(), 40, Kind.INTERIM, ZERO32, *signatures)])
    eventually(lambda: client.lease(wire.from_hex(first.id)).paid == "40")
    world.escrow.release(cheap.signer, lease, clauses, Progress(paid=40))
    second = leased(client, bid, but=first.id)
    assert (second.attempt, second.spent) == (2, "40")
    assert until(client, first.id, "released").paid == "40"
    settled(market, cheap, consumer, second)


def test_an_attempt_that_the_budget_does_not_hold_waits_for_a_cheaper_offer(market: Market) -> None:
    """585 for the price, 2 for the fee: after 40 were spent, nothing of that price fits any more."""
    world = market.world
    cheap, _, consumer, bid = two_providers(market, budget=587 + 39)
    client = market.client(consumer)
    first = leased(client, bid)
    assert first.offer["provider"] == cheap.address
    lease, clauses = terms_of(first)
    assert (lease.price, fee_down(lease.price, lease.fee_bps)) == (585, 2)
    receipt = Receipt(wire.from_hex(first.id), 40, Kind.INTERIM, ZERO32)
    signatures = (party.signer.sign(world.escrow.domain, receipt) for party in (cheap, consumer))
    world.escrow.settle(consumer.signer, [Settlement(lease, Progress(), 40, Kind.INTERIM, ZERO32, *signatures)])
    world.escrow.release(cheap.signer, lease, clauses, Progress(paid=40))
    rejections = eventually(lambda: client.bid(bid).rejections)
    assert client.bid(bid).state == "queued"
    assert "budget" in {item.condition for item in rejections}


# The chain takes blocks back


def reorganise(world: World, depth: int) -> None:
    """The newest blocks are replaced by empty ones, and one more, so much later that leases get other ids."""
    world.chain.rpc("anvil_reorg", depth, [])
    later(world, 5)


def gone(client: MarketClient, lease: str) -> bool:
    try:
        client.lease(wire.from_hex(lease))
    except NotFoundError:
        return True
    return False


def test_a_lease_that_the_chain_took_back_is_opened_again(market: Market, provider: Party, consumer: Party) -> None:
    world, client = market.world, market.client(consumer)
    first = opened_lease(market, provider, consumer, **limits())
    bid = struct_hash(wire.paper_from_json(Bid, first.bid))
    reorganise(world, 1)
    second = leased(client, bid, but=first.id)
    assert second.id != first.id
    assert (second.attempt, second.number) == (1, first.number)
    assert gone(client, first.id)
    assert gone(market.client(provider), first.id)
    assert [lease.id for lease in market.client(provider).leases()] == [second.id]
    lease, _ = terms_of(second)
    assert world.escrow.seat(lease.seat_key) == seat_word(wire.from_hex(second.id), Progress())
    settled(market, provider, consumer, second)
    assert world.escrow.account(provider.address).used.pack() == 0


def test_a_claim_that_the_chain_took_back_can_be_made_again(market: Market, provider: Party, consumer: Party) -> None:
    world, client = market.world, market.client(consumer)
    view = opened_lease(market, provider, consumer, **limits())
    later(world, 20)
    claim(world, provider, view, 150)
    until(client, view.id, "claimed")
    reorganise(world, 1)
    again = until(client, view.id, "open")
    assert (again.claimed, again.claim_kind, again.clock) == ("0", 0, 0)
    claim(world, provider, again, 120)
    assert until(client, view.id, "claimed").claimed == "120"
    settled(market, provider, consumer, until(client, view.id, "claimed"))


def test_a_next_attempt_that_the_chain_took_back_is_made_again(market: Market) -> None:
    """Release, retry and the second opening are undone together; the release comes again, and then the rest."""
    world = market.world
    cheap, _, consumer, bid = two_providers(market)
    client = market.client(consumer)
    first = leased(client, bid)
    before = world.chain.block("latest").number
    world.escrow.release(cheap.signer, *terms_of(first), Progress())
    leased(client, bid, but=first.id)
    reorganise(world, world.chain.block("latest").number - before)
    assert until(client, first.id, "open").attempt == 1
    assert client.bid(bid).lease == first.id
    world.escrow.release(cheap.signer, *terms_of(first), Progress())
    second = leased(client, bid, but=first.id)
    assert (second.attempt, len(client.leases())) == (2, 2)
    settled(market, cheap, consumer, second)


# Events that never arrive


def without(event: str) -> Callable[[bytes], bytes]:
    """An answer of the chain without the logs of one kind."""
    member = next(
        item for item in artifact("LeaseEscrow")["abi"] if (item["type"], item.get("name")) == ("event", event)
    )
    wanted = "0x" + keccak256(abi_to_signature(member).encode()).hex()

    def drop(body: bytes) -> bytes:
        answer = json.loads(body)
        result = answer["result"]
        if isinstance(result, list):
            answer["result"] = [log for log in result if log["topics"][0] != wanted]
        return json.dumps(answer).encode()

    return drop


def test_what_no_event_told_is_read_from_the_chain_all_the_same(
    world: World, provider: Party, consumer: Party, tmp_path: Path
) -> None:
    key, password, _ = market_key(world, tmp_path / "key")
    with start_meddler(world.url) as chain:
        command = serve_command(replace(world, url=chain.url), key, password, tmp_path / "data")
        region, valid_until = unique_region(), int(time.time()) + DAY
        with chain.lying("POST", without("Opened")), start_market(command) as process:
            market = Market(world, process, tmp_path / "data")
            offer = market.offer(provider, attributes=some_attributes(region=region), valid_until=valid_until)
            market.client(provider).post_offer(offer)
            bid = market.bid(consumer, constraints=some_constraints(regions=(region,)), **limits())
            client = market.client(consumer)
            client.post_bid(bid)
            seat = seat_key(wire.from_hex(bid.bid["seat"]), consumer.address)
            eventually(lambda: world.escrow.seat(seat) != bytes(32))
            time.sleep(1)
            assert client.bid(bid_id(bid)).lease is None
        with chain.lying("POST", without("Claimed")), start_market(command) as process:
            client = replace(market, process=process).client(consumer)
            view = leased(client, bid_id(bid))
            later(world, 20)
            claim(world, provider, view, 150)
            time.sleep(1)
            assert client.lease(wire.from_hex(view.id)).state == "open"
        with start_market(command) as process:
            market = replace(market, process=process)
            client = market.client(consumer)
            claimed = until(client, view.id, "claimed")
            assert claimed.claimed == "150"
            assert [lease.id for lease in client.leases()] == [view.id]
            settled(market, provider, consumer, claimed)
