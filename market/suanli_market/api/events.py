"""The signer's events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from suanli_market.api.auth import Signer
from suanli_market.api.limits import Places
from suanli_market.api.types import After
from suanli_market.services import Market
from suanli_market.streams import event_stream

router = APIRouter(prefix="/v1", tags=["events"])
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
async def events(signer: Signer, market: Market, after: After = 0, last_event_id: LastEventId = "") -> Response:
    """Server-sent events with a number above `after` (or the Last-Event-ID of a browser that comes back)."""
    start = max(after, int(last_event_id or 0))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    stream = event_stream(market.store, market.hub, signer, start)
    return HeldStream(market.limits.streams, signer, stream, media_type="text/event-stream", headers=headers)
