"""The plain connection to a chain, against servers that close, stall, break off and talk nonsense."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from suanli_protocol import answers
from suanli_protocol.chain import Chain
from suanli_protocol.errors import ChainUnavailableError, ProtocolError
from suanli_protocol.market_client import MarketClient
from suanli_protocol.plain_http import PlainHttp, PlainHttpError

ANSWER = b'{"jsonrpc":"2.0","id":1,"result":"0x7a69"}'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
Talk = Callable[[socket.socket, int], None]


@pytest.fixture(autouse=True)
def usual_recursion_limit() -> Iterator[None]:
    """As in our processes; plugins of the test runner raise it."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    yield
    sys.setrecursionlimit(limit)


def read_request(peer: socket.socket) -> bytes:
    """One request; nothing if the client left."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = peer.recv(65_536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    sizes = (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    size = next(sizes, 0)
    while len(body) < size:
        body += peer.recv(65_536)
    return head + b"\r\n\r\n" + body


@contextmanager
def serving(talk: Talk) -> Iterator[tuple[str, list[bytes]]]:
    """A server that handles each connection with `talk`, which is told the connection's number; what it was asked."""
    listener, asked = socket.create_server(("127.0.0.1", 0)), list[bytes]()

    def handle(peer: socket.socket, number: int) -> None:
        with peer:
            while request := read_request(peer):
                asked.append(request)
                talk(peer, number)
                if peer.fileno() < 0:
                    return

    def accept() -> None:
        number = 0
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            number += 1
            threading.Thread(target=handle, args=(peer, number), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=10)


def saying(answer: bytes, *, close: bool = True) -> Talk:
    """The same answer to everything."""

    def talk(peer: socket.socket, _: int) -> None:
        peer.sendall(answer)
        if close:
            peer.shutdown(socket.SHUT_RDWR)
            peer.close()

    return talk


def test_one_connection_serves_many_questions() -> None:
    numbers: list[int] = []

    def talk(peer: socket.socket, number: int) -> None:
        numbers.append(number)
        peer.sendall(WHOLE)

    with serving(talk) as (url, asked), Chain(url + "/key?a=b") as chain:
        assert [chain.rpc("eth_chainId") for _ in range(3)] == ["0x7a69"] * 3
        assert numbers == [1, 1, 1]
        assert asked[0].startswith(b"POST /key?a=b HTTP/1.1\r\n")
        assert b"content-type: application/json" in asked[0].lower()
        assert asked[2].endswith(b'{"jsonrpc":"2.0","id":3,"method":"eth_chainId","params":[]}')


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again() -> None:
    gone = threading.Event()

    def talk(peer: socket.socket, number: int) -> None:
        peer.sendall(WHOLE)
        if number == 1:
            peer.shutdown(socket.SHUT_RDWR)
            peer.close()
            gone.set()

    with serving(talk) as (url, asked), Chain(url) as chain:
        chain.rpc("eth_chainId")
        assert gone.wait(10)
        assert chain.rpc("eth_chainId") == "0x7a69"
        assert len(asked) == 2  # and the question was asked once


