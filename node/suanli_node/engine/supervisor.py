"""Supervises one run from its start to its end: log, meter, limits, stop; never runs the job's code itself."""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from suanli_node.engine import meter
from suanli_node.engine.runlog import LineBuffer, LogWriter, Source
from suanli_node.engine.runs import RunFolder, RunPhase, RunSpec, RunStatus
from suanli_node.sandbox.disk import DiskUsage, disk_usage
from suanli_node.sandbox.interface import Cell, Ending, Prisoner, Sandbox
from suanli_node.sandbox.process_tree import (
    TreeUsage,
    deleted_file_bytes,
    memory_bytes,
    peak_bytes,
    proportional_bytes,
)
from suanli_protocol import faults
from suanli_protocol.documents import canonical
from suanli_protocol.errors import SuanliError
from suanli_protocol.reasons import Reason

MIB = 2**20
GRACE_S = 5.0  # between SIGTERM and SIGKILL
FIRST_LOOK_S, LOOK_S = 0.005, 0.1  # limits and stop wishes are looked at this often, at first and later
SAMPLE_S = 0.5  # between samples of the meter; shorter at first, so that short runs have some too
DISK_LOOK_S = 1.0
INODES_PER_MIB = 64  # a job may make so many files for each MiB of its disk
NOTICE_S = 0.02  # listeners hear of new log bytes at most this often
Notify = Callable[[], None]


def supervise(
    folder: RunFolder, environment: Path, sandbox: Sandbox, notify: Notify, devices: tuple[str, ...] = ()
) -> None:
    """Run what the folder's spec asks for; its state is final when this returns, however that comes about.

    `devices`: the nodes of the accelerators that it was given.
    """
    spec = folder.spec()
    log = LogWriter(folder.log, limit=spec.log_bytes)
    supervision = _Supervision(folder, spec, log, sandbox, notify)
    try:
        status = supervision.run(environment, devices)
    except Exception as error:  # whatever fails here, the job is dead by now: its run has an end, and the cause is told
        detail = error.detail if isinstance(error, SuanliError) else f"the supervisor failed: {error!s:.300}"
        with suppress(OSError):
            log.append(Source.NODE, f"{detail}\n".encode(), _now_ms())
        status = ended(supervision.status, Reason.SANDBOX_FAILED, detail)
    with suppress(OSError):
        log.close()
    folder.write_status(status)
    faults.reach("worker.run.concluded")
    notify()


def ended(status: RunStatus, reason: Reason, detail: str = "") -> RunStatus:
    """The status as it stays."""
    return replace(status, phase=RunPhase.EXITED, reason=reason.value, detail=detail, ended_at=int(time.time()))


