"""Every error as an RFC 9457 problem document; nothing of our inside in any of them."""

from __future__ import annotations

import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from suanli_market.admission.submissions import RefusedError
from suanli_market.metrics import Counters
from suanli_protocol.errors import ChainUnavailableError, NotFoundError, ProtocolError, SuanliError, TimedOutError

MEDIA_TYPE = "application/problem+json"
UNREAD_STATUSES = (408, 413)

log = logging.getLogger(__name__)


class TooLargeError(ProtocolError):
    """A body is larger than its route takes."""

    code, title, http_status = "too_large", "The body is too large", 413


class TooDeepError(ProtocolError):
    """A body's JSON is nested deeper than any that has a meaning here."""

    code, title = "too_deep", "The body is nested too deep"


class SlowBodyError(TimedOutError):
    """A body did not arrive in the time that its size is given."""

    code, title, http_status = "slow_body", "The body came too slowly", 408


class LimitError(SuanliError):
    """Somebody asks more often, or for more at once, than a limit allows; `limit` is its name, `wait_s` how long."""

    code, title, http_status, retryable = "too_many_requests", "Too many requests", 429, True

    def __init__(self, detail: str, *, hint: str, limit: str, wait_s: float = 1.0) -> None:
        super().__init__(detail, hint=hint)
        self.limit, self.wait_s = limit, wait_s


class NotReadyError(SuanliError):
    """The market lives and cannot serve now; `checks` say why."""

    code, title, http_status, retryable = "not_ready", "The market is not ready", 503, True

    def __init__(self, detail: str, *, hint: str, checks: list[dict[str, Any]]) -> None:
        super().__init__(detail, hint=hint)
        self.checks = checks


def problem(error: SuanliError, **members: Any) -> Response:
    """The response for an error."""
    status = error.http_status if error.http_status != 500 or error.code == "internal" else 502
    content = {"type": "about:blank", "status": status, **error.as_problem(), **members}
    headers: dict[str, str] = {}
    if status in (429, 503):
        headers["Retry-After"] = str(math.ceil(getattr(error, "wait_s", 1.0)))
    if status in UNREAD_STATUSES:
        headers["Connection"] = "close"  # the rest of the body is not read, and is not taken for a request
    return JSONResponse(content, status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI, counters: Counters) -> None:
    """Sends each error that a handler raises as a problem."""

    @app.exception_handler(LimitError)
    async def _limited(_: Request, error: LimitError) -> Response:
        counters.add("limited_total", limit=error.limit)
        return problem(error)

    @app.exception_handler(SuanliError)
    async def _known(_: Request, error: SuanliError) -> Response:
        return problem(error)

    @app.exception_handler(NotReadyError)
    async def _not_ready(_: Request, error: NotReadyError) -> Response:
        return problem(error, checks=error.checks)

    @app.exception_handler(RefusedError)
    async def _refused(_: Request, error: RefusedError) -> Response:
        counters.add("refusals_total", reason=error.reason)
        return problem(error.error, reason=error.reason, acknowledgement=error.acknowledgement)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return problem(ProtocolError(f"{place}: {first['msg']}"[:500]))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        return _of_status(error.status_code, str(error.detail), request)

    @app.exception_handler(UnicodeEncodeError)
    async def _not_text(_: Request, error: UnicodeEncodeError) -> Response:
        return problem(ProtocolError(f"the body holds text that is no Unicode: {error.reason}"))

    @app.exception_handler(ClientDisconnect)
    async def _gone(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it; a client that leaves is not worth a line of the log

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(SuanliError("the market failed to handle this request", hint="its log says more"))


def _of_status(status: int, detail: str, request: Request) -> Response:
    if status == 404:
        return problem(NotFoundError(f"there is nothing at {request.url.path:.200}"))
    if status == 503:
        return problem(ChainUnavailableError(detail))
    error = ProtocolError(f"{request.method} {request.url.path:.200}: {detail}")
    response = problem(error, status=status)
    response.status_code = status
    return response
