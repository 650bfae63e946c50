"""Ageing: rows that only told of the past leave the database some time after, a slice in each transaction.

The log, its heads, the rounds, and all that a lease came from stay: the audit reads them.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Delete, Update, delete, func, update
from sqlmodel import col, select

from suanli_market.store import Store
from suanli_market.tables import BidRow, ChainStepRow, ChainTransactionRow, EventRow, LeaseRow, MatchRow, OfferRow

KEPT_S = 60 * 86_400  # longer than a paper lives
SLICE = 2_000  # rows in a transaction: others write in between
_WAITING = ("queued", "matched", "leased")


def age_out(store: Store, now: int, *, is_ended: Callable[[], bool] = lambda: False) -> int:
    """Deletes events of KEPT_S before `now` (seconds of Unix UTC), papers that came to nothing and ended as long ago,
    and the calldata of transactions that no reorganisation can bring back; how many rows that were.
    """
    before, aged = now - KEPT_S, 0
    for statement in (_events(before), _offers(before), _bids(before), _calldata()):
        count = SLICE
        while count == SLICE and not is_ended():
            with store.write() as session:
                count = session.connection().execute(statement).rowcount
            aged += count
    return aged


def _events(before: int) -> Delete:
    """The newest stays: the numbers go on from it."""
    newest = select(func.max(EventRow.seq)).scalar_subquery()
    oldest = select(EventRow.seq, EventRow.at).order_by(col(EventRow.seq)).limit(SLICE).subquery()
    old = select(oldest.c.seq).where(oldest.c.at < before * 1000, oldest.c.seq < newest)
    return delete(EventRow).where(col(EventRow.seq).in_(old))


def _offers(before: int) -> Delete:
    leased = select(LeaseRow.offer).where(col(LeaseRow.offer).is_not(None))
    unused = (col(OfferRow.id).not_in(select(MatchRow.offer)), col(OfferRow.id).not_in(leased))
    ended = (OfferRow.state != "open", OfferRow.valid_until < before)
    return delete(OfferRow).where(col(OfferRow.id).in_(select(OfferRow.id).where(*ended, *unused).limit(SLICE)))


def _bids(before: int) -> Delete:
    leased = select(LeaseRow.bid).where(col(LeaseRow.bid).is_not(None))
    unused = (col(BidRow.id).not_in(select(MatchRow.bid)), col(BidRow.id).not_in(leased))
    ended = (col(BidRow.state).not_in(_WAITING), BidRow.valid_until < before)
    return delete(BidRow).where(col(BidRow.id).in_(select(BidRow.id).where(*ended, *unused).limit(SLICE)))


def _calldata() -> Update:
    """Of what was mined before the journal's oldest step, or never will be."""
    row = ChainTransactionRow
    oldest_step = select(func.min(ChainStepRow.block)).scalar_subquery()
    is_final = col(row.block).is_(None) | (col(row.block) <= oldest_step)
    found = select(row.id).where(row.state != "prepared", row.calldata != "", is_final).limit(SLICE)
    return update(row).where(col(row.id).in_(found)).values(calldata="")
