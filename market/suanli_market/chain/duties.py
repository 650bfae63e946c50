"""Duties: leases of this market that time alone ends, if neither party does it.

A claim that nobody disputed is finalized, a dispute that nobody judged is split, a lease whose provider vanished goes
back to the consumer. Anyone may; the market does it because its fee, and the next attempt of the job, wait for it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlmodel import Session, col, select

from suanli_market.leasing.leases import OPEN_STATES, state_of
from suanli_market.store import Store
from suanli_market.tables import LeaseRow
from suanli_protocol.lease import Clauses, Lease, Progress, State, finalize_from, reclaim_from

DUTIES = ("finalize", "reclaim")
PATIENCE_S = 10  # the parties come first
LOOK_S = 2.0
AGAIN_S = 60.0  # after one that is done and does not count yet, or that the chain refused


@dataclass(frozen=True, slots=True)
class Duty:
    """A call of the escrow that is due."""

    id: str
    change: str
    lease: Lease
    clauses: Clauses
    progress: Progress
    word: bytes  # of the lease's seat, as the call expects it


class Duties:
    """Finds what is due; one thread uses it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._look_at = 0.0
        self._put_off: dict[tuple[str, int], float] = {}  # lease and time: when it may be tried again

    def next(self, now: int) -> Duty | None:
        """What is due at `now` (seconds of Unix UTC), the longest overdue first; looks at the tables now and then."""
        if time.monotonic() < self._look_at:
            return None
        for row_id, due_at in self._due(now - PATIENCE_S):
            if self._put_off.get((row_id, due_at), 0.0) > time.monotonic():
                continue
            self._put_off[row_id, due_at] = time.monotonic() + AGAIN_S
            duty = self._duty(row_id, now - PATIENCE_S)
            if duty is not None:
                return duty
        self._look_at = time.monotonic() + LOOK_S
        self._put_off = {key: until for key, until in self._put_off.items() if until > time.monotonic()}
        return None

    def _due(self, now: int) -> list[tuple[str, int]]:
        query = (
            select(LeaseRow.id, LeaseRow.due_at)
            .where(col(LeaseRow.due_at) <= now, col(LeaseRow.state).in_(OPEN_STATES), col(LeaseRow.bid).is_not(None))
            .order_by(col(LeaseRow.due_at))
        )
        with self._store.read() as session:
            return [(row_id, due_at or 0) for row_id, due_at in session.exec(query)]

    def _duty(self, row_id: str, now: int) -> Duty | None:
        """The lease's duty by its present state; a time that was not known yet is written down."""
        with self._store.read() as session:
            row = session.get_one(LeaseRow, row_id)
            state = state_of(session, row)
            due = change_due(state, now) if row.state in OPEN_STATES else None
        if due is not None:
            return Duty(row_id, due, state.lease, state.clauses, state.progress, state.word)
        with self._store.write() as session:
            date(session, session.get_one(LeaseRow, row_id))
        return None


def date(session: Session, row: LeaseRow) -> None:
    """Sets when time alone ends the lease, by its present state."""
    is_ours = row.bid is not None and row.state in OPEN_STATES
    row.due_at = due_at(state_of(session, row)) if is_ours else None
    session.add(row)


def due_at(state: State) -> int | None:
    """The first second (Unix UTC) from which the escrow takes `finalize` or `reclaim` from anyone."""
    return min((since for since in (finalize_from(state), reclaim_from(state)) if since is not None), default=None)


def change_due(state: State, now: int) -> str | None:
    """`finalize` or `reclaim`, if the escrow takes it from anyone at `now`."""
    for change, since in (("finalize", finalize_from(state)), ("reclaim", reclaim_from(state))):
        if since is not None and now >= since:
            return change
    return None
