"""Who sent a request: the signer of its headers, by the gate."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from suanli_market.api.limits import RequestLimits
from suanli_protocol.gate import Gate


async def signer_of(request: Request) -> str:
    """FastAPI dependency: the address that signed this request; LimitError if it asks too often."""
    gate: Gate = request.app.state.services.gate
    raw_path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope["query_string"]
    target = raw_path.split(b"?")[0].decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
    signer = gate.check(request.method, target, await request.body(), dict(request.headers))
    limits: RequestLimits = request.app.state.services.limits
    limits.by_key(signer)
    return signer


Signer = Annotated[str, Depends(signer_of)]
