"""Planning a deal without a market: one node's own offer, judged by the same rules by which the escrow will."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suanli.jobs.job import Job
from suanli.network import window_of
from suanli.plan import Choice, Plan, bid_of, draft, limited, settle_limits
from suanli_protocol import wire
from suanli_protocol.errors import FundsError, NoMatchError, ProtocolError
from suanli_protocol.lease import Account, Refusal, ask_up, fee_down, lease_seconds, price_up, refusal, stake_down
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.signing import Domain, struct_hash, verify

if TYPE_CHECKING:
    from suanli.client import Client

RICH = 2**96
HINTS = {
    Refusal.ARBITER: "name the node's arbiter with --arbiter, or take another node's offer",
    Refusal.RATE_ABOVE_BID: "raise max_price",
    Refusal.BUDGET: "raise budget",
    Refusal.CAPACITY: "ask for less",
    Refusal.SECONDS: "ask for a longer or shorter time",
    Refusal.WINDOW: "name a shorter --window",
    Refusal.TRAITS: "ask for less, or take another node's offer",
}


def plan_direct(client: Client, job: Job, *, window: int | None = None) -> Plan:
    """The plan of a job on the node that `client` is connected to; NoMatchError if its offer does not do."""
    network, wanted = client.network, client.window(window if window is not None else job.window)
    info = client.pinned()
    seconds = window_of(info, is_devnet=network.is_devnet, wanted=wanted)
    network.check_clock(seconds)
    account = network.escrow.account(client.address)
    item = draft(job)
    own = info.model_copy(update={"address": client.address, "fee_bps": 0})
    bid = bid_of(
        item, own, consumer=client.address, window=seconds, document=None, counter=account.counter, **client.judges(job)
    )
    limits = client.limits(job, info)
    bid = limited(bid, **limits)
    views = network.market.offer_page(limit=1).offers
    if not views:
        raise NoMatchError("the node has no offer now", hint="it may be paused or draining; take another one's")
    choice = choose(views[0], bid, network.domain, provider=network.escrow.account)
    bid = settle_limits(bid, (choice,), **limits)
    return Plan(item, own, bid, (choice,), (), len(views), account.free)


def choose(view: wire.OfferView, bid: Bid, domain: Domain, *, provider: object) -> Choice:
    """The one offer with its figures, all computed here; NoMatchError names what the escrow would refuse it for."""
    offer = wire.paper_from_json(Offer, view.offer)
    verify(domain, offer, wire.from_hex(view.signature, size=64, name="signature"), offer.provider)
    if wire.to_hex(struct_hash(offer)) != view.id:
        raise ProtocolError(f"the node's offer {view.id} is not the offer that it shows")
    rate = ask_up(bid, offer)
    held = provider(offer.provider) if callable(provider) else Account()
    consumer = Account(
        free=RICH, counter=bid.counter
    )  # its money is looked at by the plan, with the sum that is missing
    code = refusal(bid, offer, rate=rate, caller=bid.market, now=0, consumer=consumer, provider=held)
    if code is Refusal.PROVIDER_FUNDS:
        raise FundsError("the node's account cannot bond this lease", hint="take another node's offer")
    if code is not Refusal.NONE:
        reason = code.name.lower().replace("_", " ")
        raise NoMatchError(f"the node's offer does not fit the job: {reason}", hint=HINTS.get(code, "ask for less"))
    seconds = lease_seconds(bid, offer)
    price = price_up(rate, seconds)
    return Choice(offer, view, rate, seconds, price, fee_down(price, bid.fee_bps), stake_down(price))
