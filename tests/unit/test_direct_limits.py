"""The counter's limits over loopback sockets: rates by key and address, bodies, streams, leases that are kept."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from suanli_node.direct import api, limits
from suanli_node.direct.api import DirectApi
from suanli_node.direct.desk import DirectDesk, Streams
from suanli_node.direct.limits import BURST_S, PER_S, LimitedApp, RatedGate
from suanli_node.direct.relay import DirectRelay
from suanli_node.direct.server import CONNECTIONS_MAX, DirectServer, bind
from suanli_node.direct.shelf import KEEP_LEAST_S, KEEP_S, LEASES_MAX, LEASES_WANTED, Shelf
from suanli_protocol import bodies, room, wire
from suanli_protocol.bodies import CHUNK_BYTES_MAX, DEPTH_MAX, JSON_BYTES_MAX
from suanli_protocol.errors import MarketError
from suanli_protocol.gate import Gate
from suanli_protocol.lease_history import LeaseHistory
from suanli_protocol.market_client import signed_headers
from suanli_protocol.signing import Signer
from support import builders
from support.leases import an_opened_lease
from support.places import OnePlace

BLOB = "/v1/leases/0x" + "11" * 32 + "/blobs/job"


@dataclass
class Counter:
    """A counter that serves, and what it keeps."""

    address: tuple[str, int]
    shelf: Shelf
    http: httpx.Client

    def ask(self, signer: Signer, method: str, target: str, body: bytes = b"", **headers: str) -> httpx.Response:
        """A signed request."""
        signed = signed_headers(signer, builders.a_domain(), builders.provider().address, method, target, body)
        return self.http.request(method, target, content=body, headers={**signed, **headers})


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.4)
    signer, domain, streams, shelf = builders.provider(), builders.a_domain(), Streams(), Shelf(tmp_path / "direct")
    relay = DirectRelay(shelf, lambda: None, signer, domain, lambda *_: LeaseHistory(), streams.tell)  # type: ignore[arg-type,return-value]
    desk = DirectDesk(relay, OnePlace(), lambda _: None)
    app = DirectApi(desk, RatedGate(Gate(domain, signer.address)), streams, list).app()
    listener = bind("127.0.0.1:0")
    server = DirectServer(LimitedApp(app), listener)
    server.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=10, limits=httpx.Limits(max_connections=None)) as http:
            yield Counter(listener.getsockname(), shelf, http)
    finally:
        server.close()


def the_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def elsewhere(host: int) -> dict[str, str]:
    """As a proxy on this machine says where a request came from."""
    return {"X-Forwarded-For": f"203.0.113.{host}"}


def test_a_key_that_asks_too_often_waits(counter: Counter) -> None:
    answers = [counter.ask(builders.consumer(), "GET", "/v1/leases") for _ in range(PER_S * BURST_S + 60)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    the_problem(refused[0], 429, "too_many_requests")
    assert refused[0].headers["retry-after"] == "1"
    assert counter.ask(builders.a_signer(7), "GET", "/v1/leases").status_code == 200
    assert counter.http.get("/v1/offers").status_code == 200


def test_an_address_that_asks_too_often_waits_signed_or_not(counter: Counter) -> None:
    answers = [counter.http.get("/v1/offers", headers=elsewhere(9)) for _ in range(PER_S * BURST_S + 60)]
    assert {answer.status_code for answer in answers} == {200, 429}
    the_problem(answers[-1], 429, "too_many_requests")
    assert counter.http.get("/v1/offers", headers=elsewhere(10)).status_code == 200
    assert counter.http.get("/v1/offers").status_code == 200, "this machine is not counted by address"


def test_bodies_have_their_size_and_depth(counter: Counter) -> None:
    the_problem(counter.http.post("/v1/leases", content=b" " * (JSON_BYTES_MAX + 1)), 413, "too_large")
    the_problem(counter.http.put(BLOB, content=b" " * (CHUNK_BYTES_MAX + 1)), 413, "too_large")
    the_problem(counter.http.put(BLOB, content=b" " * CHUNK_BYTES_MAX), 401, "signature")
    deep = b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1)
    the_problem(counter.ask(builders.consumer(), "POST", "/v1/leases", deep), 422, "too_deep")


@pytest.mark.parametrize("pieces", [0, 40])
def test_a_body_that_stalls_or_drips_is_given_up(counter: Counter, pieces: int) -> None:
    with socket.create_connection(counter.address, timeout=10) as client:
        client.sendall(b"POST /v1/leases HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        try:
            for _ in range(pieces):
                time.sleep(0.1)
                client.sendall(b" ")
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = client.recv(4000) if not pieces else _received(client)
    assert pieces or answer.startswith(b"HTTP/1.1 408")


def _received(client: socket.socket) -> bytes:
    try:
        return client.recv(4000)
    except ConnectionResetError:
        return b""


def test_bodies_in_flight_of_one_address_are_bounded(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "BODY_WAIT_S", 0.1)
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 10.0)
    head = f"PUT {BLOB} HTTP/1.1\r\nHost: x\r\nContent-Length: {CHUNK_BYTES_MAX}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(limits.BODIES_BYTES_PER_ADDRESS // CHUNK_BYTES_MAX):
            client = stack.enter_context(socket.create_connection(counter.address, timeout=10))
            client.sendall(head)
        deadline = time.monotonic() + 10
        while (answer := counter.http.put(BLOB, content=b" " * CHUNK_BYTES_MAX)).status_code != 429:
            assert time.monotonic() < deadline
        the_problem(answer, 429, "too_many_requests")
        assert counter.http.get("/v1/offers").status_code == 200


def test_streams_are_counted_by_key_by_address_and_in_all(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "STREAMS_PER_KEY", 2)
    monkeypatch.setattr(api, "STREAMS_MAX", 5)
    monkeypatch.setattr(limits, "STREAMS_PER_ADDRESS", 3)
    held: list[Iterator[str]] = []

    def opened(number: int, host: int) -> int:
        target, signer = "/v1/events", builders.a_signer(number)
        headers = signed_headers(signer, builders.a_domain(), builders.provider().address, "GET", target, b"")
        request = counter.http.build_request("GET", target, headers={**headers, **elsewhere(host)})
        answer = counter.http.send(request, stream=True)
        stack.callback(answer.close)
        if answer.status_code == 200:
            held.append(answer.iter_lines())  # kept, or it would be closed
            assert next(held[-1]) == ": welcome"
        return answer.status_code

    with ExitStack() as stack:
        assert [opened(11, 1), opened(11, 1), opened(11, 2)] == [200, 200, 429]  # the key's
        assert [opened(12, 1), opened(13, 1)] == [200, 429]  # the address's
        assert [opened(14, 3), opened(15, 4), opened(16, 5)] == [200, 200, 429]  # all
    with ExitStack() as stack:
        deadline = time.monotonic() + 10
        while opened(17, 6) != 200:
            assert time.monotonic() < deadline, "a place was not given back"
            time.sleep(0.05)


def test_more_connections_than_there_are_places_are_told_so(counter: Counter) -> None:
    with ExitStack() as stack:
        for _ in range(CONNECTIONS_MAX):
            stack.enter_context(socket.create_connection(counter.address, timeout=10))
        last = stack.enter_context(socket.create_connection(counter.address, timeout=10))
        last.sendall(b"GET /v1/offers HTTP/1.1\r\nHost: x\r\n\r\n")
        assert last.recv(100).startswith(b"HTTP/1.1 503")


# Leases that are kept


def papers() -> wire.TakenLease:
    view = an_opened_lease().view
    return wire.TakenLease.model_validate({name: getattr(view, name) for name in wire.TakenLease.model_fields})


def lease_id(number: int) -> str:
    return wire.to_hex(number.to_bytes(32, "big"))


def ended(endings: Path, lease: str, at: float) -> None:
    path = endings / f"{lease[2:]}.json"
    path.write_text("{}")
    os.utime(path, (at, at))


def test_closed_leases_leave_the_shelf_and_open_ones_stay(tmp_path: Path) -> None:
    shelf, taken, now = Shelf(tmp_path / "direct"), papers(), time.time()
    endings = tmp_path / "endings"
    endings.mkdir()
    for number in range(4):
        shelf.put(lease_id(number), taken)
    ended(endings, lease_id(0), now - KEEP_S - 1)
    ended(endings, lease_id(1), now - KEEP_S + 60)
    old = tmp_path / "direct" / lease_id(3)[2:] / "taken.json"  # never closed, and not open: taken back by the chain
    os.utime(old, (now - KEEP_S - 1, now - KEEP_S - 1))
    assert set(shelf.trim({lease_id(2)}, endings)) == {lease_id(0), lease_id(3)}
    assert Shelf(tmp_path / "direct").leases() == shelf.leases() == [lease_id(1), lease_id(2)]
    assert not old.parent.exists()


def test_a_shelf_that_is_nearly_full_keeps_closed_leases_for_an_hour(tmp_path: Path) -> None:
    shelf, taken, now = Shelf(tmp_path / "direct"), papers(), time.time()
    endings = tmp_path / "endings"
    endings.mkdir()
    for number in range(LEASES_MAX):
        shelf.put(lease_id(number), taken)
        ended(endings, lease_id(number), now - KEEP_LEAST_S - 1 - number if number >= 100 else now)
    with pytest.raises(MarketError, match="no more"):
        shelf.put(lease_id(LEASES_MAX), taken)
    gone = shelf.trim((), endings)
    assert len(shelf.leases()) == LEASES_WANTED
    assert gone == [lease_id(number) for number in range(LEASES_MAX - 1, LEASES_WANTED - 1, -1)], "the oldest first"
    shelf.put(lease_id(LEASES_MAX), taken)


def test_the_shelf_may_be_asked_while_it_is_written(tmp_path: Path) -> None:
    """Streams look at it without waiting for a blob that is being written under its lock."""
    shelf = Shelf(tmp_path / "direct")
    shelf.put(lease_id(1), papers())
    found: list[list[str]] = []
    with shelf.lock:
        asker = threading.Thread(target=lambda: found.append(shelf.leases()))
        asker.start()
        asker.join(10)
    assert found == [[lease_id(1)]]
