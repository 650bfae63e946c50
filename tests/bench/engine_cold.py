"""The node's engine from nothing to the end of its first run; prints its seconds as JSON. Run as a fresh process."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path


def main() -> dict[str, float]:
    """Seconds of import, init and first run."""
    begun = time.perf_counter()
    from suanli_node.engine.executor import Executor, HostCapacity
    from suanli_node.engine.runs import RunSpec

    imported = time.perf_counter()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        executor = Executor.start_or_attach(Path(name) / "state", HostCapacity(2000, 2048))
        try:
            started = time.perf_counter()
            executor.start(RunSpec("cold", shell="true", memory_mib=256, disk_mib=64))
            status = executor.wait("cold", 60)
            ended = time.perf_counter()
            assert status.reason == "ok", status
        finally:
            executor.shutdown()
    return {"import": imported - begun, "init": started - imported, "first": ended - started, "all": ended - begun}


if __name__ == "__main__":
    print(json.dumps(main()))
