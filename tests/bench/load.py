"""Load on an HTTP service: requests that were made before, over many kept connections, at little cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

ANSWER_S = 30.0


def request(path: str, body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def seconds(url: str, requests: Sequence[bytes], connections: int) -> float:
    """How long the service takes to answer all; RuntimeError at the first answer that is not 200."""
    return asyncio.run(_all(url, list(requests), connections))


async def _all(url: str, requests: list[bytes], connections: int) -> float:
    host, port = urlsplit(url).hostname, urlsplit(url).port
    opened = [await asyncio.open_connection(host, port) for _ in range(connections)]
    begun = time.perf_counter()
    await asyncio.gather(*(_one(reader, writer, requests) for reader, writer in opened))
    taken = time.perf_counter() - begun
    for _, writer in opened:
        writer.close()
    return taken


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: list[bytes]) -> None:
    while requests:
        writer.write(requests.pop())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_S)
        size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await asyncio.wait_for(reader.readexactly(size), ANSWER_S)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{head[:20]!r} {body[:200]!r}")
