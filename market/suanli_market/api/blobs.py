"""Sealed blobs of a lease: announced, uploaded in chunks, downloaded whole or in ranges."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from suanli_market.api.auth import Signer
from suanli_market.api.types import Id, answer
from suanli_market.leasing.relay import Relay
from suanli_market.services import Market
from suanli_protocol.wire import BlobView

router = APIRouter(prefix="/v1/leases/{lease}/blobs/{slot}", tags=["blobs"])
Size = Annotated[int, Query(ge=0, lt=2**63)]
OptionalSize = Annotated[int | None, Query(ge=0, lt=2**63)]
_BYTES: dict[str, Any] = {
    "description": "Sealed bytes.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
Digest = Annotated[str, Query(pattern=r"^(0x[0-9a-f]{64})?$")]


@router.post("", response_model=BlobView)
def announce(lease: Id, slot: str, size: Size, signer: Signer, market: Market, digest: Digest = "") -> Response:
    """Announces a blob of `size` bytes; tells how much of it is here already."""
    return answer(market.relay.begin(lease, slot, signer, size, digest).to_json())


@router.put("", response_model=BlobView, openapi_extra={"requestBody": _BYTES})
async def append(
    lease: Id,
    slot: str,
    offset: Size,
    request: Request,
    signer: Signer,
    market: Market,
    size: OptionalSize = None,
    digest: Digest = "",
) -> Response:
    """Appends the body at `offset`; with `size` it is announced at once, and a whole blob needs no other request."""
    data = await request.body()
    view = await run_in_threadpool(_append, market.relay, lease, slot, signer, offset, data, size, digest)
    return answer(view.to_json())


def _append(
    relay: Relay, lease: str, slot: str, signer: str, offset: int, data: bytes, size: int | None, digest: str
) -> BlobView:
    if size is None:
        return relay.append(lease, slot, signer, offset, data)
    if offset == 0 and len(data) == size > 0:
        return relay.store(lease, slot, signer, data, digest)
    relay.begin(lease, slot, signer, size, digest)
    return relay.append(lease, slot, signer, offset, data)


@router.get("", response_class=FileResponse, responses={200: _BYTES})
def download(lease: Id, slot: str, signer: Signer, market: Market) -> Response:
    """The whole blob, or a range of it."""
    return FileResponse(market.relay.path(lease, slot, signer), media_type="application/octet-stream")
