"""How a job's end becomes an exit status."""

from __future__ import annotations

import pytest

from suanli.jobs.record import Record
from suanli.session.outcome import status_of, words
from suanli_protocol.reasons import Reason

STATUSES = {
    Reason.OK: 0,
    Reason.QUEUE_TIMEOUT: 8,
    Reason.STOPPED: 103,
    Reason.EXIT_NONZERO: 100,
    Reason.TIMEOUT: 100,
    Reason.STARTUP_TIMEOUT: 100,
    Reason.MEMORY_EXCEEDED: 100,
    Reason.DISK_EXCEEDED: 100,
    Reason.PROCESS_LIMIT: 100,
    Reason.LOG_EXCEEDED: 100,
    Reason.OUTPUT_EXCEEDED: 100,
    Reason.OUTPUT_REFUSED: 100,
    Reason.BAD_JOB: 100,
    Reason.ENVIRONMENT_FAILED: 100,
    Reason.SANDBOX_FAILED: 104,
    Reason.WORKER_LOST: 104,
    Reason.RELEASED: 104,
}


def a_record(phase: str, reason: str) -> Record:
    base = {"market": "m", "chain": "c", "escrow": "e", "genesis": "g", "symbol": "S", "bid_hash": "0x"}
    return Record(
        id="0x" + "00" * 32,
        created_at=0,
        chain_id=1,
        decimals=6,
        bid={},
        constraints={},
        phase=phase,
        reason=reason,
        **base,  # type: ignore[arg-type]
    )


def test_every_reason_has_a_status() -> None:
    assert set(STATUSES) == set(Reason)


@pytest.mark.parametrize(("reason", "status"), list(STATUSES.items()))
@pytest.mark.parametrize("phase", ["failed", "settled"])
def test_a_reasons_status(phase: str, reason: Reason, status: int) -> None:
    assert status_of(a_record(phase, reason)) == status
    assert words(reason) != reason


@pytest.mark.parametrize("phase", ["new", "queued", "leased", "starting", "running"])
def test_an_open_job_is_not_finished(phase: str) -> None:
    assert status_of(a_record(phase, "")) == 101
