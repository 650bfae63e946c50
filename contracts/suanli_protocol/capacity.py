"""Capacity and requirement in four lanes, packed as the escrow packs them."""

from __future__ import annotations

from dataclasses import dataclass

from suanli_protocol.units import MIB_PER_GIB, MILLI, ceil_div

LANE_BITS = 32
LANE_MAX = 2**31 - 1  # the highest bit of each lane is the guard of the one subtraction that compares all four
GUARD = sum(1 << (LANE_BITS * lane + LANE_BITS - 1) for lane in range(4))
PRICE_MAX = 2**64 - 1
PRICE_UNITS = (MILLI, MIB_PER_GIB, MILLI, MIB_PER_GIB)  # one priced unit of each lane, in the lane's own unit
LANE_NAMES = ("cpu", "memory", "accelerator", "disk")


def _pack(values: tuple[int, int, int, int], bits: int, limit: int) -> int:
    word = 0
    for value in values:
        if not 0 <= value <= limit:
            raise ValueError(f"{value} does not fit in a lane (0..{limit})")
        word = word << bits | value
    return word


def _unpack(word: int, bits: int) -> tuple[int, int, int, int]:
    mask = (1 << bits) - 1
    return (word >> 3 * bits & mask, word >> 2 * bits & mask, word >> bits & mask, word & mask)


@dataclass(frozen=True, slots=True)
class Lanes:
    """An amount of computing power: what a machine has, has in use, or what a job needs."""

    cpu_milli: int = 0
    memory_mib: int = 0
    accelerator_milli: int = 0
    disk_mib: int = 0

    @classmethod
    def unpack(cls, word: int) -> Lanes:
        """From the uint128 of a paper or an account; guard bits stay visible as values above LANE_MAX."""
        return cls(*_unpack(word, LANE_BITS))

    def pack(self) -> int:
        """The uint128 of a paper; ValueError if a lane is negative or above LANE_MAX."""
        return _pack(self.values, LANE_BITS, LANE_MAX)

    @property
    def values(self) -> tuple[int, int, int, int]:
        """The four lanes in the order of the word."""
        return (self.cpu_milli, self.memory_mib, self.accelerator_milli, self.disk_mib)

    def __add__(self, other: Lanes) -> Lanes:
        return Lanes(*(a + b for a, b in zip(self.values, other.values, strict=True)))

    def __sub__(self, other: Lanes) -> Lanes:
        return Lanes(*(a - b for a, b in zip(self.values, other.values, strict=True)))

    def covers(self, need: Lanes) -> bool:
        """Whether each lane holds at least what is needed."""
        return all(have >= want for have, want in zip(self.values, need.values, strict=True))


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices per hour in base units: a core, a GiB of memory, an accelerator, a GiB of disk."""

    core: int = 0
    memory_gib: int = 0
    accelerator: int = 0
    disk_gib: int = 0

    @classmethod
    def unpack(cls, word: int) -> Prices:
        """From the uint256 of an offer."""
        return cls(*_unpack(word, 64))

    def pack(self) -> int:
        """The uint256 of an offer; ValueError if a price is negative or above PRICE_MAX."""
        return _pack(self.values, 64, PRICE_MAX)

    @property
    def values(self) -> tuple[int, int, int, int]:
        """The four prices in the order of the lanes."""
        return (self.core, self.memory_gib, self.accelerator, self.disk_gib)

    def ask_up(self, need: Lanes) -> int:
        """What the offer asks for the need per hour: each lane rounded up to a base unit."""
        lanes = zip(need.values, self.values, PRICE_UNITS, strict=True)
        return sum(ceil_div(amount * price, unit) for amount, price, unit in lanes)
