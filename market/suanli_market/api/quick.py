"""Offers and bids past the framework: read in one go by the model's own parser, answered as soon as they are logged.

They are most of what a market is sent, and the framework's way costs more than checking them. Whatever is not read at
once goes that way, from the start: so both take and refuse the same, and what is wrong is said in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi.routing import APIRoute
from pydantic_core import to_json
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from suanli_market.admission import papers
from suanli_market.admission.papers import BidPaper, OfferPaper
from suanli_market.admission.submissions import RefusedError
from suanli_market.api.problems import answered
from suanli_market.services import Services
from suanli_protocol.bodies import whole
from suanli_protocol.errors import SuanliError
from suanli_protocol.wire import SignedBid, SignedOffer

_JSON = (b"content-type", b"application/json")

Paper = OfferPaper | BidPaper


def read_offer(body: bytes) -> Paper:
    """The offer of a body; ValueError or ProtocolError if it is none."""
    return papers.read_offer(SignedOffer.model_validate_json(body))


def read_bid(body: bytes) -> Paper:
    """The bid of a body; ValueError or ProtocolError if it is none."""
    return papers.read_bid(SignedBid.model_validate_json(body))


READERS: dict[str, Callable[[bytes], Paper]] = {"/v1/offers": read_offer, "/v1/bids": read_bid}


class QuickMiddleware:
    """Innermost: takes what it can read, and leaves all else to the routes; `routes` are those that it goes past."""

    def __init__(self, app: ASGIApp, services: Services, routes: Sequence[BaseRoute]) -> None:
        self._app, self._services = app, services
        known = (route for route in routes if isinstance(route, APIRoute) and route.path in READERS)
        self._routes = {route.path: route for route in known if "POST" in (route.methods or ())}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] not in READERS or not _is_posted_json(scope):
            await self._app(scope, receive, send)
            return
        body = await whole(receive)
        if body is None:
            return
        try:
            paper = READERS[scope["path"]](body)
        except (ValueError, SuanliError):
            await self._app(scope, _again(body, receive), send)
            return
        scope["route"] = self._routes[scope["path"]]
        sender = scope["client"][0] if scope["client"] else ""
        try:
            acknowledgement = await self._services.admission.submit(paper, sender)
        except (SuanliError, RefusedError) as error:
            await answered(error, self._services.counters)(scope, receive, send)
            return
        content = to_json(acknowledgement)
        headers = [_JSON, (b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _is_posted_json(scope: Scope) -> bool:
    return scope["method"] == "POST" and _JSON in scope["headers"]


def _again(body: bytes, receive: Receive) -> Receive:
    """The request's messages with the body that was received already."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again
