"""Who this market is."""

from __future__ import annotations

from fastapi import APIRouter, Response

from suanli_market.api.types import answer
from suanli_market.events import now_ms
from suanli_market.services import Market
from suanli_protocol.wire import MarketInfo

router = APIRouter(prefix="/v1", tags=["market"])


@router.get("/market", response_model=MarketInfo)
async def info(market: Market) -> Response:
    """What the market is, what it asks, and its clock."""
    return answer({**market.info.to_json(), "time": now_ms()})
