"""Whom an https connection trusts, tried on a real server with a certificate of a private authority."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from suanli_protocol import market_client, tls
from suanli_protocol.chain import Chain
from suanli_protocol.errors import ChainUnavailableError, ConfigurationError, MarketError, UnreachableError
from suanli_protocol.market_client import MarketClient
from support.authority import Authority, an_authority


class Answers(BaseHTTPRequestHandler):
    """Answers a chain's question, and as a market with 404."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b'{"jsonrpc": "2.0", "id": 1, "result": "0x7a69"}')

    def do_GET(self) -> None:
        self._answer(404, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Drips(BaseHTTPRequestHandler):
    """Sends the head, or the framing, of an answer that never ends: a byte at a time, each a record of its own."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        if self.path == "/body":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
        else:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        with suppress(OSError):  # the client left
            while not self.server.is_over.wait(0.02):  # type: ignore[attr-defined]
                self.wfile.write(b"a")

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Says nothing of clients that do not trust it."""

    is_over: threading.Event

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return an_authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def serving(authority: Authority, handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server over https."""
    server = Server(("127.0.0.1", 0), handler)
    server.is_over = threading.Event()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server_certificate, authority.server_key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.is_over.set()
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


@pytest.fixture(scope="module")
def url(authority: Authority) -> Iterator[str]:
    with serving(authority, Answers) as found:
        yield found


@pytest.fixture(scope="module")
def dripping(authority: Authority) -> Iterator[str]:
    with serving(authority, Drips) as found:
        yield found


def test_the_named_authority_is_trusted(url: str, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tls.VARIABLE, str(authority.certificate))
    with Chain(url) as chain:
        assert chain.chain_id() == 31337
    with MarketClient(url) as market, pytest.raises(MarketError, match="HTTP 404"):
        market.info()


def test_an_authority_that_nobody_named_is_not(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tls.VARIABLE, raising=False)
    with Chain(url) as chain, pytest.raises(ChainUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        chain.chain_id()
    with MarketClient(url) as market, pytest.raises(UnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
        market.info()


def test_the_named_authority_stands_alone(authority: Authority) -> None:
    trusted = tls.authorities(authority.certificate).get_ca_certs()
    assert [dict(part[0] for part in found["subject"])["commonName"] for found in trusted] == ["a test's authority"]


@pytest.mark.parametrize(
    ("content", "why"), [(None, "does not exist"), (b"no certificate", "holds no certificate"), (b"", "holds no")]
)
def test_a_file_that_names_nobody_is_named(
    content: bytes | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    monkeypatch.setenv(tls.VARIABLE, str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigurationError, match=why) as caught:
        MarketClient("https://127.0.0.1:1")
    assert tls.VARIABLE in caught.value.hint


def test_an_answer_that_drips_ends(dripping: str, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part comes in time, and the whole never."""
    monkeypatch.setenv(tls.VARIABLE, str(authority.certificate))
    for place in ("", "/body"):
        with Chain(dripping + place, timeout_s=0.5) as chain, pytest.raises(ChainUnavailableError, match="timed out"):
            chain.chain_id()
    monkeypatch.setattr(market_client, "REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr(MarketClient, "_headers", lambda *_: {})
    with MarketClient(dripping) as market:
        calls = (market.info, lambda: list(market.get_blob(bytes(32), "job")), lambda: list(market.events()))
        for call in calls:
            with pytest.raises(UnreachableError, match="timed out"):
                call()


def test_a_connection_is_used_again_after_that(
    url: str, dripping: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(tls.VARIABLE, str(authority.certificate))
    with Chain(url, timeout_s=0.5) as chain, Chain(dripping, timeout_s=0.5) as slow:
        for _ in range(3):
            assert chain.rpc("eth_chainId") == "0x7a69"
            with pytest.raises(ChainUnavailableError, match="timed out"):
                slow.rpc("eth_chainId")
