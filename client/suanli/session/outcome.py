"""How a job ended, and the exit status that says so."""

from __future__ import annotations

from suanli.jobs.record import Record
from suanli.terminal.failure import CANCELLED, DISPUTED, JOB_FAILED, NOT_FINISHED, PROVIDER_FAULT
from suanli_protocol.errors import TimedOutError
from suanli_protocol.reasons import CONSUMER_FAULT, Phase, Reason

RECEIPT_REFUSED = "receipt_refused"  # of a lease that ended without this side's signature, since the receipt is false
ENDED = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.SETTLED})
_WORDS = {
    Reason.OK: "it ended with exit code 0",
    Reason.EXIT_NONZERO: "its command failed",
    Reason.TIMEOUT: "it ran longer than timeouts.execution",
    Reason.STARTUP_TIMEOUT: "it could not start within timeouts.startup",
    Reason.QUEUE_TIMEOUT: "no offer took it within timeouts.queue",
    Reason.MEMORY_EXCEEDED: "it used more memory than resources.memory",
    Reason.DISK_EXCEEDED: "it used more disk than resources.disk",
    Reason.PROCESS_LIMIT: "it started too many processes",
    Reason.LOG_EXCEEDED: "it printed more than may be",
    Reason.OUTPUT_EXCEEDED: "it left more outputs than may be",
    Reason.OUTPUT_REFUSED: "its outputs hold a link or a special file",
    Reason.STOPPED: "it was stopped",
    Reason.BAD_JOB: "the provider could not read the job as the bid names it",
    Reason.ENVIRONMENT_FAILED: "its Python environment could not be prepared (see the log)",
    Reason.SANDBOX_FAILED: "the provider's sandbox failed",
    Reason.WORKER_LOST: "the provider lost it",
    Reason.RELEASED: "the provider gave the lease back",
}


def words(reason: str) -> str:
    """A reason code as a person reads it."""
    if reason == RECEIPT_REFUSED:
        return "its receipt does not hold and was not signed"
    return _WORDS.get(Reason(reason), reason) if reason in set(Reason) else reason


def is_ended(record: Record) -> bool:
    """Whether the job itself is over, settled or not."""
    return record.phase in ENDED


def status_of(record: Record) -> int:
    """The exit status of a job: 0, 8, 100, 101, 103, 104 or 105 (see `suanli.terminal.failure`)."""
    if record.disputed and not record.is_over:
        return DISPUTED
    if not is_ended(record):
        return NOT_FINISHED
    reason = record.reason
    if reason == Reason.OK:
        return 0
    if reason == Reason.STOPPED:
        return CANCELLED
    if reason == Reason.QUEUE_TIMEOUT:
        return TimedOutError.exit_status
    return JOB_FAILED if reason in CONSUMER_FAULT else PROVIDER_FAULT
