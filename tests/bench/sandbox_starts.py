"""Starts sandboxes and says how long each took, in milliseconds; run by `bench.inside`."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable

from bench.peers.sandboxed import COMMAND
from suanli_node.engine.namespace import ENVIRONMENTS, PYTHON, RUNS
from suanli_node.sandbox.bubblewrap import Bubblewrap, BubblewrapPrisoner
from suanli_node.sandbox.interface import Cell

RUNS_EACH, WARM = 40, 3


def main() -> dict[str, list[float]]:
    """Until the job begins, and until it is reaped; bubblewrap alone; a plain child."""
    box, cell = Bubblewrap(PYTHON), _cell()
    box.require()
    return {
        "begun": [_until_begun(box, cell) for _ in range(RUNS_EACH + WARM)][WARM:],
        "whole": _each(lambda: _finish(box.start(cell))),
        "bare": _each(lambda: _run(COMMAND)),
        "unconfined": _each(lambda: _run(["/bin/true"])),
    }


def _each(work: Callable[[], object]) -> list[float]:
    found = []
    for _ in range(RUNS_EACH + WARM):
        begun = time.perf_counter()
        work()
        found.append((time.perf_counter() - begun) * 1000)
    return found[WARM:]


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


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)


def _cell() -> Cell:
    environment = ENVIRONMENTS / "empty"
    folder = RUNS / "bench"
    for path in (environment, folder, folder / "work", folder / "in", folder / "out"):
        path.mkdir(mode=0o755)
    return Cell(
        name="bench", argv=("/bin/true",), env={"PATH": "/usr/bin:/bin"}, work=folder / "work",
        inputs=folder / "in", out=folder / "out", environment=environment, cpus_milli=1000,
        memory_mib=256, scratch_mib=64, file_mib=64, processes=32,
    )  # fmt: skip
