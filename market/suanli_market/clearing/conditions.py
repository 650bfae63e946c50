"""Feasibility: which of the bid's and offer's conditions keep an offer from serving a bid. Pure.

The conditions are checked in one stated order; the first that fails is the one under which an offer is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from suanli_protocol.capacity import Lanes, Prices
from suanli_protocol.lease import Account, bond_down, deposit_of, fee_down, lease_seconds, price_up
from suanli_protocol.messages import ZERO_ADDRESS, Bid, Offer
from suanli_protocol.units import BPS, ceil_div


class Condition(StrEnum):
    """What a bid and an offer must agree on, in the order of checking."""

    EXPIRED = "expired"  # the offer's time is over
    WITHDRAWN = "counter"  # the account's counter killed the offer
    MARKET = "market"
    ARBITER = "arbiter"
    PARTY = "party"
    REGION = "region"
    ARCH = "arch"
    PYTHON = "python"
    ENVIRONMENTS = "environments"
    TRAITS = "traits"
    REFUSED_TRAITS = "refused_traits"
    CPU = "cpu"  # the machine is too small
    MEMORY = "memory"
    ACCELERATOR = "accelerator"
    DISK = "disk"
    SECONDS = "seconds"
    WINDOW = "window"
    RATE = "rate"
    BUDGET = "budget"
    FEE = "fee"  # too small for the market: a lease costs it gas
    BUSY = "busy"  # large enough, but in use
    CONSUMER_FUNDS = "consumer_funds"
    PROVIDER_FUNDS = "provider_funds"


_EMPTY = Account()
_SIZE_CONDITIONS = (Condition.CPU, Condition.MEMORY, Condition.ACCELERATOR, Condition.DISK)


@dataclass(frozen=True, slots=True)
class Place:
    """What an offer's attributes say that constraints ask for."""

    region: str = ""
    arch: str = ""
    pythons: tuple[str, ...] = ()
    environments: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What a bid's constraints ask of a place."""

    regions: tuple[str, ...] = ()
    arch: str = ""
    python: str = ""
    environments: bool = False


@dataclass(frozen=True, slots=True)
class StandingOffer:
    """An offer in the book: its paper, its struct hash, its place, its line in the admission log."""

    id: bytes
    seq: int
    offer: Offer
    place: Place
    capacity: Lanes
    prices: Prices

    @classmethod
    def of(cls, id_: bytes, seq: int, offer: Offer, place: Place) -> StandingOffer:
        """Unpacks the words once, when the offer enters the book."""
        return cls(id_, seq, offer, place, Lanes.unpack(offer.capacity), Prices.unpack(offer.prices))


@dataclass(frozen=True, slots=True)
class StandingBid:
    """A bid in the book: its paper, its struct hash, its wish, its line in the admission log.

    `budget` is what earlier attempts left of the paper's; the bid leaves the book at `leaves_at` (seconds).
    """

    id: bytes
    seq: int
    bid: Bid
    wish: Wish
    need: Lanes
    budget: int
    leaves_at: int

    @property
    def kind(self) -> tuple[object, ...]:
        """All that decides which offers would do: bids of one kind find the same, in the same order."""
        paper = self.bid
        return (
            paper.consumer, paper.arbiter, paper.needs, paper.refuses, paper.max_rate, paper.max_seconds, paper.window,
            paper.fee_bps, self.wish, self.need, self.budget,
        )  # fmt: skip

    @classmethod
    def of(
        cls, id_: bytes, seq: int, bid: Bid, wish: Wish, *, spent: int = 0, leaves_at: int | None = None
    ) -> StandingBid:
        """Unpacks the words once, when the bid enters the book."""
        leaves_at = bid.valid_until if leaves_at is None else min(leaves_at, bid.valid_until)
        return cls(id_, seq, bid, wish, Lanes.unpack(bid.need), bid.budget - spent, leaves_at)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known at one moment: block time or later in seconds, the market, the accounts, the round's seed, and the
    least fee for which the market opens a lease.

    Accounts are chain facts at a stated block less what is proposed but not yet on chain.
    """

    now: int
    market: str
    accounts: Mapping[str, Account]
    seed: bytes = bytes(32)
    min_fee: int = 0  # base units

    def account(self, address: str) -> Account:
        """The account; an unknown one is empty."""
        return self.accounts.get(address, _EMPTY)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a lease of this bid on this offer would cost, at the offer's own price."""

    rate: int
    seconds: int
    price: int
    fee: int
    deposit: int
    bond: int


