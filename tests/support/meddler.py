"""A proxy that passes a market's answers on, and alters those that a test tells it to."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

PASSED = ("content-type", "suanli-signer", "suanli-at", "suanli-nonce", "suanli-signature")
Change = Callable[[bytes], bytes]


class Meddler:
    """Where the proxy listens, and what it lies about: requests `METHOD /target` that match, answers as changed."""

    def __init__(self, market: str) -> None:
        self.market = market
        self.url = ""
        self.lies = 0
        self._lie: tuple[re.Pattern[str], Change] | None = None
        self._shunned, self._refusal = b"", (0, b"")
        self._client = httpx.Client(timeout=60)  # one for all requests: making one takes longer than most answers

    def close(self) -> None:
        """Ends its connections."""
        self._client.close()

    @contextmanager
    def lying(self, pattern: str, change: Change) -> Iterator[None]:
        """Lies while the context is open."""
        self.lies = 0
        self._lie = (re.compile(pattern), change)
        try:
            yield
        finally:
            self._lie = None

    @contextmanager
    def refusing(self, shunned: bytes, status: int, answer: bytes) -> Iterator[None]:
        """Passes no request on whose body holds this, while the context is open, and answers it like this."""
        self._shunned, self._refusal = shunned, (status, answer)
        try:
            yield
        finally:
            self._shunned = b""

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        """The market's answer, or the lie: status, content type, body."""
        if target.startswith("/v1/events"):
            return 503, "application/json", b"{}"  # not streamed here: the client has to do without
        if self._shunned and self._shunned in body:
            return self._refusal[0], "application/json", self._refusal[1]
        answer = self._client.request(method, self.market + target, headers=headers, content=body)
        data, lie = answer.content, self._lie
        if lie is not None and answer.is_success and lie[0].search(f"{method} {target.partition('?')[0]}"):
            try:
                data = lie[1](data)
                self.lies += 1
            except (KeyError, IndexError, TypeError):
                pass  # the member is not there yet
        return answer.status_code, answer.headers.get("content-type", ""), data


@contextmanager
def start_meddler(market: str) -> Iterator[Meddler]:
    """Runs the proxy on a free loopback port while the context is open."""
    meddler = Meddler(market)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name: self.headers[name] for name in PASSED if name in self.headers}
            status, kind, data = meddler.answer(self.command, self.path, headers, body)
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _pass  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    meddler.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield meddler
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
        meddler.close()
