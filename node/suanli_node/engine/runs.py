"""Runs: what is asked of one, what is known of one, and the folder that holds it.

A run's folder is the only truth about it and survives every process:
    spec.json    what was asked; its presence means that the lease was started, once and for all
    state.json   phase, times, exit, usage; replaced atomically
    stop.json    that it shall stop, and why
    samples      one JSON line per sample of the meter
    log          framed output (`runlog`)
    work/ in/ out/   mounted into the sandbox at /work, /in and /out
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from suanli_node.engine.meter import Usage
from suanli_node.sandbox.disk import make_folder, remove_tree
from suanli_protocol.errors import ExecutionError, NotFoundError
from suanli_protocol.reasons import Reason

LEASE_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
ENV_BYTES_MAX = 128 * 1024


class RunPhase(StrEnum):
    """How far a run has come. `lost` means that its node died under it; `exited` and `lost` are final."""

    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"
    LOST = "lost"


FINAL = frozenset({RunPhase.EXITED, RunPhase.LOST})


@dataclass(frozen=True)
class RunSpec:
    """What is to run under a lease, and within which limits."""

    lease_id: str
    argv: tuple[str, ...] = ()
    shell: str = ""  # a line for `sh -c`; exactly one of argv and shell is given
    env: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""  # name of a prepared environment; empty: the one without packages
    cpus_milli: int = 1000
    memory_mib: int = 1024
    disk_mib: int = 1024  # of /work and /out together
    seconds: int = 3600  # SIGTERM after so long, SIGKILL after the grace
    start_seconds: int = 60  # to be placed and started
    processes: int = 256  # processes and threads
    accelerators: int = 0  # whole ones
    log_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        check_lease_id(self.lease_id)
        if bool(self.argv) == bool(self.shell):
            raise _bad("exactly one of argv and shell is wanted")
        texts = [*self.argv, self.shell, self.environment, *self.env, *self.env.values()]
        if any("\0" in text for text in texts):
            raise _bad("a zero byte in a command or an environment variable")
        for name in self.env:
            if not ENV_NAME.match(name):
                raise _bad(f"{name!r:.80} is no name for an environment variable")
        if sum(len(text.encode()) for text in texts) > ENV_BYTES_MAX:
            raise _bad(f"command and environment exceed {ENV_BYTES_MAX} bytes together")
        if "/" in self.environment or self.environment.startswith("."):
            raise _bad(f"{self.environment!r:.80} is no name of an environment")
        limits = ("cpus_milli", "memory_mib", "disk_mib", "seconds", "start_seconds", "processes", "log_bytes")
        for name in limits:
            if not 0 < getattr(self, name) < 2**53:
                raise _bad(f"{name} must be positive")
        if not 0 <= self.accelerators < 2**16:
            raise _bad("accelerators must not be negative")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The spec of its own JSON form; what another version of this program wrote beside is left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known} | {"argv": tuple(data["argv"])})

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        return {**asdict(self), "argv": list(self.argv), "env": dict(self.env)}


@dataclass(frozen=True)
class RunStatus:
    """What is known of a run; times in whole seconds of Unix UTC."""

    lease_id: str
    phase: RunPhase = RunPhase.STARTING
    reason: str = ""  # a code of suanli_protocol.reasons once the phase is final
    detail: str = ""
    started_at: int | None = None
    ended_at: int | None = None
    exit_code: int | None = None  # 128 + n if signal n ended it
    usage: Usage = field(default_factory=Usage)
    log_size: int = 0  # bytes of the framed log so far; an offset for `read_log`

    @property
    def final(self) -> bool:
        """True once nothing about the run changes any more."""
        return self.phase in FINAL

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The status of its own JSON form."""
        return cls(**{**data, "phase": RunPhase(data["phase"]), "usage": Usage(**data["usage"])})

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        return asdict(self)


def lost(status: RunStatus, detail: str) -> RunStatus:
    """The status of a run whose node died under it."""
    now = int(time.time())
    return replace(status, phase=RunPhase.LOST, reason=Reason.WORKER_LOST.value, detail=detail, ended_at=now)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @classmethod
    def under(cls, runs: Path, lease_id: str) -> Self:
        """The folder of a lease's run, whether it exists or not."""
        return cls(runs / check_lease_id(lease_id))

    @property
    def work(self) -> Path:
        """Becomes /work: the unpacked bundle, writable for the job."""
        return self.path / "work"

    @property
    def inputs(self) -> Path:
        """Becomes /in, read-only."""
        return self.path / "in"

    @property
    def out(self) -> Path:
        """Becomes /out, SUANLI_OUTPUT_DIR."""
        return self.path / "out"

    @property
    def log(self) -> Path:
        """The framed log."""
        return self.path / "log"

    @property
    def samples(self) -> Path:
        """The meter's samples, one canonical JSON document a line."""
        return self.path / "samples"

    def create(self) -> None:
        """Make the folders. Only the parent of all runs is closed to others: a job's own user must pass through."""
        make_folder(self.path, 0o711)
        for part in (self.work, self.inputs, self.out):
            make_folder(part, 0o755)

    def started(self) -> bool:
        """True if this run was ever started."""
        return (self.path / "spec.json").exists()

    def spec(self) -> RunSpec:
        """What was asked."""
        return RunSpec.from_json(self._read("spec.json"))

    def status(self) -> RunStatus:
        """What is known now; NotFoundError if the lease was never started here."""
        status = RunStatus.from_json(self._read("state.json"))
        return replace(status, log_size=self.log.stat().st_size if self.log.exists() else 0)

    def write_spec(self, spec: RunSpec) -> None:
        """Record what was asked, after the state, so that a started run always has one."""
        write_json(self.path / "spec.json", spec.to_json())

    def write_status(self, status: RunStatus, *, is_durable: bool = True) -> None:
        """Replace what is known."""
        write_json(self.path / "state.json", status.to_json(), is_durable=is_durable)

    def ask_to_stop(self, reason: str) -> None:
        """Record the wish that the run stop; the first reason stands."""
        if not (self.path / "stop.json").exists():
            write_json(self.path / "stop.json", {"reason": reason})

    def stop_reason(self) -> str | None:
        """Why the run shall stop, or None."""
        try:
            return str(self._read("stop.json")["reason"])
        except NotFoundError:
            return None

    def remove(self) -> None:
        """Delete the folder and all that is in it."""
        remove_tree(self.path)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            data = json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            raise NotFoundError(f"no run of lease {self.path.name} ({name} is missing)") from None
        return dict(data)


def check_lease_id(lease_id: str) -> str:
    """The id itself; ExecutionError if it could not be the name of a folder."""
    if not LEASE_ID.match(lease_id):
        raise _bad(f"{lease_id!r:.120} cannot name a run")
    return lease_id


def write_json(path: Path, data: dict[str, Any], *, is_durable: bool = True) -> None:
    """Replace a file atomically; only its owner may read it. A durable one outlives the machine's end too."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(json.dumps(data, separators=(",", ":")).encode())
        if is_durable:
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)
    if is_durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make durable which files a folder has; before that, a file can be on the disk and its name not."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _bad(detail: str) -> ExecutionError:
    return ExecutionError(detail, code="bad_run", hint="correct the job document")
