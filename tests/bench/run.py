"""One subject in a process of its own: limited in time, and nothing that it started outlives it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.machine import machine, versions
from bench.rows import Result, Row, missing
from bench.subjects import Subject

ROOT = Path(__file__).absolute().parents[2]
KEPT = ROOT / ".cache" / "bench"
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 25.0  # for a process that was told to end to end what it started


def run(subject: Subject) -> Result:
    """Measures; what fails is a row that says why."""
    begun = time.monotonic()
    rows = _rows(subject)
    return Result(
        subject.name,
        subject.title,
        rows,
        at=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        seconds=round(time.monotonic() - begun, 1),
        command=f"make bench ONLY={subject.name}",
        machine=machine(),
        versions=versions(),
    )


def _rows(subject: Subject) -> tuple[Row, ...]:
    before = _descendants()
    with _adopting_orphans(), tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)  # users of sandboxes pass through
        out = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "bench.subject", subject.module, str(out)]
        own = {name: value for name, value in os.environ.items() if not name.startswith("SUANLI_")}
        own |= {"TMPDIR": folder} | {name: os.environ[name] for name in ("SUANLI_TRACE",) if name in os.environ}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=ROOT / "tests", env=own)
        try:
            why = _ended(process, subject.limit_s)
        finally:
            _end(_descendants() - before)
        rows = [Row.from_json(row) for row in json.loads(out.read_text())] if out.is_file() else []
    return tuple(rows) if not why else (*rows, missing(f"{subject.title}: the rest", "", why))


def _ended(process: subprocess.Popen[bytes], limit_s: float) -> str:
    """Waits for the end; why the subject is not whole, or nothing."""
    try:
        status = process.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_S)
        return f"it took more than {limit_s:.0f} s"
    return "" if status == 0 else f"the measuring process ended with {status}"


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Whatever loses its parent below us becomes our child meanwhile, so that it can be found and ended."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _descendants() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def _end(left: set[psutil.Process]) -> None:
    """Kills and reaps what the subject left behind."""
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(left, timeout=10)
