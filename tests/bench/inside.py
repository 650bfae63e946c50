"""Runs a measuring program in namespaces like the Ray host's: no network but `lo`, own processes, /run and /dev/shm.

Called as a module it is the first process of such namespaces; what it prints last is JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from suanli_node.engine.executor import namespaces

SOURCES = Path(__file__).absolute().parents[2]
ROOTS = ("tests", "node", "contracts")


def run_inside(module: str, *words: str, python: str = sys.executable, limit_s: float = 120.0) -> Any:
    """What the module's program printed as JSON; RuntimeError with its last words if it failed or took too long."""
    own = {"PATH": f"{Path(python).parent}:{os.defpath}:/usr/sbin:/sbin", "LANG": "C.UTF-8"}
    own["PYTHONPATH"] = ":".join(str(SOURCES / root) for root in ROOTS)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        command = [*namespaces(), python, "-m", "bench.peers.first_process", folder, module, *words]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own
        )
        try:
            out, err = process.communicate(timeout=limit_s)
        except BaseException as error:
            process.kill()  # --kill-child: everything in the namespaces ends with it
            process.wait(timeout=10)
            if isinstance(error, subprocess.TimeoutExpired):
                raise RuntimeError(f"{module} took more than {limit_s:.0f} s") from None
            raise
    if process.returncode != 0:
        raise RuntimeError(f"{module} ended with {process.returncode}: {err.strip()[-400:]}")
    return json.loads(out.strip().splitlines()[-1])
