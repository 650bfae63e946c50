"""Events: what a change tells a party, written in the transaction of the change, told when it is on the disk."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any

from sqlmodel import Session, col, select

from suanli_market.store import TOPICS
from suanli_market.tables import EventRow
from suanli_protocol import wire

EVERYBODY = "*"


def now_ms() -> int:
    """Milliseconds of Unix UTC."""
    return time.time_ns() // 1_000_000


def touch(session: Session, topic: str) -> None:
    """Wakes those who wait for the topic once the transaction is on the disk."""
    session.info.setdefault(TOPICS, set()).add(topic)


def note(
    session: Session,
    parties: Iterable[str],
    kind: str,
    *,
    lease: str | None = None,
    bid: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Adds one event for each party."""
    for party in parties:
        session.add(EventRow(party=party, at=now_ms(), kind=kind, lease=lease, bid=bid, data=json.dumps(data or {})))
        touch(session, party)


def events_after(session: Session, party: str, after: int, limit: int) -> list[wire.Event]:
    """The party's events with a higher number, oldest first."""
    rows = session.exec(
        select(EventRow)
        .where(col(EventRow.party).in_((party, EVERYBODY)), col(EventRow.seq) > after)
        .order_by(col(EventRow.seq))
        .limit(limit)
    )
    return [
        wire.Event.model_validate(
            {
                "seq": row.seq,
                "at": row.at,
                "kind": row.kind,
                "lease": row.lease,
                "bid": row.bid,
                "data": json.loads(row.data),
            }
        )
        for row in rows
    ]
