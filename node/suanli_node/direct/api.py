"""The direct desk over HTTP: the lease part of a market's interface, so that a client works against a node as well."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from suanli_node.direct.desk import DirectDesk, Streams
from suanli_node.direct.limits import RatedGate
from suanli_protocol import wire
from suanli_protocol.bodies import CHUNK_BYTES_MAX, JSON_BYTES_MAX, Body, announced, whole
from suanli_protocol.errors import NotFoundError, ProtocolError, SuanliError
from suanli_protocol.problems import LimitError, misfit, problem

WAIT_MAX_S = 20
LOOK_S = 0.25
PING_S = 10.0
STREAMS_MAX = 64
STREAMS_PER_KEY = 8
PATH_SHOWN_MAX = 200
log = logging.getLogger(__name__)
B = TypeVar("B", bound=wire.Body)
Handler = Callable[[Request], Awaitable[Response]]
Offers = Callable[[], list[wire.OfferView]]


class DirectApi:
    """The routes over one desk."""

    def __init__(self, desk: DirectDesk, gate: RatedGate, streams: Streams, offers: Offers) -> None:
        self._desk, self._gate, self._streams, self._offers = desk, gate, streams, offers
        self._open_streams: Counter[str] = Counter()

    def app(self) -> Starlette:
        """The application."""
        lease, blob = "/v1/leases/{lease}", "/v1/leases/{lease}/blobs/{slot}"
        routes = (
            ("/v1/market", "GET", self.info),
            ("/v1/offers", "GET", self.offers),
            ("/v1/events", "GET", self.events),
            ("/v1/leases", "GET", self.leases),
            ("/v1/leases", "POST", self.take),
            (lease, "GET", self.lease),
            (f"{lease}/logs", "GET", self.logs),
            (f"{lease}/receipt", "GET", self.receipt),
            (f"{lease}/countersignature", "POST", self.countersign),
            (blob, "POST", self.announce),
            (blob, "PUT", self.append),
            (blob, "GET", self.download),
        )
        return Starlette(
            routes=[Route(path, answered(handler), methods=[method]) for path, method, handler in routes],
            exception_handlers={HTTPException: misrouted},
        )

    # Who the node is

    async def info(self, _: Request) -> Response:
        """The node in the words in which a market tells who it is."""
        return JSONResponse((await run_in_threadpool(self._desk.relay.info)).to_json())

    async def offers(self, _: Request) -> Response:
        """The node's one offer that needs no market."""
        views = await run_in_threadpool(self._offers)
        return JSONResponse(wire.OfferPage(offers=views, total=len(views)).to_json())

    # Leases

    async def take(self, request: Request) -> Response:
        """Takes a lease that the consumer opened."""
        consumer, body = await self._signed(request, JSON_BYTES_MAX)
        view = await run_in_threadpool(self._desk.take, consumer, parsed(wire.TakenLease, body))
        return JSONResponse(view.to_json())

    async def leases(self, request: Request) -> Response:
        """The signer's leases."""
        consumer, _ = await self._signed(request, 0)
        return JSONResponse([view.to_json() for view in await run_in_threadpool(self._desk.leases, consumer)])

    async def lease(self, request: Request) -> Response:
        """One lease of the signer's."""
        consumer, _ = await self._signed(request, 0)
        view = await run_in_threadpool(self._desk.lease, lease_of(request), consumer)
        return JSONResponse(view.to_json())

    async def logs(self, request: Request) -> Response:
        """Sealed log chunks after a number; waits for one if asked."""
        consumer, _ = await self._signed(request, 0)
        after, wait = number(request, "after", -1), min(WAIT_MAX_S, number(request, "wait", 0))
        deadline = asyncio.get_running_loop().time() + wait
        while True:
            page = await run_in_threadpool(self._desk.log, lease_of(request), consumer, after)
            if page.chunks or page.complete or asyncio.get_running_loop().time() >= deadline:
                return JSONResponse(page.to_json())
            await asyncio.sleep(LOOK_S)

    async def receipt(self, request: Request) -> Response:
        """The receipt with its evidence."""
        consumer, _ = await self._signed(request, 0)
        return JSONResponse((await run_in_threadpool(self._desk.receipt, lease_of(request), consumer)).to_json())

    async def countersign(self, request: Request) -> Response:
        """The consumer's signature over the receipt."""
        consumer, body = await self._signed(request, JSON_BYTES_MAX)
        signed = parsed(wire.Countersignature, body)
        await run_in_threadpool(self._desk.countersign, lease_of(request), consumer, signed)
        return Response(status_code=204)

    # Blobs

    async def announce(self, request: Request) -> Response:
        """Announces a blob of the consumer's."""
        consumer, _ = await self._signed(request, 0)
        return JSONResponse((await self._announced(request, consumer)).to_json())

    async def _announced(self, request: Request, consumer: str) -> wire.BlobView:
        size, digest = number(request, "size", -1), request.query_params.get("digest", "")
        slot = request.path_params["slot"]
        return await run_in_threadpool(self._desk.announce, lease_of(request), slot, consumer, size, digest)

    async def append(self, request: Request) -> Response:
        """Adds bytes to a blob of the consumer's; with `size` it is announced first."""
        consumer, body = await self._signed(request, CHUNK_BYTES_MAX)
        slot, offset = request.path_params["slot"], number(request, "offset", -1)
        if "size" in request.query_params:
            await self._announced(request, consumer)
        view = await run_in_threadpool(self._desk.append, lease_of(request), slot, consumer, offset, body)
        return JSONResponse(view.to_json())

    async def download(self, request: Request) -> Response:
        """A whole blob."""
        consumer, _ = await self._signed(request, 0)
        path = await run_in_threadpool(self._desk.blob, lease_of(request), request.path_params["slot"], consumer)
        return FileResponse(path, media_type="application/octet-stream")

    # Events

    async def events(self, request: Request) -> Response:
        """The signer's events, server-sent."""
        consumer, _ = await self._signed(request, 0)
        if self._open_streams[consumer] >= STREAMS_PER_KEY or self._open_streams.total() >= STREAMS_MAX:
            raise LimitError("this node serves no more event streams at once", hint="try again later", limit="streams")
        stream = self._stream(consumer, number(request, "after", 0))
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _stream(self, consumer: str, after: int) -> AsyncIterator[str]:
        self._open_streams[consumer] += 1
        silent_s = 0.0
        try:
            yield ": welcome\n\n"
            while True:
                leases = set(self._desk.ids(consumer))
                for event in self._streams.after(leases, after, 0):
                    after, silent_s = event.seq, 0.0
                    yield f"id: {event.seq}\nevent: {event.kind}\ndata: {event.model_dump_json(by_alias=True)}\n\n"
                await asyncio.sleep(LOOK_S)
                silent_s += LOOK_S
                if silent_s >= PING_S:
                    silent_s = 0.0
                    yield ": ping\n\n"
        finally:
            self._open_streams -= Counter({consumer: 1})

    async def _signed(self, request: Request, limit: int) -> tuple[str, bytes]:
        """Who signed the request, and its body of at most `limit` bytes."""
        body = await read_body(request, limit)
        query = request.url.query
        target = request.scope["raw_path"].split(b"?")[0].decode("latin-1") + (f"?{query}" if query else "")
        return self._gate.check(request.method, target, body, dict(request.headers)), body


