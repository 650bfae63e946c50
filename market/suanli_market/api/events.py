"""The signer's events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Response
from starlette.responses import StreamingResponse

from suanli_market.api.auth import Signer
from suanli_market.api.types import After
from suanli_market.services import Market
from suanli_market.streams import event_stream

router = APIRouter(prefix="/v1", tags=["events"])
LastEventId = Annotated[str, Header(alias="Last-Event-ID", pattern=r"^[0-9]{0,18}$")]


@router.get("/events")
async def events(signer: Signer, market: Market, after: After = 0, last_event_id: LastEventId = "") -> Response:
    """Server-sent events with a number above `after` (or the Last-Event-ID of a browser that comes back)."""
    start = max(after, int(last_event_id or 0))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream = event_stream(market.store, market.hub, signer, start)
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
