"""The signer's events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from suanli_market.api.auth import Signer
from suanli_market.api.limits import Places
from suanli_market.api.types import After
from suanli_market.services import Market
from suanli_market.streams import event_stream, start_of
from suanli_protocol.market_client import AFTER_HEADER, HISTORY_HEADER

router = APIRouter(prefix="/v1", tags=["events"])
History = Annotated[str, Query(pattern=r"^[0-9a-f]{0,32}$")]
LastEventId = Annotated[str, Header(alias="Last-Event-ID", pattern=r"^[0-9]{0,18}$")]


class HeldStream(StreamingResponse):
    """A stream that holds one of its key's places for as long as it is sent; LimitError before its first byte."""

    def __init__(self, places: Places, key: str, content: AsyncIterator[str], **options: Any) -> None:
        super().__init__(content, **options)
        self._places, self._key = places, key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        with self._places.hold(self._key):
            await super().__call__(scope, receive, send)


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    signer: Signer, market: Market, after: After = 0, history: History = "", last_event_id: LastEventId = ""
) -> Response:
    """Server-sent events with a number above `after` (or the Last-Event-ID of a browser that comes back).

    The headers say of which history the numbers are, and after which number the stream begins: after 0 if the market's
    is another than the `history` that is asked for, or ends before `after`.
    """
    start = await asyncio.to_thread(start_of, market.store, max(after, int(last_event_id or 0)), history)
    headers = {
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        HISTORY_HEADER: start.history,
        AFTER_HEADER: str(start.after),
    }
    stream = event_stream(market.store, market.hub, signer, start.after)
    return HeldStream(market.limits.streams, signer, stream, media_type="text/event-stream", headers=headers)
