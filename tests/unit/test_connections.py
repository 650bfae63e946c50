"""Clients that say nothing, or say it too slowly, lose their place; those that wait for an answer keep it."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from suanli_protocol import connections

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def slow(_: Request) -> Response:
    await asyncio.sleep(0.6)
    return PlainTextResponse("done")


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A server whose clients have 0.3 s for a head, and whose answer takes longer."""
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 0.3)
    app = Starlette(routes=[Route("/", slow)])
    server = uvicorn.Server(
        uvicorn.Config(app, http=connections.Connection, log_config=None, lifespan="off", limit_concurrency=8)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()
        server.should_exit = True
        thread.join(10)


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=10)


def ask(address: tuple[str, int]) -> bytes:
    with connect(address) as client:
        client.sendall(HEAD)
        return client.recv(1000)


def test_a_silent_client_is_closed(address: tuple[str, int]) -> None:
    with connect(address) as client:
        assert client.recv(100) == b""


def drip(client: socket.socket) -> None:
    for byte in HEAD * 10:
        client.sendall(bytes([byte]))
        time.sleep(0.03)


def test_a_head_that_drips_is_closed(address: tuple[str, int]) -> None:
    with connect(address) as client, pytest.raises((BrokenPipeError, ConnectionResetError)):
        drip(client)


def test_a_second_head_that_drips_is_closed(address: tuple[str, int]) -> None:
    with connect(address) as client:
        client.sendall(HEAD)
        assert b"done" in client.recv(1000)
        client.sendall(HEAD[:20])
        assert client.recv(100) == b""


def fill(client: socket.socket) -> None:
    """Ten megabytes of a head that never ends."""
    for _ in range(1_000):
        client.sendall(b"X-Filler: " + b"x" * 10_000 + b"\r\n")


def test_a_head_without_an_end_is_closed(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 60.0)
    with connect(address) as client:
        client.sendall(HEAD[:-2])
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            fill(client)
    assert b"done" in ask(address)


def test_too_many_connections_are_refused_and_then_closed(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_TIMEOUT_S", 60.0)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(address)) for _ in range(14)]
        assert [client.recv(10) for client in clients[10:]] == [b""] * 4
        clients[0].sendall(HEAD)
        assert clients[0].recv(20).startswith(b"HTTP/1.1 503")
    assert any(b"done" in ask(address) for _ in range(20)), "they left, there is room again"


def test_an_answer_may_take_its_time_and_the_connection_lives_on(address: tuple[str, int]) -> None:
    with connect(address) as client:
        for _ in range(2):
            client.sendall(HEAD)
            assert b"done" in client.recv(1000)
            time.sleep(0.5)


def test_a_client_that_asks_many_times_and_leaves_is_no_error(
    address: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """The second answer is under way when the connection breaks; it is dropped quietly, and no other is begun."""
    with connect(address) as client:
        client.sendall(HEAD * 5)
        assert client.recv(10) == b"HTTP/1.1 2"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(1.0)
    assert caplog.records == []


@pytest.mark.parametrize(("soft", "hard", "places"), [(256, 512, 256), (512, 512, 256), (1024, 8_192, 2_000)])
def test_half_of_the_files_are_for_connections(soft: int, hard: int, places: int) -> None:
    """In a process of its own: a limit that was lowered cannot be raised again."""
    script = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "from suanli_market.api.server import connections_max\n"
        "print(connections_max(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard and os.geteuid() != 0:
        pytest.skip("this machine gives no process so many files")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == [str(places), str(hard)], done.stderr
