"""A chain endpoint that lies: a proxy that alters the answers of an honest one on their way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx


class Doctored:
    """A chain endpoint that alters answers on their way."""

    def __init__(self, url: str) -> None:
        self.alter: Callable[[str, Any], Any] = lambda _, result: result
        outer, client = self, httpx.Client(trust_env=False)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = client.post(url, content=body, headers={"Content-Type": "application/json"}).json()
                if "result" in answer:
                    answer["result"] = outer.alter(json.loads(body)["method"], answer["result"])
                data = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()


def flip(text: str, word: int) -> str:
    """0x-hex with the last bit of one of its 32-byte words flipped."""
    end = 2 + 64 * (word + 1)
    return text[: end - 1] + f"{int(text[end - 1], 16) ^ 1:x}" + text[end:]
