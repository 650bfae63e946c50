"""Clocks: windows are counted in seconds of the chain, so a node whose clock is off by a part of one must not deal."""

from __future__ import annotations

import time
from collections.abc import Callable

from suanli_protocol.chain import Chain
from suanli_protocol.devnet import DEVNET_CHAIN_IDS
from suanli_protocol.errors import ConfigurationError

PART = 10  # of the shortest window: more than a tenth of it is refused
SKEW_MIN_S = 2.0  # a request's own time, and a chain's whole seconds, make as much


def market_skew_s(ask: Callable[[], int], clock: Callable[[], float] = time.time) -> float:
    """Seconds by which a market's clock (`ask`: milliseconds of Unix UTC) is ahead of ours."""
    before = clock()
    theirs = ask() / 1000
    return theirs - (before + clock()) / 2


def chain_skew_s(chain: Chain, clock: Callable[[], float] = time.time) -> float:
    """Seconds by which the newest block is ahead of us; 0 if it is behind: blocks are. A devnet's time may be moved."""
    if chain.chain_id() in DEVNET_CHAIN_IDS:
        return 0.0
    return max(0.0, chain.block("latest").timestamp - clock())


def check_skew(skew_s: float, window: int, whose: str) -> None:
    """ConfigurationError if the clocks differ by more than a tenth of the shortest window (seconds)."""
    allowed = max(SKEW_MIN_S, window / PART)
    if abs(skew_s) > allowed:
        raise ConfigurationError(
            f"this machine's clock is {abs(skew_s):.1f} s {'behind' if skew_s > 0 else 'ahead of'} {whose}; "
            f"with windows of {window} s at most {allowed:.0f} s are safe",
            hint="set the clock: timedatectl set-ntp true",
            code="clock",
        )
