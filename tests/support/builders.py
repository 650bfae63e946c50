"""Builders: whole, valid papers and keys by one call each, with only what a test is about spelled out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from suanli_protocol.capacity import Lanes, Prices
from suanli_protocol.documents import Attributes, Constraints, JobDocument, Usage, hex32
from suanli_protocol.lease import State, ask_up, terms
from suanli_protocol.messages import ZERO32, ZERO_ADDRESS, Bid, Offer, Receipt
from suanli_protocol.signing import Domain, Signer, keccak256
from suanli_protocol.traits import Trait

NOW = 1_800_000_000
CHAIN_ID = 31337
ESCROW = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
CREDIT = 10**6  # one credit in base units


@cache
def a_signer(n: int = 1) -> Signer:
    """The n-th test key; the same number gives the same key everywhere. 1 consumer, 2 provider, 3 market by habit."""
    return Signer(keccak256(b"suanli test key %d" % n))


def consumer() -> Signer:
    """The key that builders bid with."""
    return a_signer(1)


def provider() -> Signer:
    """The key that builders offer with."""
    return a_signer(2)


def market() -> Signer:
    """The key of the market that builders name."""
    return a_signer(3)


def a_domain(*, chain_id: int = CHAIN_ID, escrow: str = ESCROW) -> Domain:
    """A signing domain."""
    return Domain(chain_id, escrow)


def a_need(**lanes: int) -> Lanes:
    """One core, 1 GiB of memory, 1 GiB of disk."""
    return replace(Lanes(cpu_milli=1000, memory_mib=1024, disk_mib=1024), **lanes)


def a_capacity(**lanes: int) -> Lanes:
    """Four cores, 8 GiB of memory, 20 GiB of disk."""
    return replace(Lanes(cpu_milli=4000, memory_mib=8192, disk_mib=20_480), **lanes)


def some_prices(**prices: int) -> Prices:
    """0.03 a core, 0.005 a GiB of memory, 0.0001 a GiB of disk, per hour."""
    return replace(Prices(core=30_000, memory_gib=5_000, accelerator=0, disk_gib=100), **prices)


def some_attributes(**fields: Any) -> Attributes:
    """What a small machine says of itself."""
    values: dict[str, Any] = {
        "name": "kestrel",
        "encryption_key": hex32(provider().encryption_public),
        "region": "CN-GD",
        "arch": "x86_64",
        "os": "Linux 6.1",
        "cpu_model": "test",
        "pythons": ("3.11",),
        "environments": True,
        "sandbox": "B",
        "software": "suanli-node test",
    }
    return Attributes(**(values | fields))


def some_constraints(**fields: Any) -> Constraints:
    """No wishes at all."""
    return Constraints(**({"salt": "00" * 16} | fields))


def a_job(**fields: Any) -> JobDocument:
    """print(6*7)."""
    values: dict[str, Any] = {
        "salt": "11" * 16,
        "name": "answer",
        "command": {"argv": ("python", "-c", "print(6*7)")},
        "consumer_key": hex32(consumer().encryption_public),
    }
    return JobDocument(**(values | fields))


def an_offer(**fields: Any) -> Offer:
    """An offer by `provider()` to any market, valid for ten minutes from NOW."""
    values: dict[str, Any] = {
        "provider": provider().address,
        "market": ZERO_ADDRESS,
        "arbiter": ZERO_ADDRESS,
        "capacity": a_capacity().pack(),
        "prices": some_prices().pack(),
        "attributes": some_attributes().digest(),
        "traits": int(Trait.SANDBOX_B | Trait.SANDBOX_C | Trait.PYTHON | Trait.ENVIRONMENTS),
        "valid_until": NOW + 600,
        "min_seconds": 1,
        "max_seconds": 86_400,
        "bond_bps": 1000,
        "max_window": 3600,
        "counter": 0,
    }
    return Offer(**(values | fields))


def a_bid(**fields: Any) -> Bid:
    """A bid by `consumer()` through `market()` for `a_need()` for an hour, valid for ten minutes from NOW."""
    values: dict[str, Any] = {
        "consumer": consumer().address,
        "market": market().address,
        "guard": ZERO_ADDRESS,
        "arbiter": ZERO_ADDRESS,
        "seat": a_seat(0),
        "count": 1,
        "attempts": 1,
        "gang": False,
        "need": a_need().pack(),
        "needs": int(Trait.SANDBOX_B),
        "refuses": 0,
        "max_rate": 100_000,
        "budget": CREDIT,
        "max_seconds": 3600,
        "window": 600,
        "fee_bps": 50,
        "documents": ZERO32,
        "valid_until": NOW + 600,
        "counter": 0,
    }
    return Bid(**(values | fields))


def a_seat(n: int) -> bytes:
    """The n-th seat."""
    return keccak256(b"suanli test seat %d" % n)


def a_state(
    *, rate: int | None = None, opened_at: int = NOW, bid: Bid | None = None, offer: Offer | None = None
) -> State:
    """A lease that was just opened, at the offer's ask unless a rate is given."""
    bid, offer = bid or a_bid(), offer or an_offer()
    lease, clauses = terms(bid, offer, rate=ask_up(bid, offer) if rate is None else rate, opened_at=opened_at)
    return State(lease, clauses)


def a_receipt(**fields: Any) -> Receipt:
    """A final receipt over one credit."""
    values: dict[str, Any] = {"lease": b"\x01" * 32, "amount": CREDIT, "kind": 1, "evidence": b"\x02" * 32}
    return Receipt(**(values | fields))


def some_usage(**fields: Any) -> Usage:
    """Ten seconds of one core at half its speed."""
    values: dict[str, Any] = {
        "wall_ms": 10_000,
        "cpu_ms": 5_000,
        "peak_memory_mib": 100,
        "samples": 100,
        "chain_head": hex32(ZERO32),
    }
    return Usage(**(values | fields))
