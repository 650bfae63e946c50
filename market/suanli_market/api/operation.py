"""What an operator's tools ask: figures, whether the process lives, whether it can serve. Nothing for the world."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.responses import PlainTextResponse

from suanli_market.api.problems import NotReadyError
from suanli_market.api.recent import Recent
from suanli_market.api.types import answer
from suanli_market.health import Finding
from suanli_market.metrics import MEDIA_TYPE
from suanli_protocol.wire import Json

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_model=Json)
async def healthz() -> Response:
    """The process lives and answers."""
    return answer({"alive": True})


@router.get("/readyz", response_model=Json)
async def readyz(request: Request) -> Response:
    """Database, chain, indexer, halt: ready if all are well, else a problem whose `checks` say what is not."""
    recent: Recent[list[Finding]] = request.app.state.findings
    findings = await recent.get()
    checks = [finding.to_json() for finding in findings]
    failing = [finding for finding in findings if not finding.ok]
    if failing:
        names = ", ".join(finding.name for finding in failing)
        raise NotReadyError(f"not well: {names}; {failing[0].detail}", hint=failing[0].hint, checks=checks)
    return answer({"ready": True, "checks": checks})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Figures in Prometheus' text format."""
    recent: Recent[str] = request.app.state.exposition
    return Response(await recent.get(), media_type=MEDIA_TYPE)
