"""Which condition keeps an offer from a bid: each one alone, at its boundary."""

from __future__ import annotations

from typing import Any

import pytest

from suanli_market.clearing.conditions import Condition, Place, Wish, failures, terms_of
from suanli_protocol.capacity import Lanes
from suanli_protocol.lease import Account
from suanli_protocol.traits import Trait
from support.builders import CREDIT, NOW, a_capacity, a_need, a_signer, consumer, market, provider, some_prices
from support.market_papers import a_standing_bid, a_standing_offer, some_facts

ASK = 35_100  # one core, one GiB of memory, one GiB of disk at the builders' prices


def failing(
    bid: dict[str, Any] | None = None,
    offer: dict[str, Any] | None = None,
    facts: dict[str, Any] | None = None,
) -> list[Condition]:
    standing_bid, standing_offer = a_standing_bid(**(bid or {})), a_standing_offer(**(offer or {}))
    return list(
        failures(standing_bid, standing_offer, terms_of(standing_bid, standing_offer), some_facts(**(facts or {})))
    )


def test_the_builders_papers_fit() -> None:
    assert failing() == []


def test_terms_are_the_escrows() -> None:
    terms = terms_of(a_standing_bid(max_seconds=7200), a_standing_offer(max_seconds=1800))
    assert (terms.rate, terms.seconds, terms.price) == (ASK, 1800, 17_550)
    assert (terms.fee, terms.deposit, terms.bond) == (87, 17_550 + 87 + 1755, 1755)


@pytest.mark.parametrize(
    ("bid", "offer", "facts", "condition"),
    [
        ({}, {"valid_until": NOW}, {}, Condition.EXPIRED),
        ({}, {"counter": 1}, {}, Condition.WITHDRAWN),
        ({}, {"market": a_signer(9).address}, {}, Condition.MARKET),
        ({"consumer": provider().address}, {}, {}, Condition.PARTY),
        ({"wish": Wish(regions=("CN-SH",))}, {}, {}, Condition.REGION),
        ({"wish": Wish(regions=("C",))}, {}, {}, Condition.REGION),
        ({"wish": Wish(arch="aarch64")}, {}, {}, Condition.ARCH),
        ({"wish": Wish(python="3.13")}, {}, {}, Condition.PYTHON),
        ({"wish": Wish(environments=True)}, {"place": Place("CN-GD", "x86_64", ("3.11",))}, {}, Condition.ENVIRONMENTS),
        ({"needs": int(Trait.SANDBOX_A)}, {}, {}, Condition.TRAITS),
        ({"refuses": int(Trait.PYTHON)}, {}, {}, Condition.REFUSED_TRAITS),
        ({"need": a_need(cpu_milli=4001).pack()}, {}, {}, Condition.CPU),
        ({"need": a_need(memory_mib=8193).pack()}, {}, {}, Condition.MEMORY),
        ({"need": a_need(accelerator_milli=1).pack()}, {}, {}, Condition.ACCELERATOR),
        ({"need": a_need(disk_mib=20_481).pack()}, {}, {}, Condition.DISK),
        ({"max_seconds": 59}, {"min_seconds": 60}, {}, Condition.SECONDS),
        ({"window": 3601}, {}, {}, Condition.WINDOW),
        ({"max_rate": ASK - 1}, {}, {}, Condition.RATE),
        ({"budget": ASK + 174}, {}, {}, Condition.BUDGET),  # fee: floor(35100 × 50 / 10000) = 175
        ({}, {}, {"min_fee": 176}, Condition.FEE),
        ({}, {}, {"provider": Account(CREDIT, 0, Lanes(cpu_milli=3001))}, Condition.BUSY),
        ({}, {}, {"provider": Account(CREDIT, 0, Lanes(memory_mib=7169))}, Condition.BUSY),
        ({}, {}, {"consumer": Account(free=ASK + 175 + 3510 - 1)}, Condition.CONSUMER_FUNDS),
        ({}, {}, {"provider": Account(free=3509)}, Condition.PROVIDER_FUNDS),
    ],
)
def test_each_condition_alone(
    bid: dict[str, Any], offer: dict[str, Any], facts: dict[str, Any], condition: Condition
) -> None:
    assert condition in failing(bid, offer, facts)
    assert set(failing(bid, offer, facts)) <= {condition, Condition.RATE, Condition.BUDGET, Condition.CONSUMER_FUNDS}


@pytest.mark.parametrize(
    ("bid", "offer", "facts"),
    [
        ({}, {}, {"min_fee": 175}),
        ({}, {"valid_until": NOW + 1}, {}),
        ({}, {"market": market().address}, {}),
        ({"wish": Wish(regions=("CN",))}, {}, {}),
        ({"wish": Wish(regions=("FR", "CN-GD"), arch="x86_64", python="3.12", environments=True)}, {}, {}),
        ({"max_seconds": 60}, {"min_seconds": 60}, {}),
        ({"window": 3600}, {}, {}),
        ({"max_rate": ASK}, {}, {}),
        ({"budget": ASK + 175}, {}, {}),
        ({}, {}, {"provider": Account(CREDIT, 0, a_capacity() - a_need())}),
        ({}, {}, {"consumer": Account(free=ASK + 175 + 3510)}),
        ({}, {}, {"provider": Account(free=3510)}),
    ],
)
def test_each_boundary_fits(bid: dict[str, Any], offer: dict[str, Any], facts: dict[str, Any]) -> None:
    assert failing(bid, offer, facts) == []


def test_an_unknown_account_has_nothing() -> None:
    stranger = a_signer(77).address
    assert Condition.CONSUMER_FUNDS in failing({"consumer": stranger})
    assert failing({"consumer": consumer().address}, {"prices": some_prices().pack()}) == []
