"""Admission's rows: what the log already says about papers, new papers, withdrawals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from sqlmodel import Session, col, select

from suanli_market.admission.log import Line, acknowledgements
from suanli_market.admission.papers import BidPaper, OfferPaper
from suanli_market.admission.submissions import Submission, Withdrawal
from suanli_market.clearing.book import Change, Left
from suanli_market.events import note
from suanli_market.store import insert_rows
from suanli_market.tables import BidRow, EntryRow, OfferRow
from suanli_protocol import wire
from suanli_protocol.errors import MarketError, NotFoundError
from suanli_protocol.log import EntryKind, ReasonCode

Row = dict[str, Any]  # inserted in bulk: the ORM's objects would cost more than the signatures


@dataclass(frozen=True, slots=True)
class Past:
    """The acknowledgements that exist for a group's papers, by (kind, paper, reason)."""

    known: dict[tuple[int, bytes, int], wire.Json]

    @classmethod
    def of(cls, session: Session, papers: Iterable[bytes], market: str) -> Past:
        """What the log says about the papers."""
        wanted = [wire.to_hex(paper) for paper in set(papers)]
        query = select(EntryRow.seq).where(col(EntryRow.paper).in_(wanted))
        found = session.connection().execute(query).scalars().all()  # past the ORM: nearly always there is nothing
        if not found:
            return cls({})
        rows = session.exec(select(EntryRow).where(col(EntryRow.seq).in_(found))).all()
        acks = acknowledgements(session, market, [row.seq for row in rows])
        return cls({(row.kind, wire.from_hex(row.paper), row.reason): acks[row.seq] for row in rows})

    def admitted(self, submission: Submission) -> wire.Json | None:
        """The acknowledgement of a paper that was admitted before."""
        match submission:
            case OfferPaper():
                return self.known.get((EntryKind.OFFER, submission.id, ReasonCode.NONE))
            case BidPaper():
                return self.known.get((EntryKind.BID, submission.id, ReasonCode.NONE))
            case _:
                return None

    def same(self, line: Line) -> wire.Json | None:
        """The acknowledgement of the same line."""
        return self.known.get((line.kind, line.paper, line.reason))


def insert_papers(session: Session, admitted: Sequence[tuple[Submission, int]], at: int, now: int) -> None:
    """Adds rows for admitted papers (`at` in ms, `now` in s of Unix UTC) and tells the bidders."""
    offers = [_offer_row(paper, seq, at) for paper, seq in admitted if isinstance(paper, OfferPaper)]
    bids = [_bid_row(paper, seq, at, now) for paper, seq in admitted if isinstance(paper, BidPaper)]
    if offers:
        insert_rows(session, "offer", offers)
    if bids:
        insert_rows(session, "bid", bids)
    for bid in bids:
        note(session, [bid["consumer"]], "bid.queued", bid=bid["id"])


def _offer_row(paper: OfferPaper, seq: int, at: int) -> Row:
    return {
        "id": wire.to_hex(paper.id),
        "seq": seq,
        "provider": paper.party,
        "paper": to_json(wire.paper_to_json(paper.paper)).decode(),
        "signature": wire.to_hex(paper.signature),
        "attributes": paper.document.decode(),
        "valid_until": paper.paper.valid_until,
        "received_at": at,
        "state": "open",
    }


def _bid_row(paper: BidPaper, seq: int, at: int, now: int) -> Row:
    return {
        "id": wire.to_hex(paper.id),
        "seq": seq,
        "consumer": paper.party,
        "seat": wire.to_hex(paper.paper.seat),
        "paper": to_json(wire.paper_to_json(paper.paper)).decode(),
        "signature": wire.to_hex(paper.signature),
        "constraints": paper.constraints.canonical().decode(),
        "job_digest": wire.to_hex(paper.job_digest),
        "valid_until": paper.paper.valid_until,
        "received_at": at,
        "state": "queued",
        "reason": "",
        "lease": None,
        "rejections": "[]",
        "judged": False,
        "queued_at": now,
        "attempt": 1,
        "spent": "0",
        "previous": "",
    }


def withdrawal_line(session: Session, withdrawal: Withdrawal) -> Line:
    """The line of a withdrawal; NotFoundError if the paper is not the party's, MarketError if it is too late."""
    row = _own_row(session, withdrawal)
    if row.state not in ("open", "queued", "withdrawn"):
        raise MarketError(f"the {withdrawal.kind} is {row.state} already and cannot be withdrawn", code="too_late")
    return Line(EntryKind.WITHDRAW, withdrawal.id, ReasonCode.BY_ITS_SIGNER)


def withdraw(session: Session, withdrawal: Withdrawal) -> Change:
    """Takes the paper off the book."""
    row = _own_row(session, withdrawal)
    row.state = "withdrawn"
    session.add(row)
    return Left(withdrawal.id)


def leave(session: Session, papers: Iterable[bytes]) -> list[bytes]:
    """Takes papers off a full book, as if their time were over, and tells their parties; those that were open."""
    left: list[bytes] = []
    for paper in papers:
        id_ = wire.to_hex(paper)
        row = session.get(OfferRow, id_) or session.get(BidRow, id_)
        if row is None or row.state not in ("open", "queued"):
            continue
        row.state = "expired"
        if isinstance(row, BidRow):
            row.reason = "book_full"
            data = {"reason": row.reason, "rejections": [], "considered": 0}
            note(session, [row.consumer], "bid.expired", bid=id_, data=data)
        else:
            note(session, [row.provider], "offer.expired", data={"offer": id_})
        session.add(row)
        left.append(paper)
    return left


def _own_row(session: Session, withdrawal: Withdrawal) -> OfferRow | BidRow:
    id_ = wire.to_hex(withdrawal.id)
    if withdrawal.kind == "offer":
        offer = session.get(OfferRow, id_)
        if offer is not None and offer.provider == withdrawal.party:
            return offer
    else:
        bid = session.get(BidRow, id_)
        if bid is not None and bid.consumer == withdrawal.party:
            return bid
    raise NotFoundError(f"no {withdrawal.kind} {id_} of {withdrawal.party}")
