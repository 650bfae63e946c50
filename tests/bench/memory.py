"""Memory of idle services: a market and a node that have settled, beside an idle Ray head."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil

from bench.inside import run_inside
from bench.peers.venv import peers_python
from bench.rows import Beside, Row, Target
from bench.street import a_street

REST_S = 8.0


def measure() -> Iterator[Row]:
    """Market and daemon by themselves; the node's engine is its own row."""
    with a_street() as street:
        time.sleep(REST_S)
        market, daemon = psutil.Process(street.market.pid), psutil.Process(street.node.process.pid)
        held = {"market": resident(market), "daemon": resident(daemon)}
        engine = sum(proportional(one) for one in daemon.children(recursive=True))
    ray: tuple[Beside, ...] = ()
    problem = ""
    try:
        found = run_inside("bench.peers.ray_cluster", "memory", python=str(peers_python()), limit_s=60)
        ray = (Beside("Ray head alone, with dashboard", found["mib"]),)
    except (RuntimeError, OSError) as error:
        problem = f"Ray's side was not measured: {error}"
    yield Row(
        "market, resident", "MiB", held["market"], beside=ray, target=Target("at most", 250, 150), problem=problem
    )
    yield Row("node without its engine, resident", "MiB", held["daemon"], beside=ray,
              target=Target("at most", 250, 120), problem=problem)  # fmt: skip
    yield Row("node's engine: Ray, agent, two warm workers", "MiB", engine, beside=ray,
              note="Shared pages are counted once, on both sides; the services' own figures count them in full.",
              problem=problem)  # fmt: skip


def resident(process: psutil.Process) -> float:
    """MiB, shared pages counted in full."""
    return float(process.memory_info().rss) / 2**20


def proportional(process: psutil.Process) -> float:
    """MiB, each shared page divided by those who share it."""
    try:
        return float(process.memory_full_info().pss) / 2**20
    except psutil.Error:
        return 0.0
