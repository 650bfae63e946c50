"""From two papers to a lease on the chain: matching, rounds, openings, and the events that tell of them."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from suanli_protocol import wire
from suanli_protocol.errors import (
    MarketError,
    NotFoundError,
)
from suanli_protocol.lease import Progress, seat_word, terms
from suanli_protocol.log import EntryKind, verify_acknowledgement
from suanli_protocol.market_client import MarketClient
from suanli_protocol.messages import Bid, Offer, Round
from suanli_protocol.signing import struct_hash
from support.builders import (
    a_need,
    some_attributes,
    some_constraints,
    some_prices,
)
from support.market import (
    Party,
    bid_id,
    offer_id,
)
from support.market_scene import (
    Market,
    a_pair,
    events_until,
    eventually,
    opened_lease,
    unique_region,
)

pytestmark = pytest.mark.e2e


def test_a_bid_becomes_a_lease_on_the_chain(market: Market, provider: Party, consumer: Party) -> None:
    offer, bid = a_pair(market, provider, consumer)
    market.client(provider).post_offer(offer)
    client = market.client(consumer)
    client.post_bid(bid)
    events = events_until(client, "lease.opened")
    assert [event.kind for event in events] == ["bid.queued", "bid.matched", "lease.opened"]
    lease = client.lease(wire.from_hex(events[-1].lease or ""))
    assert (lease.offer, lease.bid, lease.state, lease.phase) == (offer.offer, bid.bid, "open", "leased")
    papers = wire.paper_from_json(Bid, lease.bid), wire.paper_from_json(Offer, lease.offer)
    held, _ = terms(*papers, rate=int(lease.rate), opened_at=lease.opened_at)
    word = market.world.escrow.seat(held.seat_key)
    assert word == seat_word(wire.from_hex(lease.id), Progress())
    assert client.bid(bid_id(bid)).lease == lease.id
    assert client.bid(bid_id(bid)).state == "leased"
    assert events_until(market.client(provider), "lease.opened")[-1].lease == lease.id
    assert [view.id for view in market.client(provider).leases(state="open")] == [lease.id]
    used = market.world.escrow.account(provider.address).used
    assert used == a_need()


def test_the_round_of_an_opening_is_committed_on_the_chain(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer)
    client = market.client(consumer)
    (matched,) = [event for event in client_events(client) if event.kind == "bid.matched"]
    found = client.round(int(matched.data["round"]))
    message = wire.paper_from_json(Round, found["round"])
    assert wire.to_hex(struct_hash(message)) == found["hash"]
    if message.number > 1:
        assert message.previous == wire.from_hex(client.round(message.number - 1)["hash"])
    calldata = market.world.chain.transaction(wire.from_hex(lease.transaction)).data
    opening = market.world.escrow.decode_open(calldata)
    assert wire.to_hex(opening.head) == found["hash"]
    assert found["matches"][0]["bid"] == wire.to_hex(struct_hash(opening.openings[0].bid))


def client_events(client: MarketClient) -> list[wire.Event]:
    """What the client's stream holds up to its lease."""
    return events_until(client, "lease.opened")


def test_an_unmatched_bid_is_told_why_and_matched_when_an_offer_comes(
    market: Market, provider: Party, consumer: Party
) -> None:
    offer, bid = a_pair(market, provider, consumer, max_rate=1000)
    cheap, _ = a_pair(market, provider, consumer)
    client = market.client(consumer)
    market.client(provider).post_offer(offer)
    client.post_bid(bid)
    unmatched = events_until(client, "bid.unmatched")[-1]
    conditions = {item["condition"]: item for item in unmatched.data["rejections"]}
    assert conditions["rate"]["hint"] == "raise max_price to 0.0351 DEVC per hour"
    assert client.bid(bid_id(bid)).rejections

    attributes = some_attributes(region=str(bid.constraints["regions"][0]))
    market.client(provider).post_offer(
        market.offer(provider, attributes=attributes, prices=some_prices(core=100, memory_gib=0).pack())
    )
    events_until(client, "lease.opened")
    assert cheap.offer["provider"] == provider.address


def test_a_quote_names_price_and_reasons(market: Market, provider: Party, consumer: Party) -> None:
    offer, bid = a_pair(market, provider, consumer)
    market.client(provider).post_offer(offer)
    client = market.client()
    quote = client.quote(wire.QuoteRequest(bid=bid.bid, constraints=bid.constraints))
    (best,) = quote.offers
    assert (best.rate, best.price, best.fee, best.stake, best.seconds) == ("35100", "35100", "175", "3510", 3600)
    assert best.offer.id == wire.to_hex(offer_id(offer))
    assert quote.considered == 1 + sum(rejection.offers for rejection in quote.rejections)
    tight = {**bid.bid, "maxRate": "1"}
    refused = client.quote(wire.QuoteRequest(bid=tight, constraints=bid.constraints))
    assert refused.offers == []
    assert "rate" in [rejection.condition for rejection in refused.rejections]