class _Supervision:
    """The loop over output, clock and limits."""

    def __init__(self, folder: RunFolder, spec: RunSpec, log: LogWriter, sandbox: Sandbox, notify: Notify) -> None:
        self._folder, self._spec, self._log, self._sandbox, self._notify = folder, spec, log, sandbox, notify
        self._meter = meter.begin(spec.lease_id)
        self.status = RunStatus(spec.lease_id)
        self._verdict: tuple[Reason, str] | None = None  # why the node ends the job; the first reason stands
        self._kill_at = float("inf")
        self._next_look = self._next_sample = self._next_disk = self._next_notice = 0.0
        self._look_s = FIRST_LOOK_S
        self._told = 0  # bytes of the log that listeners know of

    def run(self, environment: Path, devices: tuple[str, ...]) -> RunStatus:
        """Start, watch, and reap the job."""
        if (reason := self._folder.stop_reason()) is not None:
            return ended(self.status, Reason.STOPPED, reason)
        prisoner = self._sandbox.start(cell_of(self._spec, self._folder, environment, devices))
        try:
            faults.reach("worker.child.started")
            self._begin = time.monotonic()
            self.status = replace(self.status, phase=RunPhase.RUNNING, started_at=int(time.time()))
            self._folder.write_status(self.status, is_durable=False)  # when the machine ends, so does the run
            faults.reach("worker.run.running")
            self._notify()
            self._watch(prisoner)
        finally:
            prisoner.kill()
            ending = prisoner.ending()
            faults.reach("worker.child.ended")
        return self._conclude(ending)

    def _watch(self, prisoner: Prisoner) -> None:
        """Until the job has ended and its output is read to the end."""
        buffers = {Source.STDOUT: LineBuffer(), Source.STDERR: LineBuffer()}
        with selectors.DefaultSelector() as selector:
            selector.register(prisoner.stdout, selectors.EVENT_READ, Source.STDOUT)
            selector.register(prisoner.stderr, selectors.EVENT_READ, Source.STDERR)
            selector.register(prisoner.done, selectors.EVENT_READ, None)
            while selector.get_map():
                for key, _ in selector.select(self._look_s):
                    if key.data is None:
                        selector.unregister(prisoner.done)
                    elif not self._read(key.fd, key.data, buffers[key.data]):
                        selector.unregister(key.fd)
                        os.close(key.fd)
                self._look(prisoner, buffers)
        for source, buffer in buffers.items():
            self._log.append(source, buffer.flush(), _now_ms())

    def _read(self, descriptor: int, source: Source, buffer: LineBuffer) -> bool:
        """Move output to the log; False at its end."""
        data = os.read(descriptor, 65536)
        self._log.append(source, buffer.feed(data), _now_ms())
        return bool(data)

    def _look(self, prisoner: Prisoner, buffers: dict[Source, LineBuffer]) -> None:
        """Everything that is due."""
        now = time.monotonic()
        if now >= self._kill_at:
            prisoner.kill()
        if self._log.full:
            self._end_at_once(prisoner, Reason.LOG_EXCEEDED, f"more than {self._spec.log_bytes} bytes of output")
        if now < self._next_look:
            return
        tree = prisoner.usage()
        self._check_processes(prisoner, tree)
        self._check_memory(prisoner, tree)
        if now >= self._next_sample:
            self._next_sample = now + min(SAMPLE_S, max(FIRST_LOOK_S, now - self._begin))
            self._sample(now, tree)
        if now >= self._next_disk:
            self._next_disk = now + DISK_LOOK_S
            self._check_disk(prisoner, tree)
        self._check_stop(prisoner, now)
        for source, buffer in buffers.items():
            self._log.append(source, buffer.flush(), _now_ms())
        self._tell(now)
        self._look_s = min(LOOK_S, 2 * self._look_s)
        cost = time.monotonic() - now
        self._next_look = now + max(self._look_s, 10 * cost)

    def _tell(self, now: float) -> None:
        if now >= self._next_notice and self._log.written != self._told:
            self._told = self._log.written
            self._next_notice = now + NOTICE_S
            self._notify()

    def _check_processes(self, prisoner: Prisoner, tree: TreeUsage) -> None:
        if tree.threads > self._spec.processes + 1 or prisoner.out_of_processes():
            detail = f"more than {self._spec.processes} processes and threads"
            self._end_at_once(prisoner, Reason.PROCESS_LIMIT, detail)

    def _check_memory(self, prisoner: Prisoner, tree: TreeUsage) -> None:
        limit, scratch = self._spec.memory_mib * MIB, prisoner.scratch().bytes
        above = tree.resident_bytes + scratch > limit and memory_bytes(tree.pids, scratch) > limit
        if above or prisoner.out_of_memory():
            self._end_at_once(prisoner, Reason.MEMORY_EXCEEDED, f"more than {self._spec.memory_mib} MiB of memory")

    def _check_disk(self, prisoner: Prisoner, tree: TreeUsage) -> None:
        nameless = DiskUsage(deleted_file_bytes(tree.pids), prisoner.scratch().files)
        if excess := self._disk_excess(nameless):
            self._end_at_once(prisoner, Reason.DISK_EXCEEDED, excess)

    def _disk_excess(self, used: DiskUsage) -> str:
        """What the run's folders and `used` exceed together, or nothing."""
        limit = self._spec.disk_mib * MIB
        for part in (self._folder.work, self._folder.out):
            used += disk_usage(part, bytes_max=limit, files_max=self._files_max)
        within = used.bytes <= limit and used.files <= self._files_max
        return "" if within else f"more than {self._spec.disk_mib} MiB or {self._files_max} files on disk"

    @property
    def _files_max(self) -> int:
        return max(4096, self._spec.disk_mib * INODES_PER_MIB)

    def _check_stop(self, prisoner: Prisoner, now: float) -> None:
        if (reason := self._folder.stop_reason()) is not None:
            self._ask_to_end(prisoner, Reason.STOPPED, reason, now)
        elif now - self._begin >= self._spec.seconds:
            self._ask_to_end(prisoner, Reason.TIMEOUT, f"still running after {self._spec.seconds} s", now)

    def _ask_to_end(self, prisoner: Prisoner, reason: Reason, detail: str, now: float) -> None:
        """SIGTERM now, SIGKILL after the grace."""
        if self._verdict is None:
            self._verdict = reason, detail
            self._kill_at = now + GRACE_S
            prisoner.send(signal.SIGTERM)

    def _end_at_once(self, prisoner: Prisoner, reason: Reason, detail: str) -> None:
        if self._verdict is None:
            self._verdict = reason, detail
        prisoner.kill()

    def _sample(self, now: float, tree: TreeUsage) -> None:
        memory = max(proportional_bytes(tree.pids), peak_bytes(tree.pids))
        self._record(int((now - self._begin) * 1000), tree.cpu_ms, memory // MIB, tree.threads)

    def _record(self, at_ms: int, cpu_ms: int, memory_mib: int, processes: int) -> None:
        sample = meter.Sample(at_ms, cpu_ms, memory_mib, processes)
        self._meter = meter.add(self._meter, sample)
        with self._folder.samples.open("ab") as file:
            file.write(canonical(asdict(sample)) + b"\n")
        self.status = replace(self.status, usage=meter.usage(self._meter))

    def _conclude(self, ending: Ending) -> RunStatus:
        """The final status."""
        self._record(int((time.monotonic() - self._begin) * 1000), ending.cpu_ms, 0, 0)
        if self._verdict is None and (excess := self._disk_excess(DiskUsage())):
            self._verdict = Reason.DISK_EXCEEDED, excess  # it was quicker than our looks
        reason, detail = self._verdict or verdict_of(ending, self._spec)
        if reason not in (Reason.OK, Reason.EXIT_NONZERO):
            self._log.append(Source.NODE, f"{reason}: {detail}\n".encode(), _now_ms())
        return ended(replace(self.status, exit_code=ending.exit_code), reason, detail)


def verdict_of(ending: Ending, spec: RunSpec) -> tuple[Reason, str]:
    """Why a job ended that the supervisor did not end."""
    if ending.out_of_memory:
        return Reason.MEMORY_EXCEEDED, f"more than {spec.memory_mib} MiB of memory"
    if ending.exit_code is None:
        return Reason.SANDBOX_FAILED, ending.complaint or "the sandbox ended before the job began"
    if ending.exit_code == 0:
        return Reason.OK, ""
    if ending.out_of_processes:
        return Reason.PROCESS_LIMIT, f"more than {spec.processes} processes and threads"
    return Reason.EXIT_NONZERO, f"exit code {ending.exit_code}"


def cell_of(spec: RunSpec, folder: RunFolder, environment: Path, devices: tuple[str, ...] = ()) -> Cell:
    """What a spec asks for, as a sandbox understands it."""
    command = ("/bin/sh", "-c", spec.shell) if spec.shell else ("/bin/sh", "-c", 'exec "$@"', "sh", *spec.argv)
    return Cell(
        name=spec.lease_id,
        argv=command,
        env={**default_env(spec), **spec.env},
        work=folder.work,
        inputs=folder.inputs,
        out=folder.out,
        environment=environment,
        cpus_milli=spec.cpus_milli,
        memory_mib=spec.memory_mib,
        scratch_mib=max(16, spec.memory_mib // 2),
        file_mib=spec.disk_mib,
        processes=spec.processes,
        devices=devices,
    )


def default_env(spec: RunSpec) -> dict[str, str]:
    """What each job finds in its environment unless it sets it otherwise."""
    threads = str(max(1, spec.cpus_milli // 1000))
    return {
        "PATH": "/env/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108 (inside)
        "TMPDIR": "/tmp",  # noqa: S108 (inside)
        "LANG": "C.UTF-8",
        "USER": "job",
        "VIRTUAL_ENV": "/env",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "SUANLI_OUTPUT_DIR": "/out",
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
