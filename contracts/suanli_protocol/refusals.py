"""Why the escrow leaves an entry of a batch out: its codes, and the checks of `open` in its order. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from suanli_protocol.capacity import GUARD, Lanes
from suanli_protocol.lease_math import BOND_BPS_MIN, ask_up, bond_down, deposit_of, fee_down, lease_seconds, price_up
from suanli_protocol.lease_terms import attempt_after, proves
from suanli_protocol.messages import ZERO_ADDRESS, Bid, Offer
from suanli_protocol.units import BPS


class Refusal(IntEnum):
    """The escrow's codes, as ILeaseEscrow.sol numbers them."""

    NONE = 0
    NOT_THE_MARKET = 1
    OTHER_MARKET = 2
    SAME_PARTY = 3
    BID_EXPIRED = 4
    OFFER_EXPIRED = 5
    BID_COUNTER = 6
    OFFER_COUNTER = 7
    SEAT_TAKEN = 8
    ATTEMPTS = 9
    UNSUPPORTED = 10
    ARBITER = 11
    SECONDS = 12
    RATE_BELOW_ASK = 13
    RATE_ABOVE_BID = 14
    BUDGET = 15
    WINDOW = 16
    BOND = 17
    FEE = 18
    TRAITS = 19
    LANES = 20
    CAPACITY = 21
    CONSUMER_FUNDS = 22
    PROVIDER_FUNDS = 23
    BID_SIGNATURE = 24
    OFFER_SIGNATURE = 25
    UNKNOWN_LEASE = 26
    AMOUNT = 27
    KIND = 28
    PROVIDER_SIGNATURE = 29
    CONSUMER_SIGNATURE = 30


@dataclass(frozen=True, slots=True)
class Account:
    """An account's word: free money, counter, capacity in use."""

    free: int = 0
    counter: int = 0
    used: Lanes = field(default_factory=Lanes)


def same_address(one: str, other: str) -> bool:
    """Whether two texts name one address."""
    return one.lower() == other.lower()


def acts_for(caller: str, account: str, owner: str = ZERO_ADDRESS) -> bool:
    """Whether `caller` is the account or its owner; nobody acts for the zero account."""
    if same_address(account, ZERO_ADDRESS):
        return False
    return same_address(caller, account) or same_address(caller, owner)


def refusal(
    bid: Bid,
    offer: Offer,
    *,
    rate: int,
    index: int = 0,
    previous: bytes = b"",
    caller: str,
    now: int,
    consumer: Account,
    provider: Account,
    seat: bytes = bytes(32),
    market_owner: str = ZERO_ADDRESS,
) -> Refusal:
    """Why `open` by `caller` at block time `now` would leave this fill out, signatures aside; NONE if it would not.

    The same checks in the same order as the escrow's. `consumer` and `provider` are the accounts, `seat` the word at
    the seat, as of the block before; `previous` is the proof of the attempt before this one, empty for the first.
    """
    for code, refused in (
        (Refusal.NOT_THE_MARKET, not acts_for(caller, bid.market, market_owner)),
        (Refusal.OTHER_MARKET, offer.market not in (ZERO_ADDRESS, bid.market)),
        (Refusal.SAME_PARTY, not _are_two_parties(bid.consumer, offer.provider)),
        (Refusal.BID_EXPIRED, now >= bid.valid_until),
        (Refusal.OFFER_EXPIRED, now >= offer.valid_until),
        (Refusal.BID_COUNTER, bid.counter != consumer.counter),
        (Refusal.OFFER_COUNTER, offer.counter != provider.counter),
        (Refusal.SEAT_TAKEN, not proves(previous, seat)),
    ):
        if refused:
            return code
    attempt, spent = attempt_after(previous)
    for code, refused in (
        (Refusal.ATTEMPTS, attempt > bid.attempts),
        (Refusal.UNSUPPORTED, bid.count != 1 or bid.gang or index != 0),
        (Refusal.ARBITER, not same_address(bid.arbiter, offer.arbiter)),
    ):
        if refused:
            return code
    return _refusal_of_terms(bid, offer, rate, spent) or _refusal_of_means(bid, offer, rate, consumer, provider)


def _are_two_parties(consumer: str, provider: str) -> bool:
    return len({consumer.lower(), provider.lower(), ZERO_ADDRESS}) == 3


def _refusal_of_terms(bid: Bid, offer: Offer, rate: int, spent: int) -> Refusal:
    """The bounds that the two papers set for each other."""
    seconds = lease_seconds(bid, offer)
    price = price_up(rate, seconds)
    for code, refused in (
        (Refusal.SECONDS, seconds == 0 or seconds < offer.min_seconds),
        (Refusal.RATE_BELOW_ASK, rate < ask_up(bid, offer)),
        (Refusal.RATE_ABOVE_BID, rate > bid.max_rate),
        (Refusal.BUDGET, spent + price + fee_down(price, bid.fee_bps) > bid.budget),
        (Refusal.WINDOW, bid.window > offer.max_window),
        (Refusal.BOND, not BOND_BPS_MIN <= offer.bond_bps <= BPS),
        (Refusal.FEE, bid.fee_bps > BPS),
        (Refusal.TRAITS, bool(bid.needs & ~offer.traits or bid.refuses & offer.traits)),
        (Refusal.LANES, bool((bid.need | offer.capacity) & GUARD)),
    ):
        if refused:
            return code
    return Refusal.NONE


def _refusal_of_means(bid: Bid, offer: Offer, rate: int, consumer: Account, provider: Account) -> Refusal:
    """Capacity and money of the two accounts."""
    price = price_up(rate, lease_seconds(bid, offer))
    if not Lanes.unpack(offer.capacity).covers(provider.used + Lanes.unpack(bid.need)):
        return Refusal.CAPACITY
    if deposit_of(price, bid.fee_bps) > consumer.free:
        return Refusal.CONSUMER_FUNDS
    if bond_down(price, offer.bond_bps) > provider.free:
        return Refusal.PROVIDER_FUNDS
    return Refusal.NONE