def terms_of(bid: StandingBid, offer: StandingOffer) -> Terms:
    """Rate, length and money of the lease that the escrow would open."""
    rate = offer.prices.ask_up(bid.need)
    seconds = lease_seconds(bid.bid, offer.offer)
    price = price_up(rate, seconds)
    fee = fee_down(price, bid.bid.fee_bps)
    return Terms(rate, seconds, price, fee, deposit_of(price, bid.bid.fee_bps), bond_down(price, offer.offer.bond_bps))


def least_price(min_fee: int, fee_bps: int) -> int:
    """The least price (base units) that brings a fee of `min_fee`; 2^96, which no lease costs, if none does."""
    if min_fee == 0:
        return 0
    return ceil_div(min_fee * BPS, fee_bps) if fee_bps else 2**96


def failures(bid: StandingBid, offer: StandingOffer, terms: Terms, facts: Facts) -> Iterator[Condition]:
    """The conditions that fail, in their order; nothing if the offer would do."""
    yield from _paper_failures(bid, offer, facts)
    yield from _place_failures(bid.wish, offer.place)
    yield from _trait_failures(bid.bid, offer.offer)
    yield from _size_failures(bid.need, offer.capacity)
    yield from _limit_failures(bid, offer.offer, terms, facts.min_fee)
    yield from _supply_failures(bid, offer, terms, facts)


def feasible(bid: StandingBid, offer: StandingOffer, terms: Terms, facts: Facts) -> bool:
    """Whether no condition fails."""
    return next(failures(bid, offer, terms, facts), None) is None


def _paper_failures(bid: StandingBid, offer: StandingOffer, facts: Facts) -> Iterator[Condition]:
    if facts.now >= offer.offer.valid_until:
        yield Condition.EXPIRED
    if facts.account(offer.offer.provider).counter != offer.offer.counter:
        yield Condition.WITHDRAWN
    if offer.offer.market not in (ZERO_ADDRESS, facts.market):
        yield Condition.MARKET
    if offer.offer.arbiter != bid.bid.arbiter:
        yield Condition.ARBITER
    if offer.offer.provider == bid.bid.consumer:
        yield Condition.PARTY


def _place_failures(wish: Wish, place: Place) -> Iterator[Condition]:
    if wish.regions and not any(_inside(place.region, region) for region in wish.regions):
        yield Condition.REGION
    if wish.arch not in ("", place.arch):
        yield Condition.ARCH
    if wish.python and wish.python not in place.pythons:
        yield Condition.PYTHON
    if wish.environments and not place.environments:
        yield Condition.ENVIRONMENTS


def _inside(place: str, region: str) -> bool:
    """Whether a place lies in a region: CN-GD is in CN-GD and in CN."""
    return place == region or place.startswith(region + "-")


def _trait_failures(bid: Bid, offer: Offer) -> Iterator[Condition]:
    if bid.needs & ~offer.traits:
        yield Condition.TRAITS
    if bid.refuses & offer.traits:
        yield Condition.REFUSED_TRAITS


def _size_failures(need: Lanes, capacity: Lanes) -> Iterator[Condition]:
    for want, have, condition in zip(need.values, capacity.values, _SIZE_CONDITIONS, strict=True):
        if want > have:
            yield condition


def _limit_failures(bid: StandingBid, offer: Offer, terms: Terms, min_fee: int) -> Iterator[Condition]:
    if terms.seconds == 0 or terms.seconds < offer.min_seconds:
        yield Condition.SECONDS
    if bid.bid.window > offer.max_window:
        yield Condition.WINDOW
    if terms.rate > bid.bid.max_rate:
        yield Condition.RATE
    if terms.price + terms.fee > bid.budget:
        yield Condition.BUDGET
    if terms.fee < min_fee:
        yield Condition.FEE


def _supply_failures(bid: StandingBid, offer: StandingOffer, terms: Terms, facts: Facts) -> Iterator[Condition]:
    provider = facts.account(offer.offer.provider)
    if not offer.capacity.covers(provider.used + bid.need) and offer.capacity.covers(bid.need):
        yield Condition.BUSY
    if terms.deposit > facts.account(bid.bid.consumer).free:
        yield Condition.CONSUMER_FUNDS
    if terms.bond > provider.free:
        yield Condition.PROVIDER_FUNDS
