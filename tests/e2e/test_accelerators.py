"""Leased accelerators: Ray gives each run its own, and its sandbox has the device nodes of those alone.

Ordinary device nodes stand for the accelerators; what a driver does behind them needs a machine that has one.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from suanli_node.engine.devices import Devices
from suanli_node.engine.executor import Executor, HostCapacity
from suanli_node.engine.runs import RunPhase, RunSpec, RunStatus
from suanli_node.sandbox.bubblewrap import is_true_root

pytestmark = pytest.mark.skipif(not is_true_root(), reason="only root can make device nodes")

ZERO = os.makedev(1, 5)
LOOK = (
    "for path in {paths}; do test -c $path && head -c 4 $path | od -An -tx1; done; "
    "ls {folder} 2>/dev/null; ulimit -v; echo x > {folder}/mine || true"
)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Like /dev, each user may pass it: the sandbox is built by the run's own."""
    with tempfile.TemporaryDirectory(prefix="suanli-devices-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for node in ("one", "two", "control"):
            os.mknod(folder / node, stat.S_IFCHR | 0o666, ZERO)
            (folder / node).chmod(0o666)
        yield folder


@pytest.fixture(scope="module")
def executor(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    devices = Devices((str(folder / "one"), str(folder / "two")), (str(folder / "control"),))
    state = tmp_path_factory.mktemp("node") / "state"
    executor = Executor.start_or_attach(state, HostCapacity(2000, 2048, devices))
    yield executor
    executor.shutdown()


def run(executor: Executor, lease: str, shell: str, accelerators: int, **fields: int) -> None:
    executor.start(RunSpec(lease, shell=shell, accelerators=accelerators, memory_mib=256, cpus_milli=500, **fields))


def finished(executor: Executor, lease: str) -> tuple[RunStatus, str]:
    status = executor.wait(lease, 60)
    entries, _ = executor.read_log(lease, 0)
    return status, b"".join(entry.data for entry in entries).decode()


def look(folder: Path) -> str:
    paths = " ".join(str(folder / name) for name in ("one", "two", "control"))
    return LOOK.format(paths=paths, folder=folder)


def test_without_a_leased_one_no_node_is_there(executor: Executor, folder: Path) -> None:
    run(executor, "none", look(folder), 0)
    status, said = finished(executor, "none")
    assert status.phase is RunPhase.EXITED
    assert "00 00 00 00" not in said
    assert "unlimited" not in said


def test_two_runs_at_one_time_have_one_each(executor: Executor, folder: Path) -> None:
    for lease in ("left", "right"):
        run(executor, lease, look(folder) + "; sleep 3", 1)
    seen = []
    for lease in ("left", "right"):
        status, said = finished(executor, lease)
        assert status.exit_code == 0, said
        assert said.count("00 00 00 00") == 2
        assert "unlimited" in said
        assert "control" in said.split()
        seen += [name for name in ("one", "two") if name in said.split()]
    assert sorted(seen) == ["one", "two"]


def test_both_can_be_leased_together(executor: Executor, folder: Path) -> None:
    run(executor, "both", look(folder), 2)
    _, said = finished(executor, "both")
    assert said.count("00 00 00 00") == 3


def test_more_than_there_are_is_never_placed(executor: Executor) -> None:
    run(executor, "many", "true", 3, start_seconds=2)
    status, _ = finished(executor, "many")
    assert status.phase is RunPhase.LOST
    assert "did not place" in status.detail
