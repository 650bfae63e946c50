"""Duties: leases of this market that time alone ends, if neither party does it.

A claim that nobody disputed is finalized, a dispute that nobody judged is split, a lease whose provider vanished goes
back to the consumer. Anyone may; the market does it because its fee, and the next attempt of the job, wait for it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlmodel import col, select

from suanli_market.leasing.leases import OPEN_STATES, state_of
from suanli_market.store import Store
from suanli_market.tables import LeaseRow
from suanli_protocol.lease import Clauses, Lease, Progress, State, finalize_from, reclaim_from

DUTIES = ("finalize", "reclaim")
PATIENCE_S = 10  # the parties come first
LOOK_S = 2.0
AGAIN_S = 60.0  # after one that the chain refused
LOOKED_AT = 500


@dataclass(frozen=True, slots=True)
class Duty:
    """A call of the escrow that is due."""

    id: str
    change: str
    lease: Lease
    clauses: Clauses
    progress: Progress


class Duties:
    """Finds what is due; one thread uses it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._look_at = 0.0
        self._done: dict[str, float] = {}  # lease and phase: when it may be tried again

    def next(self, now: int) -> Duty | None:
        """What is due at `now` (seconds of Unix UTC), the oldest lease first; looks at the tables now and then."""
        if time.monotonic() < self._look_at:
            return None
        for row_id, state in self._open_leases():
            due = change_due(state, now - PATIENCE_S)
            if due is None or self._done.get(row_id + due, 0.0) > time.monotonic():
                continue
            self._done[row_id + due] = time.monotonic() + AGAIN_S
            return Duty(row_id, due, state.lease, state.clauses, state.progress)
        self._look_at = time.monotonic() + LOOK_S
        self._done = {key: until for key, until in self._done.items() if until > time.monotonic()}
        return None

    def _open_leases(self) -> list[tuple[str, State]]:
        query = (
            select(LeaseRow)
            .where(col(LeaseRow.state).in_(OPEN_STATES), col(LeaseRow.bid).is_not(None))
            .order_by(col(LeaseRow.opened_at))
            .limit(LOOKED_AT)
        )
        with self._store.read() as session:
            return [(row.id, state_of(session, row)) for row in session.exec(query)]


def change_due(state: State, now: int) -> str | None:
    """`finalize` or `reclaim`, if the escrow takes it from anyone at `now`."""
    for change, since in (("finalize", finalize_from(state)), ("reclaim", reclaim_from(state))):
        if since is not None and now >= since:
            return change
    return None
