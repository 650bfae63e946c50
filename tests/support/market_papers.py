"""Builders of what the market's pure parts take: standing offers and bids, facts."""

from __future__ import annotations

from typing import Any

from suanli_market.clearing.conditions import Facts, Place, StandingBid, StandingOffer, Wish
from suanli_protocol.lease import Account
from suanli_protocol.signing import struct_hash
from support.builders import CREDIT, NOW, a_bid, an_offer, consumer, market, provider

PLACE = Place("CN-GD", "x86_64", ("3.11", "3.12"), environments=True)


def a_standing_offer(*, place: Place = PLACE, seq: int = 1, **fields: Any) -> StandingOffer:
    """An offer of the builders' provider in the book."""
    offer = an_offer(**fields)
    return StandingOffer.of(struct_hash(offer), seq, offer, place)


def a_standing_bid(*, wish: Wish | None = None, seq: int = 2, **fields: Any) -> StandingBid:
    """A bid of the builders' consumer in the book."""
    bid = a_bid(**fields)
    return StandingBid.of(struct_hash(bid), seq, bid, wish or Wish())


def some_facts(*, now: int = NOW, seed: bytes = bytes(32), min_fee: int = 0, **accounts: Account) -> Facts:
    """Facts in which the builders' consumer and provider have money; `consumer` and `provider` replace theirs."""
    known = {
        consumer().address: accounts.get("consumer", Account(free=100 * CREDIT)),
        provider().address: accounts.get("provider", Account(free=100 * CREDIT)),
    }
    return Facts(now, market().address, known, seed, min_fee)
