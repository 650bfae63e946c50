"""Offers, bids and quotes. A signed paper needs no signed request: it carries its own authority, whoever brings it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from suanli_market.admission import papers
from suanli_market.admission.submissions import Withdrawal
from suanli_market.api.auth import Signer
from suanli_market.api.types import Address, After, Id, Sender, answer
from suanli_market.clearing.explain import Allowance, explained
from suanli_market.clearing.quotes import quote
from suanli_market.services import Market, Services
from suanli_market.tables import BidRow, OfferRow
from suanli_protocol import wire
from suanli_protocol.capacity import Lanes
from suanli_protocol.errors import NotFoundError
from suanli_protocol.lease import Account
from suanli_protocol.problems import LimitError
from suanli_protocol.signing import checksum_address
from suanli_protocol.wire import Acknowledgement, BidView, OfferPage, Quote, QuoteRequest, SignedBid, SignedOffer

router = APIRouter(prefix="/v1", tags=["papers"])
PAGE, PAGE_MAX = 100, 500
PAGE_CHARACTERS = 4 * 1024 * 1024  # of papers and attributes: clients take an answer of 64 MiB
ROWS_AT_ONCE = 50
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
LISTED_PER_S = 20_000  # offers: half of one core's time
_explained, _listed, _lock = (
    Allowance(),
    Allowance(LISTED_PER_S),
    threading.Lock(),
)  # of this process, all askers together


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


@router.get("/offers", response_model=OfferPage)
def offers(market: Market, after: After = 0, limit: Limit = PAGE, provider: Address = "") -> Response:
    """Open offers with an admission number above `after`, in its order, with what is free of each.

    At most `limit`, fewer if they are large (4 MiB): `next` is the `after` of the page that follows, null on
    the last one. An offer that stays open is in one of the pages, whatever comes and goes meanwhile.
    """
    total = market.keeper.open_offers()
    _take(_listed, min(limit, total), "offers", "too many offers are listed")
    query = select(OfferRow).where(OfferRow.state == "open", col(OfferRow.seq) > after)
    if provider:
        query = query.where(OfferRow.provider == checksum_address(bytes.fromhex(provider[2:])))
    rows, following = _page(market, query.order_by(col(OfferRow.seq)), limit)
    return answer({"offers": _offer_views(market, rows), "next": following, "total": total})


@router.post("/quotes", response_model=Quote)
def post_quote(body: QuoteRequest, market: Market) -> Response:
    """Which offers would do for a bid, and why the others would not."""
    view = market.keeper.view()
    _take(_explained, explained(view.offers), "quotes", "too many quotes are asked for")
    found = quote(body, view, decimals=market.info.decimals, symbol=market.info.symbol)
    wanted = {wire.to_hex(proposal.offer.id) for proposal in found.proposals}
    with market.store.read() as session:
        rows = session.exec(select(OfferRow).where(OfferRow.state == "open", col(OfferRow.id).in_(wanted))).all()
    return answer(found.as_json({item["id"]: item for item in _offer_views(market, rows)}))


def _take(allowance: Allowance, looks: int, limit: str, detail: str) -> None:
    with _lock:
        if not allowance.take(looks, time.monotonic()):
            raise LimitError(detail, hint="ask again in a second", limit=limit)


def _page(market: Services, query: SelectOfScalar[OfferRow], limit: int) -> tuple[list[OfferRow], int | None]:
    """The first rows, and the number of the last of them if more follow."""
    found: list[OfferRow] = []
    size = 0
    with market.store.read() as session:
        for row in session.exec(query.limit(limit + 1).execution_options(yield_per=ROWS_AT_ONCE)):
            size += len(row.paper) + len(row.attributes)
            if found and (len(found) == limit or size > PAGE_CHARACTERS):
                return found, found[-1].seq
            found.append(row)
    return found, None


def _offer_views(market: Services, rows: Sequence[OfferRow]) -> list[wire.Json]:
    accounts = market.keeper.view().facts.accounts if rows else {}
    return [_offer_view(row, accounts.get(row.provider, Account())) for row in rows]


def _offer_view(row: OfferRow, account: Account) -> wire.Json:
    """As wire.OfferView has it. The paper is not read as one: that costs ten times as much."""
    paper = json.loads(row.paper)
    left = (Lanes.unpack(int(paper["capacity"])) - account.used).values
    names = ("cpuMilli", "memoryMib", "acceleratorMilli", "diskMib")
    return {
        "id": row.id,
        "offer": paper,
        "signature": row.signature,
        "attributes": json.loads(row.attributes),
        "free": {name: max(0, value) for name, value in zip(names, left, strict=True)},
        "seenAt": row.received_at,
    }
