"""What an HTTP service answers instead of what was asked: RFC 9457 problems, with nothing of its inside in any of them.

Market and node answer alike. Only a service imports this: it needs Starlette, which an audit does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from suanli_protocol.errors import ProtocolError, SuanliError, TimedOutError

MEDIA_TYPE = "application/problem+json"
UNREAD_STATUSES = (408, 413)
_DETAIL_MAX = 500


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


def misfit(errors: Sequence[Mapping[str, Any]]) -> ProtocolError:
    """The first of pydantic's errors, with the place that it is about."""
    place = ".".join(str(part) for part in errors[0]["loc"])
    return ProtocolError(f"{place}: {errors[0]['msg']}"[:_DETAIL_MAX])
