"""The workshop: before a run its files and environment are put in place, after it its outputs are taken and sealed."""

from __future__ import annotations

import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from suanli_node.engine.collect import CollectLimits, collect
from suanli_node.engine.environment import Check, EnvironmentStore
from suanli_node.engine.runlog import Source
from suanli_node.engine.runs import RunFolder, RunSpec
from suanli_node.leases.delivery import seal_outputs
from suanli_node.leases.intake import RunRefusedError, requirements_of
from suanli_node.leases.record import LeaseFolder
from suanli_node.leases.verification import Assignment
from suanli_protocol.documents import DOCUMENT_BYTES_MAX, JobDocument, Outputs, hex32
from suanli_protocol.errors import ExecutionError, SuanliError, UsageError
from suanli_protocol.reasons import Reason
from suanli_protocol.units import MILLI

MIB = 2**20
JOB_MIB_OF_LOG = 64  # the most that a job may print, whatever it asks for
PROCESSES_MAX = 4096
OUTPUT_MIB_MAX = 1024
FILES_MAX = 2_000
LIST_BYTES_MAX = DOCUMENT_BYTES_MAX - 16 * 1024  # the evidence must hold it


class Folders(Protocol):
    """Where runs lie."""

    def folder(self, lease_id: str) -> RunFolder:
        """The run's folder, made if need be."""

    def forget(self, lease_id: str) -> object:
        """Remove a run that is over or never began."""


class Say(Protocol):
    """Takes a piece of output of the preparation."""

    def __call__(self, source: Source, data: bytes) -> None:
        """Append it to the job's log."""


@dataclass(frozen=True)
class Collection:
    """The sealed outputs, None if there are none; whether something was left behind that no consumer should get."""

    outputs: Outputs | None
    refused: bool = False


class Workshop:
    """Prepares runs and collects what they left."""

    def __init__(self, folders: Folders, environments: EnvironmentStore, *, blob_bytes_max: int) -> None:
        self._folders, self._environments, self._blob_bytes_max = folders, environments, blob_bytes_max

    def prepare(
        self, assignment: Assignment, job: JobDocument, unpacked: Path | None, say: Say, deadline: float, check: Check
    ) -> RunSpec:
        """Make everything ready by `deadline` (seconds of Unix UTC); RunRefusedError with the reason if it cannot be.

        `check` is called all the while, and ends it by raising. Repeating it before the run is started does no harm.
        """
        run_id = assignment.id.hex()
        environment = self._environment(job, unpacked, say, deadline, check)
        self._folders.forget(run_id)
        place(unpacked, self._folders.folder(run_id))
        return spec_of(assignment, job, environment, now=int(time.time()))

    def collect(
        self, assignment: Assignment, run_id: str, job: JobDocument, folder: LeaseFolder, say: Say
    ) -> Collection:
        """What the run left, sealed on disk; RunRefusedError with code and reason if it cannot be taken."""
        run = self._folders.folder(run_id)
        limits = CollectLimits(bytes=min(job.limits.output_mib, OUTPUT_MIB_MAX) * MIB, files=FILES_MAX)
        try:
            found = collect(run, job.outputs, limits)
            for path in found.missing:
                say(Source.NODE, f"output {path} is missing\n".encode("utf-8", "replace"))
            for path, why in found.refused:
                say(Source.NODE, f"output {path} {why} and is left behind\n".encode("utf-8", "replace"))
            if not found.files:
                return Collection(None, bool(found.refused))
            recipient = bytes.fromhex(job.consumer_key[2:])
            outputs = seal_outputs(folder, found.files, recipient, assignment.id)
        except (ExecutionError, UsageError) as error:
            raise RunRefusedError(reason_of(error, Reason.OUTPUT_REFUSED), error.detail) from error
        if outputs.sealed_size > self._blob_bytes_max:
            raise RunRefusedError(Reason.OUTPUT_EXCEEDED, f"the relay takes {self._blob_bytes_max} bytes of outputs")
        if len(outputs.canonical()) > LIST_BYTES_MAX:
            detail = f"the list of {len(outputs.files)} output files is too long; pack them into one"
            raise RunRefusedError(Reason.OUTPUT_EXCEEDED, detail)
        return Collection(outputs, bool(found.refused))

    def _environment(self, job: JobDocument, unpacked: Path | None, say: Say, deadline: float, check: Check) -> str:
        if job.python is None:
            return ""
        if unpacked is None:
            raise RunRefusedError(Reason.BAD_JOB, "the job asks for an environment and brings no archive")
        requirements = requirements_of(unpacked, job.python.requirements).read_text("utf-8", "replace")
        version = job.python.version or platform.python_version()
        say(Source.SETUP, f"preparing Python {version} with the job's requirements\n".encode())
        left_s = max(1, int(deadline - time.time()))
        try:
            prepared = self._environments.prepare(requirements, timeout_s=left_s, check=check)
        except ExecutionError as error:
            raise RunRefusedError(Reason.ENVIRONMENT_FAILED, error.detail) from error
        say(Source.SETUP, prepared.transcript.encode())
        return prepared.name


def reason_of(error: SuanliError, default: Reason) -> Reason:
    """The reason that an error's code names, if it names one."""
    return Reason(error.code) if error.code in set(Reason) else default


def spec_of(assignment: Assignment, job: JobDocument, environment: str, *, now: int) -> RunSpec:
    """What the executor is asked for: the job's command within the lease's capacity, and never beyond its end."""
    seconds = min(job.timeouts.execution, assignment.end - now)
    if seconds <= 0:
        raise RunRefusedError(Reason.STARTUP_TIMEOUT, "the lease's time was over before the job could begin")
    need = assignment.need
    if need.accelerator_milli % MILLI:
        raise RunRefusedError(Reason.BAD_JOB, "accelerators are leased whole")
    try:
        return RunSpec(
            lease_id=assignment.id.hex(),
            argv=job.command.argv,
            shell=job.command.shell,
            env={**job.env, **lease_env(assignment, ends_at=now + seconds)},
            environment=environment,
            cpus_milli=need.cpu_milli,
            memory_mib=need.memory_mib,
            disk_mib=need.disk_mib,
            accelerators=need.accelerator_milli // MILLI,
            seconds=seconds,
            processes=min(job.limits.processes, PROCESSES_MAX),
            log_bytes=min(job.limits.log_mib, JOB_MIB_OF_LOG) * MIB,
        )
    except ExecutionError as error:
        raise RunRefusedError(Reason.BAD_JOB, error.detail) from error


def lease_env(assignment: Assignment, *, ends_at: int) -> dict[str, str]:
    """What a job can know of its place; nothing that it sets itself takes the place of these."""
    return {
        "SUANLI_JOB_ID": hex32(assignment.bid.seat),
        "SUANLI_LEASE_ID": hex32(assignment.id),
        "SUANLI_NODE_RANK": "0",
        "SUANLI_NODES": "1",
        "SUANLI_NODE_IPS": "127.0.0.1",
        "SUANLI_DEADLINE": str(ends_at),  # seconds of Unix UTC
    }


def place(unpacked: Path | None, folder: RunFolder) -> None:
    """Move the archive's `work` and `in` to where the sandbox finds them; anything else in it is not looked at."""
    if unpacked is None:
        return
    for name, target in (("work", folder.work), ("in", folder.inputs)):
        if (unpacked / name).is_dir():
            target.rmdir()
            shutil.move(unpacked / name, target)
