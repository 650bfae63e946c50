"""How far a job is to be waited for, and whether it came there."""

from __future__ import annotations

from collections.abc import Callable

from suanli.jobs.record import Record
from suanli.session.outcome import is_ended, status_of
from suanli_protocol.reasons import Phase

Goal = Callable[[Record], bool]
ORDER = (Phase.QUEUED, Phase.LEASED, Phase.STARTING, Phase.RUNNING, Phase.SUCCEEDED, Phase.SETTLED)


def goal_of(phase: str) -> Goal:
    """The goal that a job has come to a phase, or to its end; `settled`: that nothing more will change."""
    if phase == Phase.SETTLED:
        return lambda record: record.is_over
    wanted = ORDER.index(Phase(phase))
    return lambda record: is_ended(record) or (record.phase in ORDER and ORDER.index(Phase(record.phase)) >= wanted)


def has_succeeded(record: Record, phase: str) -> bool:
    """Whether a job has come to the phase and did not fail on its way."""
    if not goal_of(phase)(record):
        return False
    return not is_ended(record) or status_of(record) == 0
