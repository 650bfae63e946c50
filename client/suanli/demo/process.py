"""Programs of the demo that outlive the command that started them: each in a session of its own, with a log file.

A process is known by its id and its start time together, so that a stranger who got a reused id is never touched.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from suanli.files import private_dir, write_json
from suanli_protocol.errors import ConfigurationError, TimedOutError

READY = "ready "
TAIL_LINES = 12
POLL_S = 0.05
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_RUNTIME_DIR")


@dataclass(frozen=True)
class ProcessRecord:
    """What is written down of a started program."""

    name: str
    pid: int
    started: int  # clock ticks after boot, as the kernel says
    command: list[str]

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """When the process began, in clock ticks after boot; None if there is none (a zombie counts as none)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    after_name = text.rpartition(")")[2].split()
    return None if after_name[0] in ("Z", "X") else int(after_name[19])


class ProcessTable:
    """The demo's programs: records in `<folder>/run`, logs in `<folder>/logs`."""

    def __init__(self, folder: Path) -> None:
        self._records = folder / "run"
        self._logs = folder / "logs"

    def log(self, name: str) -> Path:
        """The log file of a program."""
        return self._logs / f"{name}.log"

    def find(self, name: str) -> ProcessRecord | None:
        """What is written down of a program, alive or not."""
        try:
            return ProcessRecord(**json.loads((self._records / f"{name}.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def alive(self, name: str) -> ProcessRecord | None:
        """The program, if it runs."""
        record = self.find(name)
        return record if record and record.is_alive else None

    def start(self, name: str, command: list[str], *, cwd: Path | None = None) -> ProcessRecord:
        """Starts a program in a session of its own; it keeps only the harmless part of the environment."""
        private_dir(self._logs)
        private_dir(self._records)
        environment = {key: os.environ[key] for key in _KEPT if key in os.environ} | {"PYTHONUNBUFFERED": "1"}
        environment |= {key: value for key, value in os.environ.items() if key.startswith("UV_")}
        with self.log(name).open("wb") as log:
            log.write(f"$ {shlex.join(command)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd or self._logs.parent,
                env=environment,
                start_new_session=True,
            )
        record = ProcessRecord(name, process.pid, start_time(process.pid) or 0, command)
        write_json(self._records / f"{name}.json", asdict(record))
        return record

    def forget(self, name: str) -> None:
        """Strikes a program off."""
        (self._records / f"{name}.json").unlink(missing_ok=True)

    def wait(self, record: ProcessRecord, what: str, ready: Callable[[], Any], timeout_s: float) -> Any:
        """What `ready` returns once it is not None; an error with the log's end if the program dies or is late."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = ready()
            if found is not None:
                return found
            _reap(record.pid)
            if not record.is_alive:
                raise ConfigurationError(
                    f"{what} ended before it was ready; the last lines of its log:\n{self.tail(record.name)}",
                    hint=f"the whole log: {self.log(record.name)}",
                    code="demo_died",
                )
            time.sleep(POLL_S)
        raise TimedOutError(
            f"{what} was not ready after {timeout_s:g} s; the last lines of its log:\n{self.tail(record.name)}",
            hint=f"the whole log: {self.log(record.name)}; `suanli demo up` tries again",
        )

    def ready_line(self, name: str) -> dict[str, Any] | None:
        """The JSON of the program's `ready {…}` line, or None as long as there is none."""
        for line in self._lines(name):
            if line.startswith(READY):
                try:
                    value = json.loads(line.removeprefix(READY))
                except ValueError:
                    continue
                return value if isinstance(value, dict) else None
        return None

    def tail(self, name: str) -> str:
        """The last lines of a program's log, indented."""
        return "\n".join(f"    {line}" for line in self._lines(name)[-TAIL_LINES:])

    def _lines(self, name: str) -> list[str]:
        try:
            return self.log(name).read_text(errors="replace").splitlines()
        except OSError:
            return []

    def stop(self, name: str, timeout_s: float = 20.0) -> bool:
        """Ends a program: SIGTERM, then SIGKILL to its session. Returns whether one was running."""
        record = self.find(name)
        if record is None or not record.is_alive:
            self.forget(name)
            return False
        _signal(record, signal.SIGTERM)
        if not _gone(record, timeout_s):
            _kill_session(record)
            _gone(record, 5.0)
        self.forget(name)
        return True


def _signal(record: ProcessRecord, number: signal.Signals) -> None:
    if record.is_alive:
        try:
            os.kill(record.pid, number)
        except ProcessLookupError:
            return


def _kill_session(record: ProcessRecord) -> None:
    """SIGKILL to the group that the program leads; only while the leader is there, so that the id is surely ours."""
    if record.is_alive:
        try:
            os.killpg(record.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _gone(record: ProcessRecord, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while record.is_alive:
        if time.monotonic() > deadline:
            return False
        _reap(record.pid)
        time.sleep(POLL_S)
    return True


def _reap(pid: int) -> None:
    """Takes leave of a child of this very command, if it is one."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
