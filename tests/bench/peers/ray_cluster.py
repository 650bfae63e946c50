"""Plain Ray, as its users run it: a head with dashboard, the Jobs SDK, a warm actor; needs `ray[default]`.

The command that they run is sandboxed by the job itself, for Ray has no sandbox.
"""

from __future__ import annotations

import logging
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shlex import join
from typing import Any

import ray
from ray.job_submission import JobStatus, JobSubmissionClient

from bench.peers.sandboxed import COMMAND

CPUS, ADDRESS, PORT = 2, "127.0.0.1", 8265
POLL_S, JOB_LIMIT_S = 0.01, 60.0
JOBS, RATE_JOBS, RATE_AT_ONCE = 7, 16, 8
CALLS, RATE_CALLS, IN_FLIGHT = 40, 600, 200
ENDED = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)


class Runner:
    """An actor that runs the sandboxed command."""

    def run(self) -> int:
        """The command's exit code."""
        return subprocess.run(
            COMMAND, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False
        ).returncode


def main(what: str) -> dict[str, Any]:
    """Measures `jobs` (SDK and actor, one after the other and many at once) or `memory` (of an idle head)."""
    logging.disable(logging.INFO)
    start()
    return jobs() if what == "jobs" else memory()


def start() -> None:
    """A head on `lo`, as a user would start it."""
    ray.init(
        num_cpus=CPUS, include_dashboard=True, dashboard_host=ADDRESS, dashboard_port=PORT, _node_ip_address=ADDRESS,
        _temp_dir="/run/ray", object_store_memory=80 * 2**20, log_to_driver=False, logging_level=logging.ERROR,
    )  # fmt: skip


def jobs() -> dict[str, list[float]]:
    """Seconds of each SDK job and actor call; rates of both."""
    client = JobSubmissionClient(f"http://{ADDRESS}:{PORT}")
    job(client)
    sdk = [job(client) for _ in range(JOBS)]
    begun = time.perf_counter()
    with ThreadPoolExecutor(RATE_AT_ONCE) as pool:
        list(pool.map(lambda _: job(client), range(RATE_JOBS)))
    sdk_rate = RATE_JOBS / (time.perf_counter() - begun)
    actors: list[Any] = [ray.remote(Runner).options(num_cpus=1).remote() for _ in range(CPUS)]
    for actor in actors:
        assert ray.get(actor.run.remote(), timeout=60) == 0
    single = [_timed(lambda: ray.get(actors[0].run.remote(), timeout=60)) for _ in range(CALLS)]
    return {"sdk": sdk, "sdk_rate": [sdk_rate], "actor": single, "actor_rate": [actor_rate(actors)]}


def job(client: JobSubmissionClient) -> float:
    """Seconds from submitting a job to seeing it succeed."""
    begun = time.perf_counter()
    name = client.submit_job(entrypoint=join(COMMAND))
    while (status := client.get_job_status(name)) not in ENDED:
        if time.perf_counter() - begun > JOB_LIMIT_S:
            raise TimeoutError(f"a Ray job is {status} after {JOB_LIMIT_S:.0f} s")
        time.sleep(POLL_S)
    if status != JobStatus.SUCCEEDED:
        raise RuntimeError(client.get_job_logs(name)[-300:])
    return time.perf_counter() - begun


def actor_rate(actors: list[Any]) -> float:
    """Calls a second with many in flight."""
    begun, waiting, done = time.perf_counter(), [], 0
    for number in range(RATE_CALLS):
        waiting.append(actors[number % len(actors)].run.remote())
        if len(waiting) >= IN_FLIGHT:
            finished, waiting = ray.wait(waiting, timeout=60)
            done += sum(code == 0 for code in ray.get(finished))
    done += sum(code == 0 for code in ray.get(waiting, timeout=120))
    assert done == RATE_CALLS
    return RATE_CALLS / (time.perf_counter() - begun)


def memory() -> dict[str, float]:
    """MiB of all processes of an idle head, shared pages counted once; this driver not counted."""
    time.sleep(8)
    own = {"1", "self", "thread-self"}
    total = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and folder.name not in own:
            try:
                rollup = (folder / "smaps_rollup").read_text()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return {"mib": total / 1024}


def _timed(call: Any) -> float:
    begun = time.perf_counter()
    assert call() == 0
    return time.perf_counter() - begun
