"""A Python of its own for what only the alternatives need: Ray with its dashboard, pinned by `peers.lock`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.run import KEPT, ROOT

LOCK = ROOT / "tests" / "bench" / "peers.lock"
VENV = KEPT / "peers"
LIMIT_S = 80.0


def peers_python() -> Path:
    """The interpreter; made the first time. RuntimeError if the packages cannot be had."""
    python, mark = VENV / "bin" / "python", VENV / "installed.lock"
    if mark.is_file() and mark.read_bytes() == LOCK.read_bytes():
        return python
    uv = [sys.executable, "-m", "uv"]
    try:
        _run([*uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV)])
        _run([*uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", str(LOCK)])
    except subprocess.SubprocessError as error:
        words = getattr(error, "stderr", "") or str(error)
        raise RuntimeError(f"Ray with its dashboard could not be installed: {words[-300:]}") from None
    mark.write_bytes(LOCK.read_bytes())
    return python


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
