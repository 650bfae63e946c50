"""Whether a bid could be served if only its account had more money. Pure."""

from __future__ import annotations

from suanli_market.clearing.book import View
from suanli_market.clearing.conditions import Condition, StandingBid, failures, terms_of


def least_deposit(bid: StandingBid, view: View) -> int | None:
    """The least deposit among the offers that fail for the consumer's funds alone.

    None if some offer is feasible, or if money would not help.
    """
    least: int | None = None
    for offer in view.offers:
        terms = terms_of(bid, offer)
        failed = list(failures(bid, offer, terms, view.facts))
        if not failed:
            return None
        if failed == [Condition.CONSUMER_FUNDS]:
            least = terms.deposit if least is None else min(least, terms.deposit)
    return least
