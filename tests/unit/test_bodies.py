"""Bodies and problems: what market and node refuse before a handler sees it, in the same words."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from suanli_node.direct.api import answered, parsed, read_body
from suanli_protocol import bodies, wire
from suanli_protocol.bodies import DEPTH_MAX, Body, announced, whole
from suanli_protocol.errors import ProtocolError
from suanli_protocol.problems import MEDIA_TYPE, SlowBodyError, TooDeepError, TooLargeError, misfit

LIMIT = 1_000


def sent(*pieces: bytes, gone: bool = False) -> Any:
    """What a server hands over, piece by piece; `gone`: the client leaves before the end."""
    messages: list[Message] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if gone:
        messages.append({"type": "http.disconnect"})
    else:
        messages[-1]["more_body"] = False

    async def receive() -> Message:
        return messages.pop(0)

    return receive


def received(*pieces: bytes, gone: bool = False, is_json: bool = True) -> bytes | None:
    return asyncio.run(whole(Body(sent(*pieces, gone=gone), {}, LIMIT, 0, is_json=is_json)))


def test_a_body_is_what_came() -> None:
    assert received(b"ab", b"", b"cd") == b"abcd"
    assert received(b"ab", gone=True) is None


def test_a_body_above_its_limit_is_refused_at_the_byte_above() -> None:
    assert received(b"x" * LIMIT) == b"x" * LIMIT
    with pytest.raises(TooLargeError):
        received(b"x" * LIMIT, b"x")


def test_only_json_has_a_depth() -> None:
    deep = b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1)
    with pytest.raises(TooDeepError):
        received(deep)
    assert received(deep, is_json=False) == deep
    assert received(b'"' + deep + b'"') == b'"' + deep + b'"', "brackets of a text are none"


def test_a_body_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.05)

    async def never() -> Message:
        await asyncio.sleep(30)
        raise AssertionError

    with pytest.raises(SlowBodyError):
        asyncio.run(whole(Body(never, {}, LIMIT, 0, is_json=True)))


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ([], 0),
        ([(b"content-length", b"7")], 7),
        ([(b"content-length", b"1000")], 1_000),
        ([(b"content-length", b"7"), (b"transfer-encoding", b"chunked")], LIMIT),
        ([(b"content-length", b"1001")], None),
        ([(b"content-length", b"-1")], None),
        ([(b"content-length", b"1" * 19)], None),
        ([(b"content-length", b"1e2")], None),
    ],
)
def test_what_is_announced_is_believed_up_to_the_limit(headers: list[tuple[bytes, bytes]], size: int | None) -> None:
    if size is not None:
        assert announced(headers, LIMIT) == size
        return
    with pytest.raises(TooLargeError):
        announced(headers, LIMIT)


def test_the_node_answers_with_the_market_s_problems() -> None:
    async def take(request: Request) -> Response:
        parsed(wire.Countersignature, await read_body(request, LIMIT))
        return Response()

    async def posted(*contents: bytes) -> list[httpx.Response]:
        transport = httpx.ASGITransport(Starlette(routes=[Route("/", answered(take), methods=["POST"])]))
        async with httpx.AsyncClient(transport=transport, base_url="http://node") as http:
            return [await http.post("/", content=content) for content in contents]

    large, deep, other, nothing = asyncio.run(posted(b"x" * (LIMIT + 1), b"[" * 40 + b"]" * 40, b'{"colour": 1}', b"{"))
    assert [answer.status_code for answer in (large, deep, other, nothing)] == [413, 422, 422, 422]
    assert [answer.json()["code"] for answer in (large, deep)] == ["too_large", "too_deep"]
    assert large.headers["connection"] == "close", "the rest is not taken for a request"
    assert {answer.headers["content-type"] for answer in (large, deep, other)} == {MEDIA_TYPE}


def test_a_misfit_names_its_place() -> None:
    found = misfit([{"loc": ("body", "offer", 3), "msg": "is none"}, {"loc": ("x",), "msg": "y"}])
    assert (type(found), found.detail) == (ProtocolError, "body.offer.3: is none")