def test_contested_bids_wait_for_the_round_and_the_dearer_wins(market: Market, provider: Party) -> None:
    low, high = market.world.party(), market.world.party()
    need = a_need(cpu_milli=3000).pack()
    offer, first = a_pair(market, provider, low, need=need, max_rate=100_000)

    regions = tuple(first.constraints["regions"])
    second = market.bid(high, constraints=some_constraints(regions=regions), need=need, max_rate=200_000)
    market.client(low).post_bid(first)
    market.client(high).post_bid(second)
    market.client(provider).post_offer(offer)
    events_until(market.client(high), "lease.opened")
    assert market.client(low).bid(bid_id(first)).state == "queued"


def test_a_burst_of_bids_opens_in_batches(market: Market) -> None:
    region, bids = unique_region(), 24
    for _ in range(6):
        party = market.world.party()
        market.client(party).post_offer(market.offer(party, attributes=some_attributes(region=region)))
    consumer = market.world.party()
    client = market.client(consumer)
    for _ in range(bids):
        client.post_bid(market.bid(consumer, constraints=some_constraints(regions=(region,))))
    leases = eventually(lambda: client.leases() if len(client.leases()) == bids else None)
    assert len({lease.number for lease in leases}) == bids
    assert len({lease.id for lease in leases}) == bids
    assert sorted(Counter(str(lease.offer["provider"]) for lease in leases).values()) == [4] * 6


def test_an_expired_bid_leaves_with_the_reasons(market: Market, provider: Party, consumer: Party) -> None:
    offer, bid = a_pair(market, provider, consumer, max_rate=1, valid_until=int(time.time()) + 3)
    market.client(provider).post_offer(offer)
    client = market.client(consumer)
    client.post_bid(bid)
    expired = events_until(client, "bid.expired")[-1]
    assert expired.data["reason"] == "queue_timeout"
    assert "rate" in [item["condition"] for item in expired.data["rejections"]]
    assert client.bid(bid_id(bid)).state == "expired"


def test_papers_can_be_withdrawn_by_their_signer_alone(market: Market, provider: Party, consumer: Party) -> None:
    offer, bid = a_pair(market, provider, consumer, max_rate=1)
    market.client(provider).post_offer(offer)
    client = market.client(consumer)
    client.post_bid(bid)
    with pytest.raises(NotFoundError):
        market.client(provider).withdraw_bid(bid_id(bid))
    ack = client.withdraw_bid(bid_id(bid))
    entry = verify_acknowledgement(ack, client.domain, market.process.address)
    assert (entry.kind, entry.paper) == (EntryKind.WITHDRAW, bid_id(bid))
    assert client.withdraw_bid(bid_id(bid)) == ack
    assert client.bid(bid_id(bid)).state == "withdrawn"
    market.client(provider).withdraw_offer(offer_id(offer))
    assert wire.to_hex(offer_id(offer)) not in [view.id for view in client.offers()]


def test_a_leased_bid_cannot_be_withdrawn(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer)
    bid = struct_hash(wire.paper_from_json(Bid, lease.bid))
    with pytest.raises(MarketError, match="leased already"):
        market.client(consumer).withdraw_bid(bid)


def test_a_bump_on_the_chain_kills_older_papers(market: Market, provider: Party, consumer: Party) -> None:
    offer, bid = a_pair(market, provider, consumer, max_rate=1)
    market.client(provider).post_offer(offer)
    client = market.client(consumer)
    client.post_bid(bid)
    market.world.escrow.bump(provider.signer, provider.address)
    market.world.escrow.bump(consumer.signer, consumer.address)
    assert events_until(client, "bid.refused")[-1].data["reason"] == "counter_raised"
    eventually(lambda: wire.to_hex(offer_id(offer)) not in [view.id for view in client.offers()])


def test_what_the_chain_refuses_comes_back_with_its_reason(market: Market, provider: Party, consumer: Party) -> None:
    """The seat is used on the chain behind the market's back: the match is refused there, the bid leaves."""
    offer, bid = a_pair(market, provider, consumer)
    client = market.client(consumer)
    client.post_bid(bid)
    market.world.escrow.cancel(consumer.signer, consumer.address, wire.from_hex(str(bid.bid["seat"])))
    market.client(provider).post_offer(offer)
    refused = events_until(client, "bid.refused")[-1]
    assert refused.data["reason"] in ("seat_closed", "seat_taken")
    assert client.bid(bid_id(bid)).state == "refused"


def test_events_resume_where_the_reader_left(market: Market, provider: Party, consumer: Party) -> None:
    opened_lease(market, provider, consumer)
    client = market.client(consumer)
    whole = events_until(client, "lease.opened")
    rest = events_until(client, "lease.opened", after=whole[0].seq)
    assert rest == whole[1:]


def test_a_stream_shows_only_the_signers_events(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer)
    stranger = market.world.party()
    own = market.bid(stranger, max_rate=1)
    market.client(stranger).post_bid(own)
    seen = events_until(market.client(stranger), "bid.queued")
    assert [event.bid for event in seen] == [wire.to_hex(bid_id(own))]
    with pytest.raises(NotFoundError):
        market.client(stranger).lease(wire.from_hex(lease.id))
