"""The public record: the admission log, its signed heads, the rounds."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlmodel import col, select

from suanli_market.admission.log import entry_json, head_json
from suanli_market.api.types import After, Number, answer
from suanli_market.services import Market
from suanli_market.tables import EntryRow, HeadRow, MatchRow, RoundRow
from suanli_protocol.errors import NotFoundError

router = APIRouter(prefix="/v1", tags=["record"])
PAGE = 1_000
Seq = Annotated[int, Query(ge=0, lt=2**63)]


@router.get("/log", response_model=list[dict[str, Any]])
def log(first: Seq, last: Seq, market: Market) -> Response:
    """Entries of the admission log with these numbers, at most a thousand."""
    query = (
        select(EntryRow)
        .where(col(EntryRow.seq) >= first, col(EntryRow.seq) <= last)
        .order_by(col(EntryRow.seq))
        .limit(PAGE)
    )
    with market.store.read() as session:
        return answer([entry_json(row) for row in session.exec(query)])


@router.get("/heads", response_model=list[dict[str, Any]])
def heads(market: Market, after: After = 0) -> Response:
    """Signed heads whose last entry has a number above `after`, at most a thousand."""
    query = select(HeadRow).where(col(HeadRow.last_seq) > after).order_by(col(HeadRow.last_seq)).limit(PAGE)
    with market.store.read() as session:
        return answer([head_json(row, market.info.address) for row in session.exec(query)])


@router.get("/rounds/{number}", response_model=dict[str, Any])
def clearing(number: Number, market: Market) -> Response:
    """One round, its hash, and its matches in the order of the leaves of matchesRoot."""
    with market.store.read() as session:
        row = session.get(RoundRow, number)
        if row is None:
            raise NotFoundError(f"there is no round {number}")
        matches = session.exec(select(MatchRow).where(MatchRow.round == number).order_by(col(MatchRow.position))).all()
    content = {
        "round": json.loads(row.message),
        "hash": row.hash,
        "matches": [
            {"bid": match.bid, "offer": match.offer, "rate": match.rate, "index": match.seat_index} for match in matches
        ],
    }
    return answer(content)
