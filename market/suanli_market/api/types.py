"""Types that the routes share: bounded integers and ids."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Response
from starlette.responses import JSONResponse

Id = Annotated[str, Path(pattern=r"^0x[0-9a-f]{64}$")]
Number = Annotated[int, Path(ge=0, lt=2**63)]
After = Annotated[int, Query(ge=-1, lt=2**63)]


def answer(content: Any) -> Response:
    """JSON as it stands: it was built from our own rows and models."""
    return JSONResponse(content)
