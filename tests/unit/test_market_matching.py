"""The clearing: who gets what, in which order, and what competes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from suanli_market.clearing.conditions import Facts, StandingBid, StandingOffer, Wish
from suanli_market.clearing.index import Index
from suanli_market.clearing.matching import CheapestFirst, Clearing
from suanli_protocol.capacity import Lanes
from suanli_protocol.lease import Account
from support.builders import CREDIT, a_capacity, a_need, a_seat, a_signer, consumer, provider, some_prices
from support.market_papers import PLACE, a_standing_bid, a_standing_offer, some_facts

OTHER = a_signer(5).address


def cleared(bids: Sequence[StandingBid], offers: Sequence[StandingOffer], facts: Facts) -> Clearing:
    return CheapestFirst().clear(bids, Index.of(offers, facts), facts)


def competing(bids: Sequence[StandingBid], offers: Sequence[StandingOffer], facts: Facts) -> frozenset[bytes]:
    return cleared(bids, offers, facts).competing


def facts_with(*providers: str, free: int = 100 * CREDIT, seed: bytes = bytes(32)) -> Facts:
    base = some_facts(seed=seed)
    return Facts(
        base.now, base.market, {**base.accounts, **{address: Account(free=free) for address in providers}}, seed
    )


def test_the_cheapest_feasible_offer_wins() -> None:
    dear = a_standing_offer(prices=some_prices(core=90_000).pack())
    cheap = a_standing_offer(provider=OTHER)
    bid = a_standing_bid()
    for offers in ([dear, cheap], [cheap, dear]):
        (proposal,) = cleared([bid], offers, facts_with(OTHER)).proposals
        assert proposal.offer is cheap
        assert proposal.terms.rate == 35_100  # the offer's own ask, not the bid's limit


def test_a_full_machine_sends_the_bid_to_the_next() -> None:
    cheap, dear = a_standing_offer(), a_standing_offer(provider=OTHER, prices=some_prices(core=40_000).pack())
    full = Account(100 * CREDIT, 0, a_capacity())
    facts = Facts(
        facts_with(OTHER).now, facts_with(OTHER).market, {**facts_with(OTHER).accounts, provider().address: full}
    )
    (proposal,) = cleared([a_standing_bid()], [cheap, dear], facts).proposals
    assert proposal.offer is dear


def test_two_offers_of_one_account_share_its_capacity() -> None:
    offers = [a_standing_offer(), a_standing_offer(valid_until=1_800_000_700)]
    bids = [a_standing_bid(seat=a_seat(n), need=a_need(cpu_milli=3000).pack()) for n in range(2)]
    clearing = cleared(bids, offers, facts_with())
    assert len(clearing.proposals) == 1
    assert len(clearing.unmatched) == 1


def test_the_larger_declared_surplus_is_served_first() -> None:
    low = a_standing_bid(seat=a_seat(1), max_rate=120_000, need=a_need(cpu_milli=3000).pack(), seq=1)
    high = a_standing_bid(seat=a_seat(2), max_rate=190_000, need=a_need(cpu_milli=3000).pack(), seq=9)
    (proposal,) = cleared([low, high], [a_standing_offer()], facts_with()).proposals
    assert proposal.bid is high


def test_ties_follow_the_seed_and_not_the_arrival() -> None:
    bids = [a_standing_bid(seat=a_seat(n), need=a_need(cpu_milli=3000).pack(), seq=n) for n in range(2)]
    winners = set()
    for byte in range(64):
        facts = facts_with(seed=bytes([byte * 4]) + bytes(31))
        (proposal,) = cleared(bids, [a_standing_offer()], facts).proposals
        winners.add(proposal.bid.id)
    assert winners == {bid.id for bid in bids}


def test_one_seat_gets_one_lease() -> None:
    bids = [a_standing_bid(seat=a_seat(1)), a_standing_bid(seat=a_seat(1), max_rate=110_000)]
    assert len(cleared(bids, [a_standing_offer()], facts_with()).proposals) == 1


def test_a_consumers_money_is_spent_once() -> None:
    bids = [a_standing_bid(seat=a_seat(n)) for n in range(2)]
    facts = some_facts(consumer=Account(free=40_000))  # one deposit is 38,785
    assert len(cleared(bids, [a_standing_offer()], facts).proposals) == 1


def test_bids_compete_only_when_capacity_is_short() -> None:
    roomy = [a_standing_bid(seat=a_seat(n), consumer=a_signer(20 + n).address) for n in range(4)]
    facts = facts_with(*(bid.bid.consumer for bid in roomy))
    assert competing(roomy, [a_standing_offer()], facts) == frozenset()
    fifth = a_standing_bid(seat=a_seat(9))
    crowd = [*roomy, fifth]
    assert competing(crowd, [a_standing_offer()], facts) == {bid.id for bid in crowd}


def test_a_bid_that_nothing_serves_competes_with_nobody() -> None:
    modest = a_standing_bid(seat=a_seat(1))
    greedy = a_standing_bid(seat=a_seat(2), need=a_need(memory_mib=9000).pack(), max_rate=10**9, budget=10**9)
    assert competing([modest, greedy], [a_standing_offer()], facts_with()) == frozenset()


def test_a_lone_bid_never_waits() -> None:
    assert competing([a_standing_bid()], [a_standing_offer()], some_facts()) == frozenset()


def test_alternatives_of_one_seat_compete() -> None:
    bids = [a_standing_bid(seat=a_seat(1)), a_standing_bid(seat=a_seat(1), max_rate=110_000)]
    assert competing(bids, [a_standing_offer()], facts_with()) == {bid.id for bid in bids}


def test_unmatched_bids_are_named() -> None:
    bid = a_standing_bid(max_rate=1)
    assert cleared([bid], [a_standing_offer()], facts_with()).unmatched == (bid.id,)
    assert consumer().address in facts_with().accounts
    assert Lanes.unpack(bid.bid.need) == bid.need


def test_what_is_in_use_counts_when_bids_compete() -> None:
    bids = [a_standing_bid(seat=a_seat(n), consumer=a_signer(20 + n).address) for n in range(2)]
    base = facts_with(*(bid.bid.consumer for bid in bids))
    busy = Account(100 * CREDIT, 0, a_capacity() - a_need())
    facts = Facts(base.now, base.market, {**base.accounts, provider().address: busy})
    assert competing(bids, [a_standing_offer()], base) == frozenset()
    assert competing(bids, [a_standing_offer()], facts) == {bid.id for bid in bids}


def test_bonds_can_be_what_bids_compete_for() -> None:
    bids = [a_standing_bid(seat=a_seat(n), consumer=a_signer(20 + n).address) for n in range(2)]
    base = facts_with(*(bid.bid.consumer for bid in bids))
    facts = Facts(base.now, base.market, {**base.accounts, provider().address: Account(free=7019)})  # two bonds: 7,020
    assert competing(bids, [a_standing_offer()], facts) == {bid.id for bid in bids}


def test_a_bid_competes_only_for_what_another_would_take_first() -> None:
    """Two bids with room for one where both would go, and a third whose best offer nobody is denied."""
    near, far = a_standing_offer(), a_standing_offer(provider=OTHER, prices=some_prices(core=40_000).pack())
    facts = facts_with(OTHER, *(a_signer(20 + n).address for n in range(3)))
    rivals = [
        a_standing_bid(seat=a_seat(n), consumer=a_signer(20 + n).address, need=a_need(cpu_milli=3000).pack())
        for n in range(2)
    ]
    roomy = [replace(bid, bid=replace(bid.bid, max_rate=10**6, budget=10**9)) for bid in rivals]
    third = a_standing_bid(seat=a_seat(7), consumer=a_signer(22).address, wish=Wish(regions=("DE",)))
    abroad = a_standing_offer(place=replace(PLACE, region="DE-BE"), valid_until=1_800_000_900, provider=OTHER)
    clearing = cleared([*roomy, third], [near, far, abroad], facts)
    assert len(clearing.proposals) == 3
    assert clearing.competing == {bid.id for bid in roomy}
    assert [proposal.bid for proposal in clearing.without(clearing.competing).proposals] == [third]