def answered(handler: Handler) -> Handler:
    """The handler whose errors leave as RFC 9457 problems, with nothing of our inside in any of them."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except SuanliError as error:
            return problem(error)
        except UnicodeEncodeError as error:
            return problem(ProtocolError(f"the request holds text that is no Unicode: {error.reason}"))
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            return problem(SuanliError("the node failed to handle this request", hint="its log says more"))

    return answer


def misrouted(request: Request, error: Exception) -> Response:
    """The problem of a request that no route takes."""
    assert isinstance(error, HTTPException)  # noqa: S101
    found = request.url.path[:PATH_SHOWN_MAX]
    if error.status_code == 404:
        return problem(NotFoundError(f"there is nothing at {found}"))
    response = problem(ProtocolError(f"{request.method} {found}: {error.detail}"), status=error.status_code)
    response.status_code = error.status_code
    return response


async def read_body(request: Request, limit: int) -> bytes:
    """The body, refused as soon as it is too large, too deep or too slow; ClientDisconnect if nobody sends it."""
    size = announced(request.scope["headers"], limit)
    body = await whole(Body(request.receive, request.scope, limit, size, is_json=request.method != "PUT"))
    if body is None:
        raise ClientDisconnect
    return body


def parsed(kind: type[B], body: bytes) -> B:
    """A wire body; ProtocolError names the member that is wrong."""
    try:
        return kind.model_validate(json.loads(body))
    except ValidationError as error:
        raise misfit(error.errors()) from None
    except (ValueError, RecursionError):
        raise ProtocolError("the body is no JSON") from None


def lease_of(request: Request) -> str:
    """The lease's id of the path."""
    return wire.to_hex(wire.from_hex(request.path_params["lease"], size=32, name="lease"))


def number(request: Request, name: str, default: int) -> int:
    """A whole number of the query; ProtocolError if it is none within 2^63."""
    text: Any = request.query_params.get(name)
    if text is None:
        return default
    if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit() or len(text) > 19:
        raise ProtocolError(f"{name}: {text!r:.40} is no whole number")
    return int(text)
