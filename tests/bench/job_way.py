"""A job's way: submitted, matched, escrowed, run in a sandbox, billed, settled on chain; beside plain Ray.

One after the other through the client library, then two hundred in flight. The command is `true` in a sandbox on all
sides. Ray runs in namespaces of its own with one loopback, as the node's engine does.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.crowd import COMMAND, Crowd
from bench.inside import run_inside
from bench.peers.venv import peers_python
from bench.rows import Beside, Row, Target, beside, measured
from bench.street import Street, a_street
from suanli.client import Client
from suanli.jobs.job import Job
from suanli.jobs.store import Store

JOBS, WARM, JOB_LIMIT_S, WINDOW = 20, 3, 30, 600
IN_FLIGHT, WARM_S, RATE_S = 200, 10.0, 24.0
RAY_LIMIT_S = 110.0
SDK, ACTOR = "Ray Jobs SDK", "warm Ray actor"
SINGLE, RATE = "submit → settled, one at a time", f"jobs settled a second, {IN_FLIGHT} in flight"


def measure() -> Iterator[Row]:
    """Our side first, then Ray's alone, then the rows."""
    with a_street() as street:
        quotes, ways = one_by_one(street)
        times = rate(street)
    ray, why = {}, ""
    try:
        ray = run_inside("bench.peers.ray_cluster", "jobs", python=str(peers_python()), limit_s=RAY_LIMIT_S)
    except (RuntimeError, OSError) as error:
        why = f"Ray's side was not measured: {error}"
    yield from single_rows(quotes, ways, ray, why)
    yield from rate_rows(times, ray, why)


def one_by_one(street: Street) -> tuple[list[float], list[float]]:
    """Seconds of each quote, and of each job from submitting its plan to seeing it settled."""
    quotes, ways = [], []
    party, world = street.party(), street.world
    with tempfile.TemporaryDirectory() as name, Client(
        market=street.market.url, chain=world.url, escrow=world.escrow.address, signer=party.signer,
        store=Store(Path(name)),
    ) as client:  # fmt: skip
        for _ in range(JOBS + WARM):
            job = Job.from_command(list(COMMAND), cpus="0.5", memory="128MiB", disk="64MiB", timeout=60)
            begun = time.perf_counter()
            plan = client.quote(job, window=WINDOW)
            quoted = time.perf_counter()
            record = client.submit(plan).wait(timeout=JOB_LIMIT_S)
            assert (record.phase, record.reason) == ("settled", "ok"), (record.phase, record.reason, record.detail)
            quotes.append(quoted - begun)
            ways.append(time.perf_counter() - quoted)
    return quotes[WARM:], ways[WARM:]


def rate(street: Street) -> list[float]:
    """Settled jobs in each second of the window, after the crowd is warm."""
    crowd = Crowd(street, IN_FLIGHT)
    begun = time.monotonic()
    crowd.run(WARM_S + RATE_S)
    if crowd.failures:
        logging.warning("%d steps failed, the first: %s", len(crowd.failures), crowd.failures[0])
    first = begun + WARM_S
    seconds = [sum(first + n <= at < first + n + 1 for at in crowd.settled) for n in range(int(RATE_S))]
    if not sum(seconds):
        raise RuntimeError(f"no job was settled: {crowd.failures[:3]}")
    return [float(count) for count in seconds]


def single_rows(quotes: list[float], ways: list[float], ray: dict[str, list[float]], why: str) -> Iterator[Row]:
    """Against the SDK, and against a warm actor."""
    note = f"A quote before it takes {sorted(quotes)[len(quotes) // 2] * 1000:.0f} ms more."
    sdk = (beside(SDK, _ms(ray["sdk"])),) if ray else ()
    actor = (beside(ACTOR, _ms(ray["actor"])),) if ray else ()
    yield measured(SINGLE, "ms", _ms(ways), beside=sdk, target=Target("at most", 0.25, 0.05, "ratio"),
                   note=note, problem=why)  # fmt: skip
    yield measured(f"{SINGLE}, beside the bare run", "ms", _ms(ways), beside=actor,
                   target=Target("at most", goal=2, of="ratio"), problem=why)  # fmt: skip


def rate_rows(times: list[float], ray: dict[str, list[float]], why: str) -> Iterator[Row]:
    """Against the SDK, and against warm actors, one a core."""
    mean = sum(times) / len(times)
    values = measured(RATE, "jobs/s", times)
    sdk = (Beside(SDK, ray["sdk_rate"][0]),) if ray else ()
    actors = (Beside("two warm Ray actors", ray["actor_rate"][0]),) if ray else ()
    yield Row(RATE, "jobs/s", mean, values.spread, sdk, Target("at least", 10, of="ratio"),
              note="The mean over the window; its spread is that of the seconds. The consumer's work is on the same "
              "cores. A job asks for a quarter of a core, so eight run at once. Ray Jobs has eight in flight: two "
              "hundred supervisors would not fit into memory.",
              problem=why)  # fmt: skip
    yield Row(f"{RATE}, beside the bare run", "jobs/s", mean, values.spread, actors,
              Target("at least", goal=0.5, of="ratio"), problem=why)  # fmt: skip


def _ms(seconds: list[float]) -> list[float]:
    return [1000 * value for value in seconds]