def test_threads_do_not_read_each_others_answers() -> None:
    def talk(peer: socket.socket, _: int) -> None:
        peer.sendall(WHOLE)

    found: list[object] = []
    with serving(talk) as (url, asked), Chain(url) as chain:
        threads = [threading.Thread(target=lambda: found.append(chain.rpc("eth_chainId"))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=10)
        assert found == ["0x7a69"] * 8
        assert len(asked) == 8


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "closed"),
        (b"nonsense\r\n\r\n", "nonsense"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", "IncompleteRead"),
        (b"HTTP/1.1 200 OK\r\nX: " + 70_000 * b"a" + b"\r\n\r\n", "header"),
        (b"HTTP/1.1 200 OK\r\n" + 200 * b"X: a\r\n" + b"\r\n", "headers"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "HTTP 301"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "HTTP 500"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "no JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe", "no JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + 100_000 * b"[", "no JSON"),
    ],
)
def test_what_is_no_answer_is_said(answer: bytes, why: str) -> None:
    with serving(saying(answer)) as (url, _), Chain(url) as chain, pytest.raises(ChainUnavailableError, match=why):
        chain.rpc("eth_chainId")


def test_every_wait_has_an_end() -> None:
    with serving(lambda *_: None) as (url, asked), Chain(url, timeout_s=0.2) as chain:
        with pytest.raises(ChainUnavailableError, match="timed out"):
            chain.rpc("eth_chainId")
        assert len(asked) == 1


def slowly(answer: bytes, *, pause_s: float = 0.02) -> Talk:
    """The answer byte by byte: no part is long in coming."""

    def talk(peer: socket.socket, _: int) -> None:
        with suppress(OSError):
            for number in range(len(answer)):
                peer.sendall(answer[number : number + 1])
                time.sleep(pause_s)

    return talk


@pytest.mark.parametrize("begun", [0, len(WHOLE) - len(ANSWER) - 1])
def test_an_answer_that_drips_has_an_end_as_a_whole(begun: int) -> None:
    def talk(peer: socket.socket, number: int) -> None:
        peer.sendall(WHOLE[:begun])
        slowly(WHOLE[begun:])(peer, number)

    with (
        serving(talk) as (url, _),
        Chain(url, timeout_s=0.2) as chain,
        pytest.raises(ChainUnavailableError, match="timed out"),
    ):
        chain.rpc("eth_chainId")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + 2000 * b" ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + 20 * (b"64\r\n" + 100 * b" " + b"\r\n")
        + b"0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + 2000 * b" ",
    ],
)
def test_an_answer_has_a_largest_size(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ANSWER_BYTES_MAX", 1999)
    with serving(saying(answer)) as (url, _), Chain(url) as chain:
        with pytest.raises(ChainUnavailableError, match="more than 1999 bytes"):
            chain.rpc("eth_chainId")
        monkeypatch.setattr(answers, "ANSWER_BYTES_MAX", 2000)
        with pytest.raises(ChainUnavailableError, match="no JSON"):
            chain.rpc("eth_chainId")


def test_an_answer_in_chunks_leaves_the_connection_to_the_next() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(ANSWER), ANSWER)
    numbers: list[int] = []

    def talk(peer: socket.socket, number: int) -> None:
        numbers.append(number)
        peer.sendall(chunked)

    with serving(talk) as (url, _), Chain(url) as chain:
        assert [chain.rpc("eth_chainId") for _ in range(3)] == ["0x7a69"] * 3
    assert numbers == [1, 1, 1]


def test_what_a_whole_client_reads_has_the_same_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ANSWER_BYTES_MAX", 40)
    with (
        serving(saying(WHOLE)) as (url, _),
        Chain(url, transport=httpx.HTTPTransport()) as chain,
        pytest.raises(ChainUnavailableError, match="more than 40 bytes"),
    ):
        chain.rpc("eth_chainId")
    monkeypatch.undo()
    dripping = slowly(WHOLE[-len(ANSWER) :])

    def talk(peer: socket.socket, number: int) -> None:
        peer.sendall(WHOLE[: -len(ANSWER)])
        dripping(peer, number)

    with (
        serving(talk) as (url, _),
        Chain(url, timeout_s=0.2, transport=httpx.HTTPTransport()) as chain,
        pytest.raises(ChainUnavailableError, match="timed out"),
    ):
        chain.rpc("eth_chainId")


@pytest.mark.parametrize("answer", [b"<html>", 100_000 * b"[", b"\xff"])
def test_what_a_market_answers_beside_json_is_a_protocol_error(answer: bytes) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer)
    with serving(saying(whole, close=False)) as (url, _), MarketClient(url) as client:
        for ask in (client.offers, client.heads, lambda: client.round(1), lambda: client.log(1, 2), client.info):
            with pytest.raises(ProtocolError, match="no JSON"):
                ask()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    plain = PlainHttp.of(f"http://127.0.0.1:{port}", timeout_s=1)
    assert plain is not None
    with pytest.raises(PlainHttpError, match="refused"):
        plain.post_json(b"{}")


@pytest.mark.parametrize(
    "url",
    [
        "https://chain.test",
        "http://user:word@chain.test",
        "http://chain.test:0",
        "http://chain.test:99999",
        "http://链.test",
        "http://chain.test/a b",
        "http://chain.test/\r\nX: 1",
        "http://",
        "HTTP://chain.test",
        "not a url",
    ],
)
def test_what_needs_a_whole_client(url: str) -> None:
    assert PlainHttp.of(url, timeout_s=1) is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:8545", "http://[::1]:8545/", "http://chain.test", "http://a/b?c=d"])
def test_what_needs_none(url: str) -> None:
    assert PlainHttp.of(url, timeout_s=1) is not None
