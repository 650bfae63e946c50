"""A node whose clock is off by more than a tenth of the shortest window does not sell."""

from __future__ import annotations

from typing import Any

import pytest

from suanli_node.clocks import chain_skew_s, check_skew, market_skew_s
from suanli_protocol.errors import ConfigurationError
from support.builders import NOW


class Head:
    """A chain whose newest block has a time."""

    def __init__(self, chain_id: int, timestamp: int) -> None:
        self._chain_id, self.timestamp = chain_id, timestamp

    def chain_id(self) -> int:
        """As told."""
        return self._chain_id

    def block(self, _: str) -> Head:
        """The newest."""
        return self


def skew(chain_id: int, ahead: int) -> float:
    chain: Any = Head(chain_id, NOW + ahead)
    return chain_skew_s(chain, lambda: float(NOW))


def test_a_market_is_compared_with_the_middle_of_its_request() -> None:
    times = iter([100.0, 104.0])
    assert market_skew_s(lambda: 107_000, lambda: next(times)) == 5.0


def test_blocks_may_be_behind_but_not_ahead_and_a_devnet_may_be_anywhere() -> None:
    assert (skew(1, 30), skew(1, -30), skew(31337, 9999)) == (30.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("off", "window", "fits"), [(2.0, 10, True), (2.1, 10, False), (60, 600, True), (61, 600, False), (1.9, 0, True)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_tenth_of_the_window_or_two_seconds_are_allowed(off: float, window: int, fits: bool, sign: int) -> None:
    if fits:
        return check_skew(sign * off, window, "the market's")
    with pytest.raises(ConfigurationError, match="behind" if sign > 0 else "ahead") as caught:
        check_skew(sign * off, window, "the market's")
    assert caught.value.code == "clock"
    return None
