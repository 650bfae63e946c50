"""Reason codes: why a phase changed, a run ended, a paper was refused. Stable text, the same everywhere."""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """What a person sees of a job."""

    QUEUED = "queued"
    LEASED = "leased"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SETTLED = "settled"


class Reason(StrEnum):
    """Why a run ended or could not begin."""

    OK = "ok"
    EXIT_NONZERO = "exit_nonzero"
    TIMEOUT = "timeout"  # the execution timeout
    STARTUP_TIMEOUT = "startup_timeout"  # inputs did not come, or the environment took too long
    QUEUE_TIMEOUT = "queue_timeout"  # no lease while the bid was valid
    MEMORY_EXCEEDED = "memory_exceeded"
    DISK_EXCEEDED = "disk_exceeded"
    PROCESS_LIMIT = "process_limit"
    LOG_EXCEEDED = "log_exceeded"
    OUTPUT_EXCEEDED = "output_exceeded"
    OUTPUT_REFUSED = "output_refused"  # a link, a device, or another thing that is no plain file
    STOPPED = "stopped"  # on chain, by a party
    BAD_JOB = "bad_job"  # the job document or archive is not what the bid names
    ENVIRONMENT_FAILED = "environment_failed"
    SANDBOX_FAILED = "sandbox_failed"
    WORKER_LOST = "worker_lost"
    RELEASED = "released"  # the provider gave the lease back


CONSUMER_FAULT = frozenset(
    {
        Reason.EXIT_NONZERO,
        Reason.TIMEOUT,
        Reason.STARTUP_TIMEOUT,
        Reason.MEMORY_EXCEEDED,
        Reason.DISK_EXCEEDED,
        Reason.PROCESS_LIMIT,
        Reason.LOG_EXCEEDED,
        Reason.OUTPUT_EXCEEDED,
        Reason.OUTPUT_REFUSED,
        Reason.STOPPED,
        Reason.BAD_JOB,
        Reason.ENVIRONMENT_FAILED,
    }
)


def billable(reason: str) -> bool:
    """Whether a run that ended for this reason is paid for what it used; else its receipt is over nothing."""
    return reason == Reason.OK or reason in CONSUMER_FAULT
