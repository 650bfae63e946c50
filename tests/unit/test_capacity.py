"""Lanes and prices: packing, comparing, asking."""

from __future__ import annotations

import pytest

from suanli_protocol.capacity import GUARD, LANE_MAX, PRICE_MAX, Lanes, Prices


def test_lanes_stand_in_the_word_high_to_low() -> None:
    word = Lanes(1, 2, 3, 4).pack()
    assert word == 1 << 96 | 2 << 64 | 3 << 32 | 4
    assert Lanes.unpack(word) == Lanes(1, 2, 3, 4)


@pytest.mark.parametrize("value", [-1, LANE_MAX + 1])
def test_a_lane_out_of_range_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="lane"):
        Lanes(memory_mib=value).pack()


def test_a_guard_bit_stays_visible() -> None:
    assert Lanes.unpack(GUARD).values == (2**31,) * 4
    assert Lanes(*[LANE_MAX] * 4).pack() & GUARD == 0


def test_covers_compares_every_lane() -> None:
    have = Lanes(4000, 8192, 0, 100)
    assert have.covers(have)
    assert have.covers(Lanes())
    for lane in ("cpu_milli", "memory_mib", "accelerator_milli", "disk_mib"):
        assert not have.covers(Lanes(**{lane: getattr(have, lane) + 1}))


def test_lanes_add_and_subtract() -> None:
    assert Lanes(3, 3, 3, 3) - Lanes(1, 2, 3, 0) + Lanes(0, 0, 1, 0) == Lanes(2, 1, 1, 3)


def test_asks_round_up_in_each_lane() -> None:
    prices = Prices(core=1, memory_gib=1, accelerator=1, disk_gib=1)
    assert prices.ask_up(Lanes(1, 1, 1, 1)) == 4
    assert prices.ask_up(Lanes(1000, 1024, 1000, 1024)) == 4
    assert prices.ask_up(Lanes(1001, 0, 0, 0)) == 2
    assert Prices(core=30_000, memory_gib=5_000).ask_up(Lanes(500, 512)) == 17_500


def test_prices_pack() -> None:
    prices = Prices(PRICE_MAX, 1, 2, 3)
    assert Prices.unpack(prices.pack()) == prices
    with pytest.raises(ValueError, match="lane"):
        Prices(core=PRICE_MAX + 1).pack()
