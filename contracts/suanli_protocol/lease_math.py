"""The money of a lease, in integers: a mirror of LeaseMath.sol. The direction of rounding stands in each name. Pure."""

from __future__ import annotations

from suanli_protocol.capacity import Lanes, Prices
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.units import BPS, SECONDS_PER_HOUR, ceil_div

STAKE_DIVISOR = 10
DISPUTE_DIVISOR = 10
BOND_BPS_MIN = 1000


def price_up(rate: int, seconds: int) -> int:
    """The most that `seconds` at `rate` per hour can cost."""
    return ceil_div(rate * seconds, SECONDS_PER_HOUR)


def fee_down(amount: int, fee_bps: int) -> int:
    """The market's fee on a cumulative payment. A step's fee is a difference of two of these."""
    return amount * fee_bps // BPS


def stake_down(price: int) -> int:
    """What the consumer locks beside price and fee."""
    return price // STAKE_DIVISOR


def deposit_of(price: int, fee_bps: int) -> int:
    """What the consumer locks in all: price, its fee, its stake."""
    return price + fee_down(price, fee_bps) + stake_down(price)


def bond_down(price: int, bond_bps: int) -> int:
    """What the provider locks."""
    return price * bond_bps // BPS


def penalty_down(rate: int, min_seconds: int, bond: int) -> int:
    """What giving a lease back costs the provider: the shortest billed time, at most its bond."""
    return min(bond, earned_down(rate, min_seconds))


def earned_down(rate: int, seconds: int) -> int:
    """What `seconds` at `rate` per hour earn: whole units only."""
    return rate * seconds // SECONDS_PER_HOUR


def dispute_cost_down(amount: int) -> int:
    """What an arbiter's verdict on `amount` costs, in all."""
    return amount // DISPUTE_DIVISOR


def dispute_costs(amount: int, awarded: int) -> tuple[int, int]:
    """Who bears the cost of a verdict on `amount`, of which `awarded` went to the provider: (consumer, provider).

    The consumer bears the awarded share, rounded down; the provider the rest.
    """
    cost = dispute_cost_down(amount)
    consumer = cost * awarded // amount if amount else 0
    return consumer, cost - consumer


def silence_down(paid: int, claimed: int) -> int:
    """What a disputed lease pays in all when the arbiter stays silent."""
    return paid + (claimed - paid) // 2


def lease_seconds(bid: Bid, offer: Offer) -> int:
    """The longest that a lease of the two may last."""
    return min(bid.max_seconds, offer.max_seconds)


def ask_up(bid: Bid, offer: Offer) -> int:
    """What the offer asks per hour for the bid's need."""
    return Prices.unpack(offer.prices).ask_up(Lanes.unpack(bid.need))
