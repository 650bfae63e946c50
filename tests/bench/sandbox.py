"""How long the sandbox takes to start and end `true`, beside bubblewrap alone with the same namespaces and mounts."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.peers.sandboxed import COMMAND
from bench.rows import Row, Target, beside, measured
from suanli_node.sandbox.bubblewrap import Bubblewrap, BubblewrapPrisoner
from suanli_node.sandbox.interface import Cell

RUNS = 40


def measure() -> Iterator[Row]:
    """Tier B."""
    box = Bubblewrap()
    box.require()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        cell = _cell(folder)
        own = [_ms(lambda: _run(box, cell)) for _ in range(RUNS + 3)][3:]
        started = [_until_begun(box, cell) for _ in range(RUNS)]
    bare = [_ms(_bare) for _ in range(RUNS + 3)][3:]
    spawned = [_ms(lambda: subprocess.run(["/bin/true"], check=True)) for _ in range(RUNS)]
    yield measured("tier B, until the job begins", "ms", started, target=Target("at most", goal=10),
                   note="namespaces, mounts, call filter, limits, control group; run as this user.")  # fmt: skip
    yield measured("tier B, `true` from start to reaped", "ms", own,
                   beside=(beside("bubblewrap alone", bare), beside("no sandbox", spawned)))  # fmt: skip


def _run(box: Bubblewrap, cell: Cell) -> None:
    _finish(box.start(cell))


def _until_begun(box: Bubblewrap, cell: Cell) -> float:
    begun = time.perf_counter()
    prisoner = box.start(cell)
    taken = (time.perf_counter() - begun) * 1000
    _finish(prisoner)
    return taken


def _finish(prisoner: BubblewrapPrisoner) -> None:
    for descriptor in (prisoner.stdout, prisoner.stderr):
        while os.read(descriptor, 65536):
            pass
        os.close(descriptor)
    assert prisoner.ending().exit_code == 0


def _bare() -> None:
    subprocess.run(COMMAND, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)


def _cell(folder: Path) -> Cell:
    for part in ("work", "in", "out", "environment"):
        (folder / part).mkdir()
    return Cell(
        name="be" * 32, argv=("/bin/true",), env={"PATH": "/usr/bin:/bin"}, work=folder / "work",
        inputs=folder / "in", out=folder / "out", environment=folder / "environment", cpus_milli=1000,
        memory_mib=256, scratch_mib=64, file_mib=64, processes=32,
    )  # fmt: skip


def _ms(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000
