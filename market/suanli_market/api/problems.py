"""Which error of a handler leaves as which problem."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from suanli_market.admission.submissions import RefusedError
from suanli_market.metrics import Counters
from suanli_protocol.errors import ChainUnavailableError, NotFoundError, ProtocolError, SuanliError
from suanli_protocol.problems import LimitError, misfit, problem

log = logging.getLogger(__name__)


class NotReadyError(SuanliError):
    """The market lives and cannot serve now; `checks` say why."""

    code, title, http_status, retryable = "not_ready", "The market is not ready", 503, True

    def __init__(self, detail: str, *, hint: str, checks: list[dict[str, Any]]) -> None:
        super().__init__(detail, hint=hint)
        self.checks = checks


def answered(error: SuanliError | RefusedError, counters: Counters) -> Response:
    """The response for an error that a handler knows of, counted."""
    match error:
        case LimitError():
            counters.add("limited_total", limit=error.limit)
            return problem(error)
        case NotReadyError():
            return problem(error, checks=error.checks)
        case RefusedError():
            counters.add("refusals_total", reason=error.reason)
            return problem(error.error, reason=error.reason, acknowledgement=error.acknowledgement)
        case SuanliError():
            return problem(error)


def install(app: FastAPI, counters: Counters) -> None:
    """Sends each error that a handler raises as a problem."""

    async def _known(_: Request, error: Exception) -> Response:
        assert isinstance(error, SuanliError | RefusedError)  # noqa: S101
        return answered(error, counters)

    app.add_exception_handler(SuanliError, _known)
    app.add_exception_handler(RefusedError, _known)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        return problem(misfit(error.errors()))

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
