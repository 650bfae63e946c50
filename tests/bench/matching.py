"""Bids a second on one core: the search alone, and a bid's whole way through the book, one at a time and in rounds.

Beside them stand every bid against every offer and an SQL query, which only look up.

The books are generated; with SUANLI_TRACE=FOLDER one more is drawn from a cluster's machines and tasks there
(openb_node_list_all_node.csv, openb_pod_list_default.csv). Times are of the processor, not of the clock.
"""

from __future__ import annotations

import csv
import os
import sqlite3
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

from bench.rows import Row, Target, beside, measured
from suanli_market.clearing.book import Book, Entered, Opened, Proposed
from suanli_market.clearing.conditions import Facts, Place, StandingBid, StandingOffer, Wish
from suanli_market.clearing.matching import CheapestFirst, reserve
from suanli_market.clearing.reference import ranked
from suanli_market.clearing.search import cheapest
from suanli_protocol.capacity import Lanes, Prices
from suanli_protocol.lease import Account
from support.builders import NOW, a_bid, an_offer, market

SIZES, ROUNDS, BIDS, ROUND, SLOW_LOOKS = (1_000, 10_000, 100_000), 3, 300, 100, 300_000
REGIONS = ("CN-GD", "CN-BJ", "CN-SH", "US-CA", "US-NY", "DE-BE", "FR-IDF", "SG", "JP-13")
CONSUMER = "0x" + "ee" * 20
QUERY = """
SELECT id FROM offers WHERE accelerator >= :acc AND cpu >= :cpu AND memory >= :memory AND disk >= :disk
  AND (:region = '' OR region = :region OR region LIKE :region || '-%') AND core * :cpu / 1000.0
  + memory_gib * :memory / 1024.0 + accelerator_price * :acc / 1000.0 + disk_gib * :disk / 1024.0 <= :limit
ORDER BY core * :cpu / 1000.0 + memory_gib * :memory / 1024.0 + accelerator_price * :acc / 1000.0
  + disk_gib * :disk / 1024.0 LIMIT 1"""
Shape = Callable[[Random], Lanes]
TRACE = "; machines and tasks of cluster-trace-gpu-v2023, published with “Beware of Fragmentation” (USENIX ATC 2023)"


@dataclass(frozen=True)
class Ground:
    """What a book is made of: so many offers of machines drawn from here, and bids for tasks drawn from here."""

    name: str
    size: int
    machine: Shape
    task: Shape
    source: str = ""


def measure() -> Iterator[Row]:
    """The rates at each size, and the memory of an offer; then, where a trace is given, the rates at its shapes."""
    for size in SIZES:
        yield from _rates(Ground(f"{size:,} open offers", size, _machine, _task), memory=size == SIZES[1])
    folder = os.environ.get("SUANLI_TRACE")
    if folder:
        yield from _rates(_traced(Path(folder)), memory=False)


