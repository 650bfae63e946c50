"""Why not: each offer counted once, hints that would help."""

from __future__ import annotations

from suanli_market.clearing.conditions import Facts, Place, StandingBid, StandingOffer, Wish, failures, terms_of
from suanli_market.clearing.explain import explain
from suanli_protocol.lease import Account
from suanli_protocol.wire import Rejection
from support.builders import a_need, a_signer, some_prices
from support.market_papers import a_standing_bid, a_standing_offer, some_facts


def why(bid: StandingBid, offers: list[StandingOffer], facts: Facts | None = None) -> dict[str, Rejection]:
    found = explain(bid, offers, facts or some_facts(), decimals=6, symbol="DEVC")
    return {rejection.condition: rejection for rejection in found}


def test_each_offer_is_counted_under_its_first_failing_condition() -> None:
    small = [a_standing_offer(valid_until=1_900_000_000 + n) for n in range(3)]
    abroad = [
        a_standing_offer(place=Place("FR", "x86_64", ("3.11",)), valid_until=1_900_000_100 + n) for n in range(12)
    ]
    dear = [a_standing_offer(prices=some_prices(core=10**6 + n).pack()) for n in range(26)]
    bid = a_standing_bid(wish=Wish(regions=("CN",)))
    tight = a_standing_bid(wish=Wish(regions=("CN",)), need=a_need(memory_mib=9000).pack())
    assert {key: value.offers for key, value in why(bid, [*abroad, *dear]).items()} == {"rate": 26, "region": 12}
    assert why(tight, [*small, *abroad])["memory"].offers == 3


def test_an_offer_that_would_do_is_not_counted() -> None:
    assert why(a_standing_bid(), [a_standing_offer()]) == {}


def test_the_hint_of_the_price_is_the_least_that_helps() -> None:
    offers = [a_standing_offer(prices=some_prices(core=core).pack()) for core in (420_000, 500_000)]
    bid = a_standing_bid()
    hint = why(bid, offers)["rate"].hint
    assert hint == "raise max_price to 0.4251 DEVC per hour"
    raised = a_standing_bid(max_rate=425_100)
    assert "rate" not in [str(c) for c in failures(raised, offers[0], terms_of(raised, offers[0]), some_facts())]


def test_hints_name_what_would_help() -> None:
    facts = some_facts(consumer=Account(free=1))
    assert (
        why(a_standing_bid(), [a_standing_offer()], facts)["consumer_funds"].hint
        == "deposit until 0.038785 DEVC are free"
    )
    assert why(a_standing_bid(budget=10), [a_standing_offer()])["budget"].hint == "raise the budget to 0.035275 DEVC"
    assert "CN-GD" in why(a_standing_bid(wish=Wish(regions=("FR",))), [a_standing_offer()])["region"].hint
    assert "sandbox a" in why(a_standing_bid(needs=1), [a_standing_offer()])["traits"].hint
    hint = why(a_standing_bid(), [a_standing_offer()], some_facts(min_fee=10_000))["fee"].hint
    assert hint == "ask for more, or for longer: a lease brings that fee from a price of 2.00 DEVC on"
    foreign = a_standing_offer(market=a_signer(8).address)
    assert why(a_standing_bid(), [foreign])["market"].detail == "are for another market"
