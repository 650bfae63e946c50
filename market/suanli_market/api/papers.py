"""Offers, bids and quotes. A signed paper needs no signed request: it carries its own authority, whoever brings it."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from fastapi import APIRouter, Response
from sqlmodel import col, select

from suanli_market.admission import papers
from suanli_market.admission.submissions import Withdrawal
from suanli_market.api.auth import Signer
from suanli_market.api.types import Id, Sender, answer
from suanli_market.clearing.explain import Allowance, explained
from suanli_market.clearing.quotes import quote
from suanli_market.services import Market, Services
from suanli_market.tables import BidRow, OfferRow
from suanli_protocol import wire
from suanli_protocol.errors import NotFoundError
from suanli_protocol.lease import Account
from suanli_protocol.problems import LimitError
from suanli_protocol.wire import Acknowledgement, BidView, OfferView, Quote, QuoteRequest, SignedBid, SignedOffer

router = APIRouter(prefix="/v1", tags=["papers"])
OFFERS_MAX = 10_000
_allowance, _lock = Allowance(), threading.Lock()  # of this process: a quote looks at each offer of the book


@router.post("/offers", response_model=Acknowledgement)
async def post_offer(body: SignedOffer, sender: Sender, market: Market) -> Response:
    """Publishes an offer; answered when it is logged."""
    return answer(await market.admission.submit(papers.read_offer(body), sender))


@router.post("/offers/{offer}/withdraw", response_model=Acknowledgement)
async def withdraw_offer(offer: Id, signer: Signer, market: Market) -> Response:
    """Takes the signer's offer off the book."""
    return answer(await market.admission.submit(Withdrawal("offer", wire.from_hex(offer), signer)))


@router.post("/bids", response_model=Acknowledgement)
async def post_bid(body: SignedBid, sender: Sender, market: Market) -> Response:
    """Submits a bid; answered when it is logged."""
    return answer(await market.admission.submit(papers.read_bid(body), sender))


@router.post("/bids/{bid}/withdraw", response_model=Acknowledgement)
async def withdraw_bid(bid: Id, signer: Signer, market: Market) -> Response:
    """Takes the signer's bid off the book, unless it is matched."""
    return answer(await market.admission.submit(Withdrawal("bid", wire.from_hex(bid), signer)))


@router.get("/bids/{bid}", response_model=BidView)
def bid(bid: Id, signer: Signer, market: Market) -> Response:
    """One bid of the signer's."""
    with market.store.read() as session:
        row = session.get(BidRow, bid)
    if row is None or row.consumer != signer:
        raise NotFoundError(f"no bid {bid} of {signer}")
    view: dict[str, Any] = {
        "id": row.id,
        "bid": json.loads(row.paper),
        "state": row.state,
        "reason": row.reason,
        "lease": row.lease,
        "rejections": json.loads(row.rejections),
    }
    return answer(view)


@router.get("/offers", response_model=list[OfferView])
def offers(market: Market) -> Response:
    """The open offers, newest first, with what is free of each."""
    return answer(_offer_views(market))


@router.post("/quotes", response_model=Quote)
def post_quote(body: QuoteRequest, market: Market) -> Response:
    """Which offers would do for a bid, and why the others would not."""
    view = market.keeper.view()
    with _lock:
        if not _allowance.take(explained(view.offers), time.monotonic()):
            raise LimitError("too many quotes are asked for", hint="ask again in a second", limit="quotes")
    found = quote(body, view, decimals=market.info.decimals, symbol=market.info.symbol)
    wanted = {wire.to_hex(proposal.offer.id) for proposal in found.proposals}
    return answer(found.as_json({item["id"]: item for item in _offer_views(market, wanted)}))


def _offer_views(market: Services, wanted: set[str] | None = None) -> list[wire.Json]:
    query = select(OfferRow).where(OfferRow.state == "open").order_by(col(OfferRow.seq).desc()).limit(OFFERS_MAX)
    if wanted is not None:
        query = query.where(col(OfferRow.id).in_(wanted))
    with market.store.read() as session:
        rows = session.exec(query).all()
    accounts = market.keeper.view().facts.accounts
    return [_offer_view(row, accounts.get(row.provider, Account())) for row in rows]


def _offer_view(row: OfferRow, account: Account) -> wire.Json:
    standing = papers.standing_offer(row)
    left = (standing.capacity - account.used).values
    names = ("cpuMilli", "memoryMib", "acceleratorMilli", "diskMib")
    return {
        "id": row.id,
        "offer": json.loads(row.paper),
        "signature": row.signature,
        "attributes": json.loads(row.attributes),
        "free": {name: max(0, value) for name, value in zip(names, left, strict=True)},
        "seenAt": row.received_at,
    }
