"""Properties of every clearing: nothing sold twice, nobody worse off than its limits, the same from any order."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from suanli_market.clearing.conditions import Facts, Place, StandingBid, StandingOffer, Wish, feasible
from suanli_market.clearing.index import Index
from suanli_market.clearing.matching import CheapestFirst, Clearing, reserve
from suanli_market.clearing.reference import PlainCheapestFirst, ranked
from suanli_protocol.capacity import Lanes, Prices
from suanli_protocol.lease import Account, Refusal, ask_up, deposit_of, fee_down, price_up, refusal
from support.builders import NOW, a_seat, a_signer
from support.market_papers import a_standing_bid, a_standing_offer

MARKET = a_signer(3).address
PROVIDERS = [a_signer(n).address for n in range(10, 14)]
CONSUMERS = [a_signer(n).address for n in range(20, 24)]

lanes = st.builds(
    Lanes,
    cpu_milli=st.integers(1, 8000),
    memory_mib=st.integers(0, 16_384),
    accelerator_milli=st.sampled_from((0, 0, 1000)),
    disk_mib=st.integers(0, 1000),
)
prices = st.builds(
    Prices,
    core=st.integers(0, 50_000),
    memory_gib=st.integers(0, 5_000),
    accelerator=st.integers(0, 10**6),
    disk_gib=st.integers(0, 100),
)
places = st.builds(
    Place,
    region=st.sampled_from(("", "CN", "CN-GD", "CN-BJ", "US-CA", "CNX")),
    arch=st.sampled_from(("x86_64", "arm64")),
    pythons=st.sampled_from(((), ("3.11",), ("3.11", "3.12"))),
    environments=st.booleans(),
)
wishes = st.one_of(
    st.just(Wish()),
    st.builds(
        Wish,
        regions=st.sampled_from(((), ("CN",), ("CN-GD", "US"), ("",))),
        arch=st.sampled_from(("", "x86_64")),
        python=st.sampled_from(("", "3.12")),
        environments=st.booleans(),
    ),
)


def cleared(bids: list[StandingBid], offers: list[StandingOffer], facts: Facts) -> Clearing:
    return CheapestFirst().clear(bids, Index.of(offers, facts), facts)


@st.composite
def books(draw: st.DrawFn) -> tuple[list[StandingBid], list[StandingOffer], Facts]:
    offers = {
        offer.id: offer
        for offer in (
            a_standing_offer(
                provider=draw(st.sampled_from(PROVIDERS)),
                capacity=draw(lanes).pack(),
                prices=draw(prices).pack(),
                min_seconds=draw(st.integers(1, 4000)),
                valid_until=NOW + draw(st.integers(0, 900)),
                bond_bps=draw(st.sampled_from((1000, 2500))),
                counter=draw(st.sampled_from((0, 0, 0, 1))),
                traits=draw(st.sampled_from((6, 7, 2, 0x306))),
                max_seconds=draw(st.sampled_from((600, 3600, 86_400))),
                max_window=draw(st.sampled_from((300, 3600))),
                place=draw(places),
            )
            for _ in range(draw(st.integers(0, 20)))
        )
    }
    bids = {
        bid.id: bid
        for bid in (
            a_standing_bid(
                consumer=draw(st.sampled_from(CONSUMERS)),
                seat=a_seat(draw(st.integers(0, 12))),
                need=draw(lanes).pack(),
                max_rate=draw(st.integers(0, 400_000)),
                budget=draw(st.integers(0, 10**6)),
                max_seconds=draw(st.integers(1, 7200)),
                needs=draw(st.sampled_from((0, 2))),
                refuses=draw(st.sampled_from((0, 0, 1))),
                window=draw(st.sampled_from((60, 300, 3600))),
                wish=draw(wishes),
            )
            for _ in range(draw(st.integers(0, 8)))
        )
    }
    accounts = {
        address: Account(draw(st.integers(0, 2 * 10**6)), 0, draw(st.one_of(st.just(Lanes()), lanes)))
        for address in PROVIDERS + CONSUMERS
    }
    seed = draw(st.binary(min_size=32, max_size=32))
    min_fee = draw(st.sampled_from((0, 0, 1, 40)))
    return list(bids.values()), list(offers.values()), Facts(NOW, MARKET, accounts, seed, min_fee)


@given(books())
@settings(max_examples=150, deadline=None)
def test_no_lane_and_no_account_is_overdrawn(book: tuple[list[StandingBid], list[StandingOffer], Facts]) -> None:
    bids, offers, facts = book
    used = {address: facts.account(address).used for address in PROVIDERS}
    free = {address: facts.account(address).free for address in PROVIDERS + CONSUMERS}
    clearing = cleared(bids, offers, facts)
    for proposal in clearing.proposals:
        provider, consumer = proposal.offer.offer.provider, proposal.bid.bid.consumer
        used[provider] += proposal.bid.need
        assert proposal.offer.capacity.covers(used[provider])
        price = price_up(proposal.terms.rate, proposal.terms.seconds)
        free[provider] -= price * proposal.offer.offer.bond_bps // 10_000
        free[consumer] -= deposit_of(price, proposal.bid.bid.fee_bps)
    assert all(amount >= 0 for amount in free.values())


@given(books())
@settings(max_examples=150, deadline=None)
def test_every_match_would_open(book: tuple[list[StandingBid], list[StandingOffer], Facts]) -> None:
    """The escrow's own checks, one after the other, refuse none of them: individual rationality and all bounds."""
    bids, offers, facts = book
    accounts = dict(facts.accounts)
    for proposal in cleared(bids, offers, facts).proposals:
        bid, offer = proposal.bid.bid, proposal.offer.offer
        consumer, provider = accounts[bid.consumer], accounts[offer.provider]
        code = refusal(
            bid,
            offer,
            rate=proposal.terms.rate,
            caller=MARKET,
            now=NOW,
            consumer=Account(consumer.free, consumer.counter, consumer.used),
            provider=Account(provider.free, provider.counter, provider.used),
        )
        assert code is Refusal.NONE
        assert ask_up(bid, offer) == proposal.terms.rate <= bid.max_rate
        assert proposal.terms.price + fee_down(proposal.terms.price, bid.fee_bps) <= bid.budget
        reserve(accounts, proposal)


