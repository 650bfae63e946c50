"""What a run costs, by hand."""

from __future__ import annotations

from typing import Literal

import pytest

from suanli_protocol.billing import Bill, billed_seconds, capacity_bill, due, usage_bill
from suanli_protocol.capacity import Lanes, Prices
from suanli_protocol.lease import ask_up
from support import builders


@pytest.mark.parametrize(
    ("wall_ms", "least", "most", "billed"),
    [
        (0, 60, 3600, 0),
        (1, 60, 3600, 60),
        (1, 0, 3600, 1),
        (60_001, 60, 3600, 61),
        (10**9, 60, 3600, 3600),
        (1000, 1, 5, 1),
    ],
)
def test_seconds_are_rounded_up_within_bounds(wall_ms: int, least: int, most: int, billed: int) -> None:
    assert billed_seconds(wall_ms, least, most) == billed


def test_the_capacity_bill_rounds_down_once_and_stops_at_the_price() -> None:
    assert capacity_bill(35_100, 10, 35_100) == 97  # 97.5
    assert capacity_bill(35_100, 3600, 35_100) == 35_100
    assert capacity_bill(35_100, 7200, 35_100) == 35_100
    assert capacity_bill(1, 3599, 1) == 0


def test_the_usage_bill_counts_each_resource_in_its_unit() -> None:
    need = Lanes(2000, 2048, 1000, 10_240)
    hour = builders.some_usage(wall_ms=3_600_000, cpu_ms=3_600_000, peak_memory_mib=512)
    assert usage_bill(Prices(core=700), need, hour, 3600, 10**9) == 700
    assert usage_bill(Prices(memory_gib=1000), need, hour, 3600, 10**9) == 500
    assert usage_bill(Prices(accelerator=333), need, hour, 3600, 10**9) == 333
    assert usage_bill(Prices(disk_gib=5), need, hour, 3600, 10**9) == 50
    assert usage_bill(Prices(700, 1000, 333, 5), need, hour, 3600, 10**9) == 1583
    assert usage_bill(Prices(700, 1000, 333, 5), need, hour, 3600, 1500) == 1500


def test_usage_beyond_what_was_reserved_is_not_billed() -> None:
    need = Lanes(1000, 1024)
    greedy = builders.some_usage(wall_ms=1000, cpu_ms=10**9, peak_memory_mib=10**6)
    fair = builders.some_usage(wall_ms=1000, cpu_ms=1000, peak_memory_mib=1024)
    prices = Prices(core=3_600_000, memory_gib=3_600_000)
    assert usage_bill(prices, need, greedy, 1, 10**9) == usage_bill(prices, need, fair, 1, 10**9) == 2000


@pytest.mark.parametrize(("billing", "amount"), [("capacity", 97), ("usage", 43)])
def test_due(billing: Literal["capacity", "usage"], amount: int) -> None:
    """Ten seconds: core 15,000/360 = 41.67 at half its speed, memory 5,000 x 100/1024 / 360 = 1.36, disk 0.28."""
    state = builders.a_state()
    assert state.clauses.rate == ask_up(builders.a_bid(), builders.an_offer()) == 35_100
    bill = due(state.lease, state.clauses, builders.an_offer(), billing, builders.some_usage(), "ok")
    assert bill == Bill(10, amount)


@pytest.mark.parametrize(
    ("reason", "amount"), [("exit_nonzero", 97), ("timeout", 97), ("worker_lost", 0), ("sandbox_failed", 0), ("?", 0)]
)
def test_only_what_is_not_the_providers_fault_is_billed(reason: str, amount: int) -> None:
    state = builders.a_state()
    bill = due(state.lease, state.clauses, builders.an_offer(), "capacity", builders.some_usage(), reason)
    assert bill == Bill(10, amount)


@pytest.mark.parametrize("billing", ["capacity", "usage"])
def test_a_run_that_never_started_costs_nothing(billing: Literal["capacity", "usage"]) -> None:
    state = builders.a_state()
    usage = builders.some_usage(wall_ms=0, cpu_ms=5000)
    assert due(state.lease, state.clauses, builders.an_offer(), billing, usage, "ok") == Bill(0, 0)
