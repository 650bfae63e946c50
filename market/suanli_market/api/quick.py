"""A route for small signed bodies: read in one go by the model's own parser, which is a third of the work.

Whatever that does not take goes FastAPI's way, which says what is wrong; so both take and refuse the same.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute

from suanli_market.api.types import sender_of
from suanli_market.services import services_of
from suanli_protocol.wire import Body

_JSON = "application/json"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class QuickRoute(APIRoute):
    """Of a coroutine `endpoint(body, sender, market)`, whose body is one model."""

    def get_route_handler(self) -> Handler:
        """FastAPI's seam: what answers a request."""
        thorough, endpoint = super().get_route_handler(), self.endpoint
        model: type[Body] = get_type_hints(endpoint)["body"]

        async def quick(request: Request) -> Response:
            if request.headers.get("content-type") != _JSON:
                return await thorough(request)
            try:
                body = model.model_validate_json(await request.body())
            except ValueError:
                return await thorough(request)
            answer: Response = await endpoint(
                body=body, sender=await sender_of(request), market=await services_of(request)
            )
            return answer

        return quick
