"""Why a bid was not matched: counts per failing condition, with what to change. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from itertools import islice

from suanli_market.clearing.conditions import (
    Condition,
    Facts,
    StandingBid,
    StandingOffer,
    Terms,
    failures,
    least_price,
    terms_of,
)
from suanli_protocol.traits import names
from suanli_protocol.units import ceil_div, format_cores, format_duration, format_mib, format_money
from suanli_protocol.wire import Rejection

_DETAILS = {
    Condition.EXPIRED: "have expired",
    Condition.WITHDRAWN: "were withdrawn on the chain",
    Condition.MARKET: "are for another market",
    Condition.ARBITER: "name another arbiter",
    Condition.PARTY: "are your own",
    Condition.REGION: "are outside your regions",
    Condition.ARCH: "have another processor architecture",
    Condition.PYTHON: "lack the Python version",
    Condition.ENVIRONMENTS: "do not prepare Python environments",
    Condition.TRAITS: "lack a trait that you need",
    Condition.REFUSED_TRAITS: "have a trait that you refuse",
    Condition.CPU: "have too few cores",
    Condition.MEMORY: "lack memory",
    Condition.ACCELERATOR: "lack the accelerator",
    Condition.DISK: "lack disk",
    Condition.SECONDS: "take only longer leases",
    Condition.WINDOW: "accept only a shorter window",
    Condition.RATE: "are above your price",
    Condition.BUDGET: "cost more than your budget",
    Condition.FEE: "cost so little that the fee is under this market's least",
    Condition.BUSY: "are in use",
    Condition.CONSUMER_FUNDS: "need more free money than your account has",
    Condition.PROVIDER_FUNDS: "have too little money for the bond",
}


OFFERS_MAX = 10_000  # one pass over so many takes some hundredths of a second
LOOKS_PER_S = 50_000  # at offers: a part of one core's time


class Allowance:
    """How much may be looked at in a second, and at most one second's worth at once."""

    def __init__(self, per_s: int = LOOKS_PER_S) -> None:
        self._per_s, self._left, self._at = per_s, float(per_s), 0.0

    def take(self, looks: int, now: float) -> bool:
        """Whether so many offers may be looked at now (monotonic seconds); if so, they count."""
        self._left = min(self._per_s, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now
        if looks > self._left:
            return False
        self._left -= looks
        return True


def explained(offers: Collection[StandingOffer]) -> int:
    """Of how many of the offers an explanation speaks."""
    return ceil_div(len(offers), _step(offers))


def _step(offers: Collection[StandingOffer]) -> int:
    return max(1, ceil_div(len(offers), OFFERS_MAX))


def explain(
    bid: StandingBid, offers: Collection[StandingOffer], facts: Facts, *, decimals: int, symbol: str
) -> list[Rejection]:
    """Each offer counted under the first condition that it fails; hints from the offers that come nearest.

    Of a very large book an even sample of at most OFFERS_MAX is looked at.
    """
    counts: Counter[Condition] = Counter()
    nearest: dict[Condition, list[tuple[int, StandingOffer, Terms]]] = {}
    for offer in islice(offers, 0, None, _step(offers)):
        terms = terms_of(bid, offer)
        failed = list(failures(bid, offer, terms, facts))
        if failed:
            counts[failed[0]] += 1
            nearest.setdefault(failed[0], []).append((len(failed), offer, terms))
    return [
        Rejection(
            condition=str(condition),
            detail=_DETAILS[condition],
            offers=count,
            hint=_hint(condition, bid, nearest[condition], facts.min_fee, decimals, symbol),
        )
        for condition, count in counts.most_common()
    ]


def _hint(
    condition: Condition,
    bid: StandingBid,
    found: list[tuple[int, StandingOffer, Terms]],
    min_fee: int,
    decimals: int,
    symbol: str,
) -> str:
    """What would admit the nearest of these offers: the fewest failing conditions, then the smallest change."""
    fewest = min(failed for failed, _, _ in found)
    near = [(offer, terms) for failed, offer, terms in found if failed == fewest]

    def money(amount: int) -> str:
        return f"{format_money(amount, decimals)} {symbol}"

    match condition:
        case Condition.RATE:
            return f"raise max_price to {money(min(terms.rate for _, terms in near))} per hour"
        case Condition.BUDGET:
            return f"raise the budget to {money(min(terms.price + terms.fee for _, terms in near))}"
        case Condition.FEE:
            least = money(least_price(min_fee, bid.bid.fee_bps))
            return f"ask for more, or for longer: a lease brings that fee from a price of {least} on"
        case Condition.CONSUMER_FUNDS:
            return f"deposit until {money(min(terms.deposit for _, terms in near))} are free"
        case Condition.CPU:
            cores = format_cores(max(offer.capacity.cpu_milli for offer, _ in near))
            return f"the largest has {cores} {'core' if cores == '1' else 'cores'}"
        case Condition.MEMORY:
            return f"the largest has {format_mib(max(offer.capacity.memory_mib for offer, _ in near))}"
        case Condition.DISK:
            return f"the largest has {format_mib(max(offer.capacity.disk_mib for offer, _ in near))}"
        case Condition.SECONDS:
            shortest = min(offer.offer.min_seconds for offer, _ in near)
            return f"raise timeouts.execution to {format_duration(shortest)}"
        case Condition.WINDOW:
            return f"lower the window to {format_duration(max(offer.offer.max_window for offer, _ in near))}"
        case Condition.REGION:
            return "they are in " + ", ".join(sorted({offer.place.region or "no stated region" for offer, _ in near}))
        case Condition.ARCH:
            return "they are " + ", ".join(sorted({offer.place.arch for offer, _ in near}))
        case Condition.PYTHON:
            versions = {version for offer, _ in near for version in offer.place.pythons}
            return "they have " + (", ".join(sorted(versions)) or "none")
        case Condition.TRAITS:
            missing = {name for offer, _ in near for name in names(bid.bid.needs & ~offer.offer.traits)}
            return "missing: " + ", ".join(sorted(missing))
        case Condition.BUSY:
            return "wait until a lease ends"
        case _:
            return ""
