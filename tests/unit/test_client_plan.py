"""The limits of a bid, the window, and the memory of a network: pure rules around the plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suanli.client import Client
from suanli.config import Config
from suanli.filters import facts_of, parse
from suanli.jobs.job import Job
from suanli.network import Network, window_of
from suanli.plan import limited, no_match, rate_within, traits_of
from suanli_protocol import wire
from suanli_protocol.errors import ChainError, ConfigurationError, UsageError
from suanli_protocol.lease import fee_down, price_up
from suanli_protocol.traits import Trait
from support import builders


@given(st.integers(0, 2**90), st.integers(1, 2**31), st.integers(0, 10_000))
def test_the_highest_rate_stays_within_the_budget(budget: int, seconds: int, fee_bps: int) -> None:
    rate = rate_within(budget, seconds, fee_bps)
    price = price_up(rate, seconds)
    assert price + fee_down(price, fee_bps) <= budget
    more = price_up(rate + 1, seconds)
    assert more + fee_down(more, fee_bps) > budget


@given(st.integers(0, 2**60), st.integers(0, 2**60))
def test_each_limit_follows_from_the_other(max_price: int, budget: int) -> None:
    bid = builders.a_bid()
    by_price = limited(bid, max_price=max_price, budget=None)
    price = price_up(max_price, bid.max_seconds)
    assert (by_price.max_rate, by_price.budget) == (max_price, price + fee_down(price, bid.fee_bps))
    assert limited(bid, max_price=None, budget=budget).budget == budget
    both = limited(bid, max_price=max_price, budget=budget)
    assert (both.max_rate, both.budget) == (max_price, budget)
    assert limited(bid, max_price=None, budget=None) == bid


def test_limits_fit_their_fields() -> None:
    bid = builders.a_bid(max_seconds=2**31)
    assert limited(bid, max_price=2**95, budget=None).budget == 2**96 - 1
    assert limited(replace(bid, max_seconds=1), max_price=None, budget=2**95).max_rate == 2**96 - 1


def test_a_job_needs_a_sandbox_always() -> None:
    assert traits_of(Job(argv=("x",))) == Trait.SANDBOX_B
    wanted = traits_of(Job(argv=("x",), python="3.11", requirements=Path("r")))
    assert wanted == Trait.SANDBOX_B | Trait.PYTHON | Trait.ENVIRONMENTS


def info(min_window: int) -> wire.MarketInfo:
    return cast(wire.MarketInfo, SimpleNamespace(min_window=min_window, name="north"))


def test_windows() -> None:
    assert window_of(info(10), is_devnet=True) == 10
    assert window_of(info(60), is_devnet=True) == 60
    assert window_of(info(10), is_devnet=False) == 3600
    assert window_of(info(7200), is_devnet=False) == 7200
    with pytest.raises(ConfigurationError, match="refused"):
        window_of(info(10), is_devnet=False, wanted=599)
    assert window_of(info(10), is_devnet=False, wanted=600) == 600
    assert window_of(info(10), is_devnet=True, wanted=240) == 240


def test_a_window_that_is_wanted_is_never_changed_in_silence() -> None:
    with pytest.raises(UsageError, match="5 s is under the 1 m that north takes at least") as short:
        window_of(info(60), is_devnet=True, wanted=5)
    assert short.value.hint == "--window 60s"
    with pytest.raises(UsageError, match="longer than any offer"):
        window_of(info(10), is_devnet=True, wanted=31 * 86_400)


def test_the_window_is_a_setting_and_an_argument_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SUANLI_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUANLI_WINDOW", raising=False)
    assert Client().window() is None
    monkeypatch.setenv("SUANLI_WINDOW", "5m")
    assert Client().window() == 300
    assert Client(window="2m").window() == 120
    assert Client(window="2m").window(60) == 60
    with pytest.raises(UsageError, match=r"window \(flag --window\): 'soon' is not a duration"):
        Client(window="soon").window()


def a_network(genesis: bytes, chain_id: int) -> Network:
    network = Network(Config({}))
    chain: Any = SimpleNamespace(genesis=lambda: genesis, chain_id=lambda: chain_id)
    network.__dict__["chain"] = chain
    network.__dict__["escrow"] = SimpleNamespace(address="0x" + "22" * 20)
    return network


def test_a_reset_devnet_is_noticed_and_a_changed_chain_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUANLI_HOME", str(tmp_path))
    one, two = b"\x01" * 32, b"\x02" * 32
    assert a_network(one, 31337).remember() is None
    assert a_network(one, 31337).remember() is None
    assert a_network(two, 31337).remember() == "0x" + one.hex()
    assert a_network(two, 31337).remember() is None
    assert a_network(one, 8453).remember() is None
    with pytest.raises(ConfigurationError) as caught:
        a_network(two, 8453).remember()
    assert caught.value.code == "wrong_network"


def test_a_job_of_a_devnet_that_is_gone() -> None:
    network = a_network(b"\x01" * 32, 31337)
    network.check_genesis("0x" + "01" * 32)
    with pytest.raises(ChainError) as caught:
        network.check_genesis("0x" + "02" * 32)
    assert (caught.value.code, caught.value.exit_status) == ("chain_reset", 6)


def test_no_match_lists_the_reasons() -> None:
    found = (
        wire.Rejection(condition="memory", detail="lack memory", offers=3),
        wire.Rejection(condition="region", detail="are outside your regions", offers=12, hint="they are in DE"),
    )
    error = no_match(15, found)
    assert error.detail.splitlines()[1:] == [" 3 of 15  lack memory", "12 of 15  are outside your regions"]
    assert error.hint == "they are in DE"
    assert no_match(0, ()).exit_status == 4


def a_view(**free: int) -> wire.OfferView:
    offer = builders.an_offer()
    return wire.OfferView(
        id="0x" + "00" * 32,
        offer=wire.paper_to_json(offer),
        signature="0x" + "00" * 64,
        attributes=builders.some_attributes().to_json(),
        free={"cpuMilli": 4000, "memoryMib": 8192, "acceleratorMilli": 0, "diskMib": 20480, **free},
        seen_at=0,
    )


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", True),
        ("cpus>=4", True),
        ("cpus > 4", False),
        ("price<0.5 memory>=4GB", True),
        ("price=0.03", True),
        ("price<0.03", False),
        ("region=CN", True),
        ("region=DE", False),
        ("region!=DE name=kestrel", True),
        ("tier=B arch=x86_64 disk>=1GB", True),
    ],
)
def test_filters(text: str, passes: bool) -> None:
    assert parse(text, 6)(facts_of(a_view())) is passes


@pytest.mark.parametrize("text", ["cpus", "cpu>=1", "region>CN", "memory>=8", "price<cheap", "cpus>=x"])
def test_wrong_filters_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text, 6)
