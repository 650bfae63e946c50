"""Limits on requests over loopback sockets: rates by key and address, bodies that are deep, large or slow, streams."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import Response

from suanli_market.api import limits, problems
from suanli_market.api.auth import Signer
from suanli_market.api.events import HeldStream
from suanli_market.api.limits import LimitsMiddleware, Places, RequestLimits
from suanli_market.api.requests import RequestsMiddleware
from suanli_market.figures import COUNTERS
from suanli_market.metrics import Counters
from suanli_protocol import bodies, room, signing
from suanli_protocol.bodies import DEPTH_MAX
from suanli_protocol.buckets import Buckets
from suanli_protocol.connections import Connection
from suanli_protocol.gate import Gate
from suanli_protocol.market_client import signed_headers
from suanli_protocol.problems import LimitError
from suanli_protocol.room import SMALL_BYTES, Room
from support.builders import a_domain, consumer, market, provider

ELSEWHERE = {"X-Forwarded-For": "203.0.113.9"}


def an_app(counters: Counters) -> FastAPI:
    """The market's limits in front of routes that do nothing."""
    app = FastAPI()
    wanted = RequestLimits(counters, per_key=1, per_address=1, streams=Places("streams", in_all=3, each=2))
    app.state.services = SimpleNamespace(gate=Gate(a_domain(), market().address), limits=wanted)
    problems.install(app, counters)
    app.add_middleware(LimitsMiddleware, limits=wanted, halted=lambda: None)
    app.add_middleware(RequestsMiddleware, counters=counters)

    @app.post("/v1/offers")
    async def _json(request: Request) -> Response:
        return Response(str(len(json.dumps(await request.json()))))

    @app.put("/v1/leases/x/blobs/job")
    async def _bytes(request: Request) -> Response:
        return Response(str(len(await request.body())))

    @app.get("/v1/leases")
    async def _signed(signer: Signer) -> Response:
        return Response(signer)

    @app.get("/v1/events/{key}")
    async def _stream(key: str) -> Response:
        return HeldStream(wanted.streams, key, endless(), media_type="text/event-stream")

    return app


async def endless() -> AsyncIterator[str]:
    while True:
        yield ": here\n\n"
        await asyncio.sleep(0.05)


@pytest.fixture
def counters() -> Counters:
    return Counters(COUNTERS)


