"""The search: the offers that serve a bid, cheapest first, found one at a time in the index. Pure.

Best first: what waits to be looked at is ordered by the least that it could ask, so the first offer that comes up is
the cheapest; a part that could ask as little as an offer is looked into before the offer is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from suanli_market.clearing.conditions import Facts, StandingBid, Terms, feasible, least_price, terms_of
from suanli_market.clearing.entry import SCALE, SPEND_SCALE, Entry, marks_wanted, weights
from suanli_market.clearing.index import Index, Part
from suanli_protocol.units import BPS, MIB_PER_GIB, MILLI, SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Hit:
    """An offer that would do, and its terms."""

    entry: Entry
    terms: Terms


def hits(
    bid: StandingBid, index: Index, facts: Facts, *, by_price: bool = False, misses: list[Entry] | None = None
) -> Iterator[Hit]:
    """The feasible offers in the order of rate (or of the whole price), ties by struct hash XOR the round's seed.

    Entries that looked as if they would do, and do not, are added to `misses`.
    """
    seed = int.from_bytes(facts.seed, "big")
    look = _Look(bid, facts, by_price)
    order = count()
    waiting: list[tuple[int, int, int, Part | Entry]] = [(0, 0, next(order), root) for root in index.roots]
    while waiting:
        _, _, _, item = heappop(waiting)
        if not isinstance(item, Entry):
            look.into(item, waiting, order, seed)
            continue
        terms = terms_of(bid, item.offer)
        if feasible(bid, item.offer, terms, facts):
            yield Hit(item, terms)
        elif misses is not None:
            misses.append(item)


def cheapest(bid: StandingBid, index: Index, facts: Facts, *, misses: list[Entry] | None = None) -> Hit | None:
    """The first of the hits."""
    return next(hits(bid, index, facts, misses=misses), None)


class _Look:
    """What a bid needs of a part, prepared once; `purse` is the largest price that budget and account could allow."""

    def __init__(self, bid: StandingBid, facts: Facts, by_price: bool) -> None:
        paper, need = bid.bid, bid.need.values
        self._need = need
        self._weights = (*weights(bid.need), bid.need.accelerator_milli * MIB_PER_GIB, bid.need.disk_mib * MILLI)
        self._wanted, self._regions = marks_wanted(bid)
        self._now, self._seconds, self._window = facts.now, paper.max_seconds, paper.window
        self._limit = paper.max_rate * SCALE
        free = facts.account(paper.consumer).free
        within_budget = (bid.budget + 1) * BPS // (BPS + paper.fee_bps)
        within_account = (free + 2) * 10 * BPS // (11 * BPS + 10 * paper.fee_bps)
        self._purse = min(within_budget, within_account) * SPEND_SCALE
        self._too_little = _spend_without(facts.min_fee, paper.fee_bps)
        self._by_price = by_price

    def into(
        self, part: Part, waiting: list[tuple[int, int, int, Part | Entry]], order: Iterator[int], seed: int
    ) -> None:
        """Has those of the part's children wait that could serve the bid. The heart of the search: kept flat."""
        need_cpu, need_memory, need_accelerator, need_disk = self._need
        cores, leans, riches, gibs, accelerators, disks = self._weights
        too_little = self._too_little
        wanted, regions, seconds, now = self._wanted, self._regions, self._seconds, self._now
        for child in part.children:
            (cpu, memory, accelerator, disk, core, lean, rich, memory_gib, accelerator_price, disk_gib,
             valid_until, shortest, longest, window, bondable) = child.tops  # fmt: skip
            if cpu < need_cpu or memory < need_memory or accelerator < need_accelerator or disk < need_disk:
                continue
            marks = child.marks
            if marks & wanted != wanted or (regions and not marks & regions):
                continue
            if valid_until <= now or -shortest > seconds or window < self._window:
                continue
            length = seconds if seconds <= -longest else -longest
            if isinstance(child, Entry):
                rate = (
                    -(core * need_cpu // MILLI)
                    - (memory_gib * need_memory // MIB_PER_GIB)
                    - (accelerator_price * need_accelerator // MILLI)
                    - (disk_gib * need_disk // MIB_PER_GIB)
                )
                cost = rate * SCALE
            else:
                cost = -(
                    core * cores + lean * leans + rich * riches + memory_gib * gibs
                    + accelerator_price * accelerators + disk_gib * disks
                )  # fmt: skip
            spend = cost * length
            if cost > self._limit or spend > self._purse or spend > bondable:
                continue
            if isinstance(child, Entry):
                if spend <= too_little:
                    continue
                key = -(-rate * length // SECONDS_PER_HOUR) * SPEND_SCALE if self._by_price else cost
                heappush(waiting, (key, 1, child.id ^ seed, child))
            else:
                heappush(waiting, (spend if self._by_price else cost, 0, next(order), child))


def _spend_without(min_fee: int, fee_bps: int) -> int:
    """The largest rate × seconds (in SPEND_SCALE) whose fee is under the market's least."""
    return (least_price(min_fee, fee_bps) - 1) * SPEND_SCALE