def _rates(ground: Ground, *, memory: bool) -> Iterator[Row]:
    random = Random(ground.size)
    offers = [_offer(random, number, ground.machine(random)) for number in range(ground.size)]
    bids = [_bid(random, ground.task(random)) for _ in range(BIDS * (ROUNDS + 1))]
    tracemalloc.start() if memory else None
    book = _book(offers)
    if memory:
        kept = tracemalloc.get_traced_memory()[0] / len(offers)
        tracemalloc.stop()
        yield Row(
            "memory of the index and the book", "bytes/offer", kept, note=f"{ground.size:,} offers, papers excluded"
        )
    groups = [bids[n * BIDS : (n + 1) * BIDS] for n in range(ROUNDS + 1)]
    facts = Facts(NOW, market().address, book.accounts({CONSUMER: RICH}))
    few = bids[: max(2, SLOW_LOOKS // ground.size // 6)]
    plain = [_rate(partial(ranked, offers=offers, facts=facts), few)]
    queried = [_rate(partial(_query, _database(offers)), few)]
    others = (beside("every bid against every offer", plain), beside("SQLite, indexed", queried))
    sought = [_rate(partial(cheapest, index=book.index, facts=facts), group) for group in groups][1:]
    yield measured(f"offers found, {ground.name}", "/s", sought, beside=others, note=f"the search alone{ground.source}")
    target = Target("at least", 2_000) if ground.size == SIZES[-1] else None
    for name, at_once in (("one at a time", 1), (f"in rounds of {ROUND}", ROUND)):
        way = _book(offers)
        rates = [_rate_of_rounds(way, group, at_once) for group in groups][1:]
        served = 1 - len(way.bids) / len(bids)
        yield measured(f"bids matched {name}, {ground.name}", "/s", rates, beside=others, target=target,
                       note=f"{served:.0%} served; with the book's upkeep, the others only look up")  # fmt: skip


def _query(base: sqlite3.Connection, bid: StandingBid) -> object:
    return base.execute(QUERY, _asked(bid)).fetchall()


def _match(book: Book, bids: Sequence[StandingBid]) -> None:
    """The bids' whole way through the book: they enter, are matched, their leases open and move the accounts."""
    book.apply_all([Entered(bid) for bid in bids])
    book.settle({CONSUMER: RICH})
    facts = Facts(NOW, market().address, book.accounts({}))
    proposals = CheapestFirst().clear(bids, book.index, facts).proposals
    book.apply_all([Proposed(proposal) for proposal in proposals])
    moved = {party: facts.account(party) for party in book.stale}
    for proposal in proposals:
        reserve(moved, proposal)
    book.apply_all([Opened(proposal.bid.id) for proposal in proposals])
    book.settle({**moved, CONSUMER: RICH})


def _rate_of_rounds(book: Book, bids: Sequence[StandingBid], at_once: int) -> float:
    begun = time.process_time()
    for first in range(0, len(bids), at_once):
        _match(book, bids[first : first + at_once])
    return len(bids) / (time.process_time() - begun)


RICH = Account(free=2**80)


def _book(offers: list[StandingOffer]) -> Book:
    book = Book()
    book.apply_all([Entered(offer) for offer in offers])
    book.settle(dict.fromkeys(book.stale, RICH))
    return book


def _rate(work: Callable[[StandingBid], object], bids: Sequence[StandingBid]) -> float:
    begun = time.process_time()
    for bid in bids:
        work(bid)
    return len(bids) / (time.process_time() - begun)


def _machine(random: Random) -> Lanes:
    cores = random.choice((4, 8, 16, 32, 64, 96))
    accelerators = random.choice((0, 0, 0, 0, 0, 0, 1, 2, 4, 8))
    return Lanes(cores * 1000, cores * 1024 * random.choice((2, 4, 8)), accelerators * 1000, 500 * 1024)


def _task(random: Random) -> Lanes:
    cores = random.choice((1, 2, 4, 8, 16, 32))
    accelerators = random.choice((0, 0, 0, 0, 0, 0, 1, 2, 4, 8))
    return Lanes(cores * 1000, cores * 1024 * random.choice((1, 2, 4)), accelerators * 1000, 1024)


def _traced(folder: Path) -> Ground:
    """Machines and tasks as in the trace's files."""
    with (folder / "openb_node_list_all_node.csv").open() as file:
        machines = [
            Lanes(int(row["cpu_milli"]), int(row["memory_mib"]), int(row["gpu"]) * 1000, 500 * 1024)
            for row in csv.DictReader(file)
        ]
    with (folder / "openb_pod_list_default.csv").open() as file:
        tasks = [
            Lanes(int(row["cpu_milli"]), int(row["memory_mib"]), int(row["num_gpu"]) * int(row["gpu_milli"]), 1024)
            for row in csv.DictReader(file)
        ]
    name = f"{SIZES[-1]:,} open offers drawn from a GPU cluster's trace"
    return Ground(
        name, SIZES[-1], lambda random: random.choice(machines), lambda random: random.choice(tasks), source=TRACE
    )


def _offer(random: Random, number: int, capacity: Lanes) -> StandingOffer:
    level = random.lognormvariate(0, 0.3)
    prices = Prices(*(int(base * level * random.lognormvariate(0, 0.2)) for base in (10_000, 1_300, 500_000, 50)))
    paper = replace(
        an_offer(),
        provider=f"0x{number + 1:040x}",
        capacity=capacity.pack(),
        prices=prices.pack(),
        traits=random.choice((6, 7, 0x106, 0x306)),
        max_seconds=random.choice((3600, 86_400)),
    )
    place = Place(random.choice(REGIONS), random.choice(("x86_64", "x86_64", "arm64")), ("3.11", "3.12"), True)
    return StandingOffer.of(random.randbytes(32), number, paper, place)


def _bid(random: Random, need: Lanes) -> StandingBid:
    dear = Prices(20_000, 2_600, 10**6, 100).ask_up(need)
    paper = replace(
        a_bid(), consumer=CONSUMER, seat=random.randbytes(32), need=need.pack(), max_rate=dear, budget=2**60
    )
    regions = random.choice(((), (), (), ("CN",), ("US-CA",), ("DE",)))
    wish = Wish(regions, random.choice(("", "x86_64")))
    return StandingBid.of(random.randbytes(32), 1, paper, wish)


def _database(offers: list[StandingOffer]) -> sqlite3.Connection:
    base = sqlite3.connect(":memory:")
    base.execute(
        "CREATE TABLE offers (id, accelerator, cpu, memory, disk,"
        " core, memory_gib, accelerator_price, disk_gib, region)"
    )
    rows = (
        (o.id, o.capacity.accelerator_milli, o.capacity.cpu_milli, o.capacity.memory_mib, o.capacity.disk_mib,
         *o.prices.values, o.place.region)
        for o in offers
    )  # fmt: skip
    base.executemany(f"INSERT INTO offers VALUES ({', '.join('?' * 10)})", rows)
    base.execute("CREATE INDEX by_size ON offers (accelerator, cpu, memory)")
    return base


def _asked(bid: StandingBid) -> dict[str, object]:
    cpu, memory, accelerator, disk = bid.need.values
    region = next(iter(bid.wish.regions), "")
    return {"acc": accelerator, "cpu": cpu, "memory": memory, "disk": disk, "region": region, "limit": bid.bid.max_rate}
