"""Rounds as an operator reads them, from the database of a market that may be serving."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from sqlmodel import Session, col, select

from suanli_market.store import Store
from suanli_market.tables import MatchRow, RoundRow
from suanli_protocol.errors import NotFoundError
from suanli_protocol.wire import Json


class PastRounds:
    """The rounds of a --data folder; ConfigurationError if its database is not this version's."""

    def __init__(self, data: Path) -> None:
        self._store = Store.existing(data)
        self._store.require_readable()

    def newest(self, count: int) -> list[Json]:
        """The newest rounds, newest first."""
        with self._store.read() as session:
            rows = session.exec(select(RoundRow).order_by(col(RoundRow.number).desc()).limit(count)).all()
            return [_summary(row, _matches(session, row.number)) for row in rows]

    def one(self, number: int) -> Json:
        """One round with its message and matches; NotFoundError."""
        with self._store.read() as session:
            row = session.get(RoundRow, number)
            if row is None:
                raise NotFoundError(f"there is no round {number}")
            matches = _matches(session, number)
        shown = [
            {"bid": match.bid, "offer": match.offer, "rate": match.rate, "state": match.state, "reason": match.reason}
            for match in matches
        ]
        return {**_summary(row, matches), "round": json.loads(row.message), "matches": shown}

    def lines(self, rounds: Sequence[Json], *, with_matches: bool) -> Iterator[str]:
        """The same for people, times in local time."""
        yield f"{'round':>8}  {'at':<19}  {'log line':>9}  {'matched':>7}  {'opened':>6}  {'returned':>8}"
        for row in rounds:
            at = datetime.fromtimestamp(row["at"] / 1000).strftime("%Y-%m-%d %H:%M:%S")
            counts = f"{row['matched']:>7}  {row['opened']:>6}  {row['released']:>8}"
            yield f"{row['number']:>8}  {at:<19}  {row['lastSeq']:>9}  {counts}"
            for match in row["matches"] if with_matches else ():
                why = f" ({match['reason']})" if match["reason"] else ""
                yield f"  {match['state']}{why}, rate {match['rate']}"
                yield from (f"    bid   {match['bid']}", f"    offer {match['offer']}")


def _matches(session: Session, number: int) -> Sequence[MatchRow]:
    return session.exec(select(MatchRow).where(MatchRow.round == number).order_by(col(MatchRow.position))).all()


def _summary(row: RoundRow, matches: Sequence[MatchRow]) -> Json:
    states = Counter(match.state for match in matches)
    return {
        "number": row.number,
        "hash": row.hash,
        "at": row.at,
        "lastSeq": row.last_seq,
        "matched": len(matches),
        "opened": states["opened"],
        "released": states["released"],
        "pending": states["pending"],
    }
