"""Cold start: from a fresh interpreter to the end of the first sandboxed run; the node's engine beside bare Ray."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.inside import run_inside
from bench.rows import Row, Target, beside, measured
from bench.street import CPUS, MONEY, a_market
from support.node import a_node_home, start_node

ROUNDS, LIMIT_S = 2, 60.0


def measure() -> Iterator[Row]:
    """In turns, so that both meet the same machine; then a whole node."""
    bare, own = [], []
    parts: dict[str, float] = {}
    for _ in range(ROUNDS):
        bare.append(run_inside("bench.peers.ray_cold", limit_s=LIMIT_S)["all"])
        parts = _engine()
        own.append(parts["all"])
    note = "Of the last: " + ", ".join(f"{name} {parts[name]:.2f} s" for name in ("import", "init", "first")) + "."
    yield measured("engine: import, init, first run", "s", own, beside=(beside("bare ray.init + first task", bare),),
                   target=Target("at most", 2, 1.3, "ratio"), note=note)  # fmt: skip
    yield measured("`suanli-node up` until it sells", "s", [_node()])


def _engine() -> dict[str, float]:
    command = [sys.executable, "-m", "bench.engine_cold"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the engine did not start: {done.stderr[-300:]}")
    parts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return parts


def _node() -> float:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, a_market() as (world, market):
        home = a_node_home(world, Path(name) / "node", money=MONEY)
        try:
            begun = time.perf_counter()
            with start_node(home.command(market.url, "--cpus", CPUS, "--memory", "4GiB")):
                return time.perf_counter() - begun
        finally:
            home.ask("down", "--state", str(home.state))
