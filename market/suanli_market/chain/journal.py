"""The journal: what each step along the chain changed in the rows, so that a reorganisation can undo it.

A step writes down, for each row that its events changed, the values from before. Undoing a step puts them back, and
removes the rows that it made. Only rows that follow the chain take part; what parties were told stays told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import delete, event, inspect, update
from sqlalchemy.orm import Session as OrmSession
from sqlmodel import Session, SQLModel, col, select

from suanli_market.events import now_ms
from suanli_market.tables import (
    BidRow,
    ChainChangeRow,
    ChainStepRow,
    ChainTransactionRow,
    GoneLeaseRow,
    LeaseRow,
    MatchRow,
    OfferRow,
    ReceiptRow,
)

STEPS_KEPT = 512  # a reorganisation that goes further back halts the market
UNDER_WAY: dict[str, str | int | None] = {"state": "prepared", "hash": None, "block": None, "gas_used": 0}
WAITING = ("queued", "matched")
_LEFT = ("withdrawn", "expired")
FOLLOWING: dict[str, type[SQLModel]] = {
    str(kind.__tablename__): kind for kind in (OfferRow, BidRow, MatchRow, LeaseRow, ReceiptRow)
}


@contextmanager
def recorded(session: Session, block: int) -> Iterator[None]:
    """Whatever the session changes inside belongs to the step that ends with this block."""

    def note(found: OrmSession, *_: object) -> None:
        rows = [_created(row, block) for row in found.new if _follows(row)]
        rows += [row for row in (_changed(item, block) for item in found.dirty if _follows(item)) if row is not None]
        found.add_all(rows)

    event.listen(session, "before_flush", note)
    try:
        yield
        session.flush()
    finally:
        event.remove(session, "before_flush", note)


def add_step(session: Session, block: int, block_hash: str, opened: int) -> None:
    """Writes down that the chain was read up to a block, and forgets the steps that are too old to be undone."""
    session.merge(ChainStepRow(block=block, block_hash=block_hash, opened=opened))
    session.flush()
    oldest = session.exec(
        select(ChainStepRow.block).order_by(col(ChainStepRow.block).desc()).offset(STEPS_KEPT).limit(1)
    ).first()
    if oldest is not None:
        session.execute(delete(ChainStepRow).where(col(ChainStepRow.block) <= oldest))
        session.execute(delete(ChainChangeRow).where(col(ChainChangeRow.block) <= oldest))


def steps(session: Session, *, up_to: int, limit: int = STEPS_KEPT) -> list[ChainStepRow]:
    """The newest steps that can be gone back to, from a block downwards."""
    query = select(ChainStepRow).where(ChainStepRow.block <= up_to).order_by(col(ChainStepRow.block).desc())
    return list(session.exec(query.limit(limit)))


def undo(session: Session, block: int) -> None:
    """Puts all rows back to what they were at the end of the step at `block`; leases that it makes no more are noted.

    The transactions that the lost blocks had mined are carried again, with their own nonces. Receipt, log and blobs of
    a lease that is no more stay for a while: opened again in a block of the same second, it is the same lease, and its
    parties have handed them over already.
    """
    changes = session.exec(
        select(ChainChangeRow).where(ChainChangeRow.block > block).order_by(col(ChainChangeRow.id).desc())
    ).all()
    left: dict[str, tuple[str, str]] = {}
    for change in changes:
        row = session.get(FOLLOWING[change.table], json.loads(change.key))
        if row is None:
            continue
        if isinstance(row, BidRow) and row.state in _LEFT:
            left.setdefault(row.id, (row.state, row.reason))
        if change.before is None:
            if isinstance(row, LeaseRow):
                session.merge(GoneLeaseRow(id=row.id, at=now_ms() // 1000))
            session.delete(row)
        else:
            for name, value in json.loads(change.before).items():
                setattr(row, name, value)
        session.flush()
    _keep_left(session, left)
    _release_idle(session)
    session.execute(delete(ChainChangeRow).where(col(ChainChangeRow.block) > block))
    session.execute(delete(ChainStepRow).where(col(ChainStepRow.block) > block))
    _carry_again(session, block)


def _carry_again(session: Session, block: int) -> None:
    """What was mined after a block is under way again; what waits, and is not carried, is to be sent."""
    mined = (col(ChainTransactionRow.block) > block, col(ChainTransactionRow.state).in_(("mined", "failed")))
    session.execute(update(ChainTransactionRow).where(*mined).values(**UNDER_WAY))
    under_way = select(ChainTransactionRow.id).where(ChainTransactionRow.state == "prepared")
    for kind, waits in ((MatchRow, "pending"), (ReceiptRow, "queued")):
        idle = (col(kind.state) == waits, col(kind.transaction).not_in(under_way))
        session.execute(update(kind).where(*idle).values(transaction=None))


def _keep_left(session: Session, left: dict[str, tuple[str, str]]) -> None:
    """A bid that its consumer or its time took off the book stays off it, unless it has a lease again."""
    for id_, (state, reason) in left.items():
        bid = session.get_one(BidRow, id_)
        if bid.state in WAITING:
            bid.state, bid.reason = state, reason
            session.add(bid)
    session.flush()


def _release_idle(session: Session) -> None:
    """Matches that rounds made of what is undone come to nothing: the bid has its lease again, or another match."""
    pending = session.exec(select(MatchRow).where(MatchRow.state == "pending").order_by(col(MatchRow.id).desc()))
    taken: set[str] = set()
    for match in pending.all():
        if match.bid in taken or session.get_one(BidRow, match.bid).state not in WAITING:
            match.state, match.reason = "released", "reorganised"
            session.add(match)
        taken.add(match.bid)
    session.flush()


def _follows(row: object) -> bool:
    return getattr(row, "__tablename__", "") in FOLLOWING


def _created(row: Any, block: int) -> ChainChangeRow:
    return ChainChangeRow(block=block, table=row.__tablename__, key=_key(row))


def _changed(row: Any, block: int) -> ChainChangeRow | None:
    before = {}
    for attribute in inspect(row).attrs:
        history = attribute.history
        if history.has_changes() and history.deleted:
            before[attribute.key] = history.deleted[0]
    if not before:
        return None
    return ChainChangeRow(block=block, table=row.__tablename__, key=_key(row), before=json.dumps(before))


def _key(row: Any) -> str:
    mapper = inspect(type(row))
    return json.dumps(getattr(row, mapper.primary_key[0].key))