@given(books(), st.integers())
@settings(max_examples=100, deadline=None)
def test_the_outcome_does_not_depend_on_the_order(
    book: tuple[list[StandingBid], list[StandingOffer], Facts], shuffle: int
) -> None:
    bids, offers, facts = book
    other_bids, other_offers = list(bids), list(offers)
    Random(shuffle).shuffle(other_bids)
    Random(shuffle + 1).shuffle(other_offers)
    one = cleared(bids, offers, facts)
    other = cleared(other_bids, other_offers, facts)
    assert one == other


@given(books())
@settings(max_examples=100, deadline=None)
def test_each_match_is_the_cheapest_that_was_left(
    book: tuple[list[StandingBid], list[StandingOffer], Facts],
) -> None:
    bids, offers, facts = book
    accounts = dict(facts.accounts)
    for proposal in cleared(bids, offers, facts).proposals:
        left = ranked(proposal.bid, offers, replace(facts, accounts=accounts))
        assert left[0].terms.rate == proposal.terms.rate
        reserve(accounts, proposal)


@given(books())
@settings(max_examples=100, deadline=None)
def test_nothing_feasible_is_left_lying(book: tuple[list[StandingBid], list[StandingOffer], Facts]) -> None:
    bids, offers, facts = book
    accounts = dict(facts.accounts)
    clearing = cleared(bids, offers, facts)
    taken = set()
    for proposal in clearing.proposals:
        reserve(accounts, proposal)
        taken.add((proposal.bid.bid.consumer, proposal.bid.bid.seat))
    after = replace(facts, accounts=accounts)
    assert len(taken) == len(clearing.proposals)
    assert {p.bid.id for p in clearing.proposals} | set(clearing.unmatched) == {bid.id for bid in bids}
    for bid in bids:
        if bid.id in clearing.unmatched and (bid.bid.consumer, bid.bid.seat) not in taken:
            assert not any(feasible(bid, p.offer, p.terms, after) for p in ranked(bid, offers, facts))


@given(books())
@settings(max_examples=100, deadline=None)
def test_bids_without_competition_get_what_they_would_get_alone(
    book: tuple[list[StandingBid], list[StandingOffer], Facts],
) -> None:
    """So clearing them at once takes nothing from anybody."""
    bids, offers, facts = book
    clearing = cleared(bids, offers, facts)
    together = {p.bid.id: p.terms.rate for p in clearing.proposals}
    for bid in bids:
        if bid.id not in clearing.competing:
            alone = ranked(bid, offers, facts)
            assert together.get(bid.id) == (alone[0].terms.rate if alone else None)


@given(books())
@settings(max_examples=100, deadline=None)
def test_clearing_first_what_does_not_compete_changes_nothing(
    book: tuple[list[StandingBid], list[StandingOffer], Facts],
) -> None:
    bids, offers, facts = book
    together = cleared(bids, offers, facts)
    first = together.without(together.competing)
    alone = cleared([bid for bid in bids if bid.id not in together.competing], offers, facts)
    assert set(alone.proposals) == set(first.proposals)
    accounts = dict(facts.accounts)
    for proposal in first.proposals:
        reserve(accounts, proposal)
    rest = [bid for bid in bids if bid.id in together.competing]
    then = cleared(rest, offers, replace(facts, accounts=accounts))
    assert {*first.proposals, *then.proposals} == set(together.proposals)


@given(books())
@settings(max_examples=300, deadline=None)
def test_the_index_changes_nothing(book: tuple[list[StandingBid], list[StandingOffer], Facts]) -> None:
    """The same proposals, the same bids left, the same competition as every bid against every offer."""
    bids, offers, facts = book
    assert cleared(bids, offers, facts) == PlainCheapestFirst().clear(bids, offers, facts)
