"""What a run costs: the one computation that the provider bills by, the consumer checks and anyone audits. Pure.

Both bills are rounded once, down to a base unit, so that the provider never earns a unit that was not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from suanli_protocol.capacity import Lanes, Prices
from suanli_protocol.documents import Usage
from suanli_protocol.lease import Clauses, Kind, Lease
from suanli_protocol.messages import Offer
from suanli_protocol.reasons import billable
from suanli_protocol.units import MIB_PER_GIB, MILLI, SECONDS_PER_HOUR, ceil_div

Billing = Literal["capacity", "usage"]


@dataclass(frozen=True, slots=True)
class Bill:
    """Seconds that are billed, and the provider's net for them in base units."""

    billed_seconds: int
    amount: int


def billed_seconds(wall_ms: int, min_seconds: int, seconds: int) -> int:
    """Whole seconds, rounded up, at least the offer's minimum and at most the lease's length; 0 if nothing ran."""
    if wall_ms == 0:
        return 0
    return min(max(ceil_div(wall_ms, MILLI), min_seconds), seconds)


def capacity_bill(rate: int, billed: int, price: int) -> int:
    """The reserved capacity for the billed seconds: floor(rate × seconds / 3600), at most the price."""
    return min(price, rate * billed // SECONDS_PER_HOUR)


def usage_bill(prices: Prices, need: Lanes, usage: Usage, billed: int, cap: int) -> int:
    """What was used at the offer's unit prices, at most `cap` (the capacity bill).

    Processors by CPU time, memory by its peak over the billed seconds, both at most what was reserved; accelerators
    and disk as reserved.
    """
    core_milliseconds = min(usage.cpu_ms, need.cpu_milli * billed)  # milli-cores × seconds are core-milliseconds
    memory = min(usage.peak_memory_mib, need.memory_mib)
    per_core = (core_milliseconds * prices.core + need.accelerator_milli * billed * prices.accelerator) * MIB_PER_GIB
    per_gib = (memory * prices.memory_gib + need.disk_mib * prices.disk_gib) * billed * MILLI
    return min(cap, (per_core + per_gib) // (MILLI * MIB_PER_GIB * SECONDS_PER_HOUR))


def kind_of(reason: str) -> Kind:
    """The kind of the final receipt or claim: FAILED, and so open to another attempt, only by the provider's fault."""
    return Kind.DONE if billable(reason) else Kind.FAILED


def due(lease: Lease, clauses: Clauses, offer: Offer, billing: Billing, usage: Usage, reason: str) -> Bill:
    """What the provider has earned under the lease with this usage, for a run that ended for this reason.

    A run that never started earns nothing, nor does one that ended by the provider's fault; its seconds are stated
    all the same.
    """
    billed = billed_seconds(usage.wall_ms, clauses.min_seconds, clauses.max_seconds)
    if not billable(reason):
        return Bill(billed, 0)
    full = capacity_bill(clauses.rate, billed, lease.price)
    match billing:
        case "capacity":
            return Bill(billed, full)
        case "usage":
            used = usage_bill(Prices.unpack(offer.prices), Lanes.unpack(lease.need), usage, billed, full)
            return Bill(billed, used)
        case _:
            assert_never(billing)
