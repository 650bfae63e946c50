"""Whether a bid could be served if only its account had more money. Pure."""

from __future__ import annotations

from dataclasses import replace

from suanli_market.clearing.book import View
from suanli_market.clearing.conditions import StandingBid
from suanli_market.clearing.overlay import Overlay
from suanli_market.clearing.search import hits


def least_deposit(bid: StandingBid, view: View) -> int | None:
    """The least deposit among the offers that fail for the consumer's funds alone.

    None if some offer is feasible, or if money would not help.
    """
    consumer = view.facts.account(bid.bid.consumer)
    rich = Overlay(view.facts.accounts, {bid.bid.consumer: replace(consumer, free=2**96 - 1)})
    best = next(hits(bid, view.offers, replace(view.facts, accounts=rich), by_price=True), None)
    if best is None or best.terms.deposit <= consumer.free:
        return None
    return best.terms.deposit