@pytest.fixture
def address(counters: Counters, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.4)
    server = uvicorn.Server(uvicorn.Config(an_app(counters), http=Connection, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()
        server.should_exit = server.force_exit = True
        thread.join(10)


@pytest.fixture
def http(address: tuple[str, int]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{address[1]}", trust_env=False, timeout=10) as client:
        yield client


def the_problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, object] = answer.json()
    assert (answer.status_code, found["status"], found["code"]) == (status, status, code)
    assert found["hint"]
    return found


def test_an_address_that_asks_too_often_waits(http: httpx.Client, counters: Counters) -> None:
    answers = [http.post("/v1/offers", json=1, headers=ELSEWHERE) for _ in range(limits.BURST_S + 4)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    the_problem(refused[0], 429, "too_many_requests")
    assert refused[0].headers["retry-after"] == "1"
    assert http.post("/v1/offers", json=1, headers={"X-Forwarded-For": "203.0.113.10"}).status_code == 200
    assert http.post("/v1/offers", json=1).status_code == 200, "this machine is not counted by address"
    limited = next(family for family in counters.families() if family.name == "limited_total")
    assert limited.series[("limit", "address"),] == len(refused)


def test_a_key_that_asks_too_often_waits_wherever_it_is(http: httpx.Client) -> None:
    def ask(key: signing.Signer) -> httpx.Response:
        headers = signed_headers(key, a_domain(), market().address, "GET", "/v1/leases", b"")
        return http.get("/v1/leases", headers=headers)

    answers = [ask(consumer()) for _ in range(limits.BURST_S + 4)]
    assert [answer.status_code for answer in answers[: limits.BURST_S]] == [200] * limits.BURST_S
    refused = next(answer for answer in answers if answer.status_code != 200)
    the_problem(refused, 429, "too_many_requests")
    assert int(refused.headers["retry-after"]) >= 1
    assert ask(provider()).status_code == 200
    forged = {**signed_headers(provider(), a_domain(), market().address, "GET", "/v1/leases", b"")}
    forged["Suanli-Signer"] = consumer().address
    the_problem(http.get("/v1/leases", headers=forged), 401, "signature")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("[" * DEPTH_MAX + "]" * DEPTH_MAX, 200),
        ("[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1), 422),
        ('{"a":' * 500 + "1" + "}" * 500, 422),
        ("[" * 200_000, 422),
        (json.dumps(["[" * 100, '\\"[{' * 30]), 200),
        (json.dumps([[{}]] * 5_000), 200),
    ],
)
def test_json_is_nested_so_deep_and_no_deeper(http: httpx.Client, body: str, status: int) -> None:
    answer = http.post("/v1/offers", content=body)
    assert answer.status_code == status
    if status == 422:
        the_problem(answer, 422, "too_deep")


def test_a_body_may_have_so_many_bytes_and_no_more(http: httpx.Client) -> None:
    assert http.put("/v1/leases/x/blobs/job", content=b"x" * bodies.CHUNK_BYTES_MAX).status_code == 200
    the_problem(http.put("/v1/leases/x/blobs/job", content=b"x" * (bodies.CHUNK_BYTES_MAX + 1)), 413, "too_large")

    def unannounced() -> Iterator[bytes]:
        for _ in range(bodies.JSON_BYTES_MAX // 65_536 + 1):
            yield b" " * 65_536

    the_problem(http.post("/v1/offers", content=unannounced()), 413, "too_large")


def raw(address: tuple[str, int], head: bytes, pieces: int, pause_s: float) -> bytes:
    """What a client gets that sends so many single bytes of a body with pauses between."""
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(head)
        try:
            for _ in range(pieces):
                time.sleep(pause_s)
                client.sendall(b" ")
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            return client.recv(4000)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("pieces", [0, 40])
def test_a_body_that_stalls_or_drips_is_given_up(address: tuple[str, int], pieces: int) -> None:
    """Forty pieces, none of them late, would be a body of four seconds: the whole has its time too."""
    head = b"POST /v1/offers HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    answer = raw(address, head, pieces, 0.1)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"slow_body" in answer
    assert b"connection: close" in answer.lower()


def test_a_slow_client_holds_up_nobody(address: tuple[str, int], http: httpx.Client) -> None:
    clients = [socket.create_connection(address, timeout=10) for _ in range(50)]
    try:
        for number, client in enumerate(clients):
            client.sendall(b"POST /v1/offers HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"[: 20 + number])
        assert http.post("/v1/offers", json=1).status_code == 200
    finally:
        for client in clients:
            client.close()


def test_streams_at_once_are_counted_by_key_and_in_all(http: httpx.Client) -> None:
    with http.stream("GET", "/v1/events/a") as first, http.stream("GET", "/v1/events/a") as second:
        assert (first.status_code, second.status_code) == (200, 200)
        the_problem(http.get("/v1/events/a"), 429, "too_many_requests")
        with http.stream("GET", "/v1/events/b") as third:
            assert third.status_code == 200
            the_problem(http.get("/v1/events/c"), 429, "too_many_requests")
    for _ in range(200):
        with http.stream("GET", "/v1/events/a") as again:
            if again.status_code == 200:
                return
        time.sleep(0.02)
    raise AssertionError("a place was not given back")


def test_bodies_in_flight_wait_for_room_and_then_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BODY_WAIT_S", 0.05)

    unit = SMALL_BYTES + 1

    async def run() -> None:
        held = Room(in_all=10 * unit, each=6 * unit)
        async with held.hold("a", 6 * unit):
            async with held.hold("b", 4 * unit):
                with pytest.raises(LimitError):
                    async with held.hold("c", unit):
                        pass
                async with held.hold("c", SMALL_BYTES):
                    pass
            with pytest.raises(LimitError):
                async with held.hold("a", unit):
                    pass
            monkeypatch.setattr(room, "BODY_WAIT_S", 10.0)
            waiting = asyncio.create_task(_held(held))
            await asyncio.sleep(0.01)
            assert not waiting.done()
        assert await waiting

    async def _held(held: Room) -> bool:
        async with held.hold("a", 5 * unit):
            return True

    asyncio.run(run())


def test_a_bucket_says_how_long_to_wait_and_forgets_whom_it_saw_first() -> None:
    buckets = Buckets(burst=2, per_second=0.5, holders_max=2)
    assert [buckets.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 2.0]
    assert buckets.take("a", 1.0) == 1.0
    assert buckets.take("a", 2.0) == 0.0
    assert buckets.take("a", 1.0) > 0, "a clock that goes back gives nothing"
    buckets.take("b", 2.0)
    buckets.take("c", 2.0)
    assert buckets.take("a", 2.0) == 0.0
