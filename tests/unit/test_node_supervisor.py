"""The supervisor: a run ends with a verdict and what it used, whatever the job or the machine does meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from suanli_node.engine import supervisor
from suanli_node.engine.runlog import Source, read_log
from suanli_node.engine.runs import RunFolder, RunPhase, RunSpec, RunStatus
from suanli_node.sandbox.disk import DiskUsage
from suanli_node.sandbox.interface import Cell, Ending
from suanli_node.sandbox.process_tree import TreeUsage, measure, peak_bytes, signal_all

NAMED = """
import ctypes, os, sys, time
ctypes.CDLL(None).prctl(15, {name!r}, 0, 0, 0)
print("named", flush=True)
time.sleep({seconds})
"""
RUDE = b"\xff\xfe)\n(x"  # no text in any encoding, and what a parser might take for the end of a name


def program(name: bytes, seconds: float) -> tuple[str, ...]:
    """A job that calls itself so."""
    return (sys.executable, "-c", NAMED.format(name=name, seconds=seconds))


@dataclass
class Bare:
    """A job without a sandbox, of which everything else is real."""

    process: subprocess.Popen[bytes]
    killed: int = 0
    stdout: int = field(init=False)
    stderr: int = field(init=False)
    done: int = field(init=False)

    def __post_init__(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout, self.stderr = os.dup(self.process.stdout.fileno()), os.dup(self.process.stderr.fileno())
        self.done = os.pidfd_open(self.process.pid)

    def usage(self) -> TreeUsage:
        return measure(self.process.pid)

    def scratch(self) -> DiskUsage:
        return DiskUsage()

    def out_of_processes(self) -> bool:
        return False

    def out_of_memory(self) -> bool:
        return False

    def send(self, number: signal.Signals) -> None:
        signal_all(self.usage().pids, number)

    def kill(self) -> None:
        self.killed += 1
        self.process.kill()

    def ending(self) -> Ending:
        code = self.process.wait()
        os.close(self.done)
        return Ending(code if code >= 0 else 128 - code, 10, False, False)


@dataclass
class NoSandbox:
    """Starts jobs as they are."""

    tier: str = "D"
    prisoner: Bare | None = None

    def require(self) -> None:
        """Nothing is needed."""

    def start(self, cell: Cell) -> Bare:
        self.prisoner = Bare(subprocess.Popen(cell.argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return self.prisoner


def supervised(folder: RunFolder, spec: RunSpec) -> tuple[RunStatus, str, Bare]:
    """The final status of a run, its log, and its job."""
    folder.create()
    folder.write_status(RunStatus(spec.lease_id))
    folder.write_spec(spec)
    sandbox = NoSandbox()
    supervisor.supervise(folder, folder.path, sandbox, lambda: None)
    entries, _ = read_log(folder.log, 0)
    assert sandbox.prisoner is not None
    return folder.status(), b"".join(entry.data for entry in entries).decode(errors="replace"), sandbox.prisoner


def test_a_process_may_call_itself_anything_and_is_measured() -> None:
    with subprocess.Popen(program(RUDE, 30), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert RUDE in Path(f"/proc/{process.pid}/stat").read_bytes()
            tree = measure(process.pid)
            assert (tree.pids, tree.threads) == ((process.pid,), 1)
            assert peak_bytes(tree.pids) >= tree.resident_bytes > 0
        finally:
            process.kill()


def test_a_job_with_such_a_name_ends_as_any_other(tmp_path: Path) -> None:
    spec = RunSpec("lease", argv=program(RUDE, 0.5))
    status, said, _ = supervised(RunFolder(tmp_path / "lease"), spec)
    assert (status.phase, status.reason, status.exit_code) == (RunPhase.EXITED, "ok", 0), said
    assert status.usage.samples > 1


def test_a_supervisor_that_fails_kills_the_job_and_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that is full: the run has an end with a cause, and keeps what was measured until then."""

    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(supervisor, "deleted_file_bytes", fail)
    folder = RunFolder(tmp_path / "lease")
    status, said, prisoner = supervised(folder, RunSpec("lease", argv=program(b"job", 60)))
    assert (status.phase, status.reason) == (RunPhase.EXITED, "sandbox_failed")
    assert "No space left" in status.detail
    assert "No space left" in said
    assert status.started_at is not None
    assert status.usage.samples >= 1
    assert prisoner.killed
    assert prisoner.process.returncode == -signal.SIGKILL
    assert read_log(folder.log, 0)[0][-1].source is Source.NODE
