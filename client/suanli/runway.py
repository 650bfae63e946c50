"""How far the money of a running lease reaches: what its escrow holds against what it can still use.

A lease is paid beforehand for all its seconds, so what runs out is one thing: its time, and with it the price that was
locked. Billing by use can only leave more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from suanli.jobs.record import Record
from suanli_protocol.units import SECONDS_PER_HOUR, ceil_div

Level = Literal["", "low", "out"]
LOW_PERCENT = 20
OUT_PERCENT = 5
_RUNS = ("leased", "starting", "running")


@dataclass(frozen=True)
class Runway:
    """What is left of one lease: seconds, and base units of its price at most used so far left over."""

    ends_at: int  # seconds of Unix UTC
    seconds: int
    total: int
    money: int
    rate: int

    @property
    def percent(self) -> int:
        """Of the lease's seconds, rounded down."""
        return 100 * self.seconds // self.total

    @property
    def level(self) -> Level:
        """`low` from 20 % down, `out` from 5 % down."""
        if self.percent <= OUT_PERCENT:
            return "out"
        return "low" if self.percent <= LOW_PERCENT else ""

    def to_json(self) -> dict[str, Any]:
        """For programs: amounts as decimal text of base units."""
        return {
            "endsAt": self.ends_at,
            "secondsLeft": self.seconds,
            "secondsTotal": self.total,
            "percentLeft": self.percent,
            "moneyLeft": str(self.money),
            "rate": str(self.rate),
            "level": self.level or None,
        }


def runway_of(record: Record, now: int) -> Runway | None:
    """The runway of a job whose lease runs; None without one. `now` is in seconds of Unix UTC."""
    terms = record.terms
    if not terms or record.phase not in _RUNS or record.stopped_at is not None:
        return None
    opened, total = int(terms["openedAt"]), int(terms["seconds"])
    rate, price = int(terms["rate"]), int(terms["price"])
    passed = min(total, max(0, now - opened))
    used = min(price, ceil_div(rate * passed, SECONDS_PER_HOUR))
    return Runway(opened + total, total - passed, total, price - used, rate)


def together(runways: Iterable[Runway]) -> tuple[int, int]:
    """What running leases use an hour at most, and what is left of their money; in base units of one currency."""
    found = list(runways)
    return sum(item.rate for item in found), sum(item.money for item in found)
