"""One offer as the index keeps it: numbers of which more is always better for a bid, and marks that it may want. Pure.

`marks` are bits: a part of the index has the marks of all its offers together. `tops` are integers: a part has the
largest of each. What has to be small stands there with its sign turned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

from suanli_market.clearing.conditions import Place, StandingBid, StandingOffer
from suanli_protocol.capacity import Lanes
from suanli_protocol.lease import Account
from suanli_protocol.units import BPS, MIB_PER_GIB, MILLI, SECONDS_PER_HOUR

SCALE = MILLI * MIB_PER_GIB  # rates are compared in this fraction of a base unit, in which no lane needs rounding
SPEND_SCALE = SCALE * SECONDS_PER_HOUR  # the same for rate × seconds against prices
LEAN, RICH = 1, 4  # GiB of memory beside a core
NO_LIMIT = 1 << 200  # above every sum of money in SPEND_SCALE

_NOTHING = Lanes()
_TRAITS_MASK = (1 << 64) - 1
_LACKS = 64  # bits 64..127: traits that some offer lacks
_ENVIRONMENTS = 128
_PYTHON, _PYTHONS = 129, 64  # first bit, how many: names fall on bits by a hash, so a bit only says "perhaps"
_ARCH, _ARCHS = 193, 16
_ARBITER, _ARBITERS = 209, 32
_REGION, _REGIONS = 241, 256


@dataclass(slots=True, eq=False)
class Entry:
    """An offer with what a search compares, given its account. Never changed once made."""

    id: int
    busy: bool  # whether its account has some of it in use
    keys: tuple[int, ...]
    tops: tuple[int, ...]
    marks: int
    offer: StandingOffer

    @classmethod
    def of(cls, offer: StandingOffer, account: Account) -> Entry:
        """The offer's entry while its account stands like this."""
        id_ = int.from_bytes(offer.id, "big")
        paper = offer.offer
        marks = paper.traits | (~paper.traits & _TRAITS_MASK) << _LACKS | _place_marks(offer.place)
        marks |= _bit(paper.arbiter, _ARBITER, _ARBITERS)
        return cls(id_, *_placed(offer, id_, account), marks, offer)

    def given(self, account: Account) -> Entry:
        """The same offer, its account changed: it may stand elsewhere in the index, so the old entry has to leave."""
        busy, keys, tops = _placed(self.offer, self.id, account)
        return Entry(self.id, busy, keys, tops, self.marks, self.offer)


def _placed(offer: StandingOffer, id_: int, account: Account) -> tuple[bool, tuple[int, ...], tuple[int, ...]]:
    tops = _tops(offer, account)
    cpu, memory, accelerator, _ = tops[:4]
    region, arch = _order(offer.place.region), _order(offer.place.arch)
    core, memory_gib, _, _ = offer.prices.values
    busy = account.used != _NOTHING
    if busy:
        keys = (accelerator, cpu, region, core + 2 * memory_gib, memory, arch, id_)
    else:
        keys = (arch, region, accelerator, core + 2 * memory_gib, core, cpu, id_)
    return busy, keys, tops


@lru_cache(maxsize=4096)
def _order(name: str) -> int:
    """A number that orders names by their first letters."""
    return int.from_bytes(name.encode(errors="surrogatepass")[:8].ljust(8, b"\0"), "big")


def _tops(offer: StandingOffer, account: Account) -> tuple[int, ...]:
    """Free lanes, prices (each alone, and a core with some GiB of memory), last second, shortest and longest lease,
    window, the largest price that can be bonded.
    """
    paper = offer.offer
    free = offer.capacity - account.used if account.used != _NOTHING else offer.capacity
    cpu, memory, accelerator, disk = free.values
    if account.counter != paper.counter:  # withdrawn on the chain: it serves nothing
        cpu = memory = accelerator = disk = -1
    core, memory_gib, accelerator_price, disk_gib = offer.prices.values
    bondable = ((account.free + 1) * BPS - 1) // paper.bond_bps * SPEND_SCALE if paper.bond_bps else NO_LIMIT
    return (
        cpu,
        memory,
        accelerator,
        disk,
        -core,
        -core - LEAN * memory_gib,
        -core - RICH * memory_gib,
        -memory_gib,
        -accelerator_price,
        -disk_gib,
        paper.valid_until,
        -paper.min_seconds,
        -paper.max_seconds,
        paper.max_window,
        bondable,
    )


def weights(need: Lanes) -> tuple[int, int, int, int]:
    """How often a part's least price of a core, of a lean and of a rich machine, and of a GiB of memory go into the
    least that the need could cost (in SCALE); of the four at most two count.

    Cores and memory are rarely cheapest in the same offer: so what they cost together says more than both alone.
    """
    cores, gibs = need.cpu_milli * MIB_PER_GIB, need.memory_mib * MILLI  # in SCALE
    if gibs <= LEAN * cores:
        lean = gibs // LEAN
        return cores - lean, lean, 0, 0
    if gibs >= RICH * cores:
        return 0, 0, cores, gibs - RICH * cores
    rich = (gibs - LEAN * cores) // (RICH - LEAN)
    lean = min(cores - rich, (gibs - RICH * rich) // LEAN)
    return 0, lean, rich, 0


def marks_wanted(bid: StandingBid) -> tuple[int, int]:
    """The marks that an offer must all have, and those of which it must have one (0: no matter)."""
    wish = bid.wish
    wanted = bid.bid.needs | bid.bid.refuses << _LACKS | _bit(bid.bid.arbiter, _ARBITER, _ARBITERS)
    if wish.environments:
        wanted |= 1 << _ENVIRONMENTS
    if wish.python:
        wanted |= _bit(wish.python, _PYTHON, _PYTHONS)
    if wish.arch:
        wanted |= _bit(wish.arch, _ARCH, _ARCHS)
    regions = 0
    for region in wish.regions:
        regions |= _bit(region, _REGION, _REGIONS)
    return wanted, regions


@lru_cache(maxsize=4096)
def _place_marks(place: Place) -> int:
    marks = _bit(place.arch, _ARCH, _ARCHS) | place.environments << _ENVIRONMENTS
    for python in place.pythons:
        marks |= _bit(python, _PYTHON, _PYTHONS)
    words = place.region.split("-")
    for count in range(1, len(words) + 1):  # CN-GD lies in CN-GD and in CN
        marks |= _bit("-".join(words[:count]), _REGION, _REGIONS)
    return marks


def _bit(name: str, first: int, count: int) -> int:
    return 1 << first + crc32(name.encode(errors="surrogatepass")) % count
