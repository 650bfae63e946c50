"""Types that the routes share: bounded integers and ids."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request, Response
from starlette.responses import JSONResponse

Id = Annotated[str, Path(pattern=r"^0x[0-9a-f]{64}$")]
Number = Annotated[int, Path(ge=0, lt=2**63)]
After = Annotated[int, Query(ge=-1, lt=2**63)]
Address = Annotated[str, Query(pattern=r"^(0x[0-9a-fA-F]{40})?$")]


async def sender_of(request: Request) -> str:
    """The network address of the client; behind a proxy on this machine, the one that the proxy names."""
    return request.client.host if request.client else ""


Sender = Annotated[str, Depends(sender_of)]


def answer(content: Any) -> Response:
    """JSON as it stands: it was built from our own rows and models."""
    return JSONResponse(content)
