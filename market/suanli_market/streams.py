"""A party's events as server-sent events: what is in the table, then what comes, until either side goes.

The reader pulls: a slow one holds only its own connection, and reads on from the table by number.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import select

from suanli_market.enclosures import enclosed
from suanli_market.events import events_after
from suanli_market.hub import Hub
from suanli_market.store import Store
from suanli_market.tables import CursorRow, EventRow
from suanli_protocol import wire

PING_S = 10.0
BATCH = 200


@dataclass(frozen=True, slots=True)
class Start:
    """From where a stream is sent: events with a number above `after`, in this history of the numbers."""

    after: int
    history: str


def start_of(store: Store, after: int, history: str = "") -> Start:
    """Where a reader goes on that has seen the events up to `after` of a history ("": it does not know of which).

    At the beginning, if the numbers are not those that it means: the database is another, or was put back from a copy.
    """
    with store.read() as session:
        cursor = session.get(CursorRow, 1)
        last = session.exec(select(func.max(EventRow.seq))).one() or 0
    own = cursor.history if cursor is not None else ""
    is_other = (history and history != own) or after > last
    return Start(0 if is_other else after, own)


async def event_stream(store: Store, hub: Hub, party: str, after: int) -> AsyncIterator[str]:
    """Lines of text/event-stream; a comment each ten seconds shows that the connection lives."""
    yield ": welcome\n\n"
    with hub.waiting(party) as waiter:
        while not hub.closing:
            waiter.reset()
            batch = await asyncio.to_thread(_read, store, party, after)
            for event in batch:
                after = event.seq
                yield f"id: {event.seq}\nevent: {event.kind}\ndata: {event.model_dump_json(by_alias=True)}\n\n"
            if len(batch) < BATCH and not await waiter.wait(PING_S):  # what came since the reset has rung
                yield ": ping\n\n"


def _read(store: Store, party: str, after: int) -> list[wire.Event]:
    with store.read() as session:
        return [enclosed(session, event) for event in events_after(session, party, after, BATCH)]
