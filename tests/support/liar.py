"""A market that lies: a proxy before a real one, which alters what it says about leases."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

Lie = Callable[[str, Any], Any]  # path and JSON answer to what is told instead
_HOP = {"connection", "transfer-encoding", "content-length", "content-encoding", "keep-alive", "host"}


class LyingMarket:
    """Passes requests on and answers back; `lie` alters JSON answers to GET, and the leases that events bring."""

    def __init__(self, truth: str) -> None:
        self.truth = truth
        self.lie: Lie = lambda _, answer: answer
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator[LyingMarket]:
        """Answers while the context is open."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        market = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one(self) -> None:
                with suppress(httpx.HTTPError, OSError):
                    market.answer(self)

            do_GET = do_POST = do_PUT = handle_one  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request, passed on."""
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        with (
            httpx.Client(base_url=self.truth, timeout=40, trust_env=False) as client,
            client.stream(request.command, request.path, content=body, headers=headers) as response,
        ):
            request.send_response(response.status_code)
            for name, value in response.headers.items():
                if name.lower() not in _HOP:
                    request.send_header(name, value)
            request.send_header("Connection", "close")
            if "event-stream" in response.headers.get("content-type", ""):
                request.end_headers()
                for line in response.iter_lines():
                    request.wfile.write(f"{self._told(line)}\n".encode())
                    request.wfile.flush()
                return
            data = response.read()
            if request.command == "GET" and response.headers.get("content-type", "").startswith("application/json"):
                data = json.dumps(self.lie(request.path, json.loads(data))).encode()
            request.send_header("Content-Length", str(len(data)))
            request.end_headers()
            request.wfile.write(data)

    def _told(self, line: str) -> str:
        """A line of an event stream."""
        if not line.startswith("data:"):
            return line
        event = json.loads(line.removeprefix("data:"))
        if "view" in event["data"]:
            event["data"]["view"] = self.lie(f"/v1/leases/{event['lease']}", event["data"]["view"])
        return f"data: {json.dumps(event)}"
