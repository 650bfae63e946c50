"""The executor: what the node's daemon holds of the Ray host. Synchronous, safe for threads, every wait limited.

Status and log are read from the run's folder, so that they can be had whatever lives; the rest goes to the host.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from suanli_node.engine.devices import NO_DEVICES, Devices
from suanli_node.engine.environment import EnvironmentStore
from suanli_node.engine.host_link import HostLink
from suanli_node.engine.namespace import StateFolder
from suanli_node.engine.runlog import LogEntry, read_log
from suanli_node.engine.runs import RunFolder, RunSpec, RunStatus, lost, write_json
from suanli_node.sandbox.bubblewrap import Bubblewrap, is_true_root
from suanli_node.sandbox.cgroup import discard, settle
from suanli_protocol import faults
from suanli_protocol.errors import ConfigurationError, ExecutionError, NotFoundError, SuanliError, TimedOutError

START_TIMEOUT_S = 90.0
CALL_TIMEOUT_S = 25.0
ASKED_AGAIN_S = 2.0
SHUTDOWN_TIMEOUT_S = 15.0
DYING_S = 2.0  # a host that refuses calls is given so long to be gone


@dataclass(frozen=True)
class HostCapacity:
    """What the host may give to runs at one time."""

    cpus_milli: int
    memory_mib: int
    devices: Devices = NO_DEVICES


class Executor:
    """Starts, watches and stops runs on this node."""

    def __init__(self, state: StateFolder) -> None:
        self.state = state
        self._link = HostLink(state.socket)

    @classmethod
    def start_or_attach(
        cls, state: Path, capacity: HostCapacity, *, mask: tuple[Path, ...] = (), timeout_s: float = START_TIMEOUT_S
    ) -> Self:
        """An executor of the state folder's host, started if none lives. `mask`: what it may not read."""
        Bubblewrap().require()
        executor = cls(StateFolder(state.resolve()))
        executor.state.create()
        EnvironmentStore(executor.state.environments).empty()
        executor._bring_up(capacity, mask, timeout_s)
        return executor

    def folder(self, lease_id: str) -> RunFolder:
        """The run's folder, made if need be: put the bundle into `.work` and `.inputs` before `start`."""
        folder = RunFolder.under(self.state.runs, lease_id)
        folder.create()
        return folder

    def start(self, spec: RunSpec) -> None:
        """Start a run; the same lease a second time changes nothing."""
        self.folder(spec.lease_id)
        faults.reach("node.run.asked")
        self._link.call("start", CALL_TIMEOUT_S, spec=spec.to_json())

    def status(self, lease_id: str) -> RunStatus:
        """What is known of a run now; NotFoundError if it was never started."""
        status = RunFolder.under(self.state.runs, lease_id).status()
        if not status.final and not self.host_lives():
            return lost(status, "the node's Ray host ended under the run")
        return status

    def wait_change(self, seen: RunStatus, timeout_s: float) -> RunStatus:
        """The status once phase or log differ from what was seen, or after the timeout."""
        known = {"lease_id": seen.lease_id, "phase": seen.phase.value, "log_size": seen.log_size}
        try:
            answer = self._link.call("wait", timeout_s + CALL_TIMEOUT_S, **known, timeout_s=timeout_s)
        except ExecutionError:
            if not self._gone_within(DYING_S):
                raise
            return self.status(seen.lease_id)
        return RunStatus.from_json(answer)

    def wait(self, lease_id: str, timeout_s: float) -> RunStatus:
        """The status once it is final, or after the timeout."""
        deadline = time.monotonic() + timeout_s
        status = self.status(lease_id)
        while not status.final and (left := deadline - time.monotonic()) > 0:
            status = self.wait_change(status, left)
        return status

    def read_log(self, lease_id: str, offset: int) -> tuple[list[LogEntry], int]:
        """Log entries from an offset, and the offset to go on from; empty at the log's present end."""
        return read_log(RunFolder.under(self.state.runs, lease_id).log, offset)

    def stop(self, lease_id: str, reason: str) -> None:
        """Ask a run to stop: SIGTERM at once, SIGKILL after the grace."""
        self._link.call("stop", CALL_TIMEOUT_S, lease_id=lease_id, reason=reason)

    def forget(self, lease_id: str) -> None:
        """Remove a final run's files; ExecutionError while it lives."""
        with suppress(NotFoundError):
            if not self.status(lease_id).final:
                raise ExecutionError(f"run {lease_id} is not over", hint="stop it first")
        RunFolder.under(self.state.runs, lease_id).remove()

    def runs(self) -> list[RunStatus]:
        """All runs that were started here and not forgotten."""
        return [self.status(folder.path.name) for folder in self._started()]

    def health(self, *, probe: bool = False) -> dict[str, Any]:
        """Facts of the host; ExecutionError if it does not answer. `probe` also sends a task through Ray."""
        answer = self._link.call("health", 2 * CALL_TIMEOUT_S, probe=probe)
        return dict(answer)

    def host_lives(self) -> bool:
        """False only if the host's namespaces are gone, and with them everything that ran there."""
        if not self.state.lock.exists():
            return False
        with self.state.lock.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def shutdown(self, timeout_s: float = SHUTDOWN_TIMEOUT_S) -> None:
        """End the host and everything in it; only the state folder's durable files stay."""
        deadline = time.monotonic() + timeout_s
        while self.host_lives() and time.monotonic() < deadline:
            with suppress(SuanliError):
                self._link.call("shutdown", 5.0)  # said again: one that still starts does not hear it yet
            self._link.close()
            self._gone_within(ASKED_AGAIN_S)
        if not self._gone_within(0.0):
            self._kill_host()
            if not self._gone_within(timeout_s):
                raise ExecutionError("the Ray host does not end", hint=f"look into {self.state.log}")
        self._clear()

    def _started(self) -> list[RunFolder]:
        folders = [RunFolder(path) for path in sorted(self.state.runs.iterdir())]
        return [folder for folder in folders if folder.started()]

    def _bring_up(self, capacity: HostCapacity, mask: tuple[Path, ...], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        process: subprocess.Popen[bytes] | None = None
        while time.monotonic() < deadline:
            if self._answers():
                return
            if process is not None and process.poll() is not None:
                raise ExecutionError(f"the Ray host did not start: {self._last_words()}", code="ray_host",
                                     hint=namespace_hint() or f"the whole story is in {self.state.log}")  # fmt: skip
            if process is None:
                process = self._spawn(capacity, mask)
            time.sleep(0.05)
        raise TimedOutError(f"the Ray host did not answer within {timeout_s:.0f} s: {self._last_words()}")

    def _answers(self) -> bool:
        if not self.state.socket.exists() or not self.host_lives():
            return False
        with suppress(SuanliError):
            self.health()
            return True
        return False

    def _spawn(self, capacity: HostCapacity, mask: tuple[Path, ...]) -> subprocess.Popen[bytes] | None:
        """Start the host in fresh namespaces; None if another daemon was quicker."""
        lock = os.open(self.state.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        self._clear()
        self.state.create()
        settle()
        command = [*namespaces(), *host_command(self.state, capacity, mask, lock)]
        with self.state.log.open("wb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
                pass_fds=(lock,), env={"PATH": f"{Path(sys.executable).parent}:{os.defpath}:/usr/sbin:/sbin",
                                       "LANG": "C.UTF-8", **faults.inherited()},
            )  # fmt: skip
        os.close(lock)
        began = psutil.Process(process.pid).create_time()
        write_json(self.state.process, {"pid": process.pid, "began": began})
        return process

    def _last_words(self) -> str:
        with suppress(OSError):
            return self.state.log.read_text(errors="replace").strip()[-500:]
        return ""

    def _gone_within(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.host_lives():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def _kill_host(self) -> None:
        """Kill the host by its recorded pid, if that is still the same process."""
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            record = json.loads(self.state.process.read_bytes())
            if psutil.Process(record["pid"]).create_time() == record["began"]:
                os.kill(record["pid"], signal.SIGKILL)

    def _clear(self) -> None:
        """Remove what a dead host left."""
        for folder in self._started():
            if not folder.status().final:
                discard(folder.path.name)
        shutil.rmtree(self.state.ray, ignore_errors=True)
        for path in (self.state.socket, self.state.process):
            path.unlink(missing_ok=True)


def namespaces() -> list[str]:
    """The command that puts what follows into fresh namespaces; as a plain user, into a user namespace first."""
    own_user = [] if is_true_root() else ["--user", "--map-root-user"]
    return ["unshare", *own_user, "--net", "--pid", "--ipc", "--mount", "--mount-proc", "--fork", "--kill-child", "--"]


def namespace_hint() -> str:
    """What to change where a plain user may not make namespaces; empty if nothing is known to forbid it."""
    settings = {"kernel/apparmor_restrict_unprivileged_userns": "0", "kernel/unprivileged_userns_clone": "1"}
    for name, wanted in settings.items():
        with suppress(OSError):
            if (Path("/proc/sys") / name).read_text().strip() != wanted and not is_true_root():
                return f"let plain users make namespaces: sysctl -w {name.replace('/', '.')}={wanted}"
    return ""


def host_command(state: StateFolder, capacity: HostCapacity, mask: tuple[Path, ...], lock: int) -> list[str]:
    """The host's own command."""
    masks: list[str] = []
    for path in mask:
        if not path.exists():
            raise ConfigurationError(f"{path} shall be hidden from jobs but does not exist", hint="create it first")
        masks += ["--mask", str(path.resolve())]
    return [
        sys.executable, "-I", "-m", "suanli_node.engine.ray_host", "--state", str(state.path), "--keep", str(lock),
        "--cpus-milli", str(capacity.cpus_milli), "--memory-mib", str(capacity.memory_mib), *masks,
        *capacity.devices.words(),
    ]  # fmt: skip
