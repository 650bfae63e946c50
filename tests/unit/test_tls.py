"""Whom an https connection trusts, tried on a real server with a certificate of a private authority."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from suanli_protocol import tls
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


class Server(ThreadingHTTPServer):
    """Says nothing of clients that do not trust it."""

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return an_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def url(authority: Authority) -> Iterator[str]:
    server = Server(("127.0.0.1", 0), Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server_certificate, authority.server_key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


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
