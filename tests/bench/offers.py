"""Signed offers accepted a second: form and signature checked, logged, on the disk before the answer; over HTTP.

The same requests go to a market and to a textbook service. Whoever sends them shares the machine's cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.load import request, seconds
from bench.rows import Row, Target, beside, measured
from bench.street import a_market
from support.devnet import free_port, stop_process
from support.market import World, signed_offer

PROVIDERS, ROUND, ROUNDS = 4, 800, 5
CONNECTIONS = 64
TEXTBOOK_ROUND, TEXTBOOK_ROUNDS, TEXTBOOK_CONNECTIONS = 150, 4, 8
READY_S = 30.0


def measure() -> Iterator[Row]:
    """The market's rate beside the textbook's."""
    with a_market("--rate-per-key", "0", "--rate-per-address", "0") as (world, market):
        posts = offers(world, ROUND * (ROUNDS + 1))
        own = rates(market.url, posts, ROUND, CONNECTIONS)
        with textbook(world) as url:
            other = rates(url, posts[: TEXTBOOK_ROUND * (TEXTBOOK_ROUNDS + 1)], TEXTBOOK_ROUND, TEXTBOOK_CONNECTIONS)
    yield measured("offers accepted, verified and durable", "/s", own,
                   beside=(beside("FastAPI + eth-account + SQLModel, a commit each", other),),
                   target=Target("at least", 1_500, 5_000),
                   note=f"{CONNECTIONS} connections here, {TEXTBOOK_CONNECTIONS} there: more lock it up.")  # fmt: skip


def rates(url: str, posts: list[bytes], size: int, connections: int) -> list[float]:
    """Offers a second of each round of `size`, after one that warms up."""
    found = []
    for first in range(0, len(posts), size):
        part = posts[first : first + size]
        found.append(len(part) / seconds(url, part, connections))
    return found[1:]


def offers(world: World, count: int) -> list[bytes]:
    """Requests of several providers, each offer of its own."""
    providers = [world.party().signer for _ in range(PROVIDERS)]
    until = int(time.time()) + 3_000
    found = []
    for number in range(count):
        signed = signed_offer(world, providers[number % PROVIDERS], valid_until=until + number // PROVIDERS)
        found.append(request("/v1/offers", json.dumps(signed.to_json()).encode()))
    return found


@contextmanager
def textbook(world: World) -> Iterator[str]:
    """The textbook service, answering."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        words = [str(Path(name) / "offers.db"), str(port), str(world.escrow.domain.chain_id), world.escrow.address]
        process = subprocess.Popen([sys.executable, "-m", "bench.peers.textbook", *words], stdin=subprocess.DEVNULL)
        try:
            url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + READY_S
            while not _answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the textbook service did not start")
                time.sleep(0.1)
            yield url
        finally:
            stop_process(process)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/openapi.json", timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False
