"""How long bare Ray takes from a fresh interpreter to the end of its first task."""

from __future__ import annotations

import subprocess
import time


def main() -> dict[str, float]:
    """Seconds of import, init and first task, which runs the sandboxed command."""
    begun = time.perf_counter()
    import ray

    from bench.peers.sandboxed import COMMAND

    imported = time.perf_counter()
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", _temp_dir="/run/ray",
             object_store_memory=80 * 2**20, log_to_driver=False)  # fmt: skip
    started = time.perf_counter()

    def first() -> int:
        return subprocess.run(
            COMMAND, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False
        ).returncode

    assert ray.get(ray.remote(first).remote(), timeout=60) == 0
    ended = time.perf_counter()
    return {"import": imported - begun, "init": started - imported, "first": ended - started, "all": ended - begun}
