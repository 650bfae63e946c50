"""The admission log's own bookkeeping: entries, their tree, the chain of signed heads, and the proof for each entry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from pydantic_core import from_json, to_json
from sqlmodel import Session, col, select

from suanli_market.store import insert_rows
from suanli_market.tables import EntryRow, HeadRow
from suanli_protocol import wire
from suanli_protocol.log import GENESIS_HEAD, EntryKind, leaf, merkle_paths, merkle_root, next_head
from suanli_protocol.messages import Entry, Head
from suanli_protocol.signing import Domain, Signer


@dataclass(frozen=True, slots=True)
class Line:
    """What is to be logged, before it has a number."""

    kind: EntryKind
    paper: bytes
    reason: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Tip:
    """Where the log ends."""

    seq: int
    head: bytes


def tip_of(session: Session) -> Tip:
    """The end of the log; (0, genesis) if it is empty."""
    row = session.exec(select(HeadRow).order_by(col(HeadRow.last_seq).desc()).limit(1)).first()
    return Tip(row.last_seq, wire.from_hex(row.head)) if row else Tip(0, GENESIS_HEAD)


def head_at(session: Session, last_seq: int) -> bytes:
    """The log's head at the group commit that ends with `last_seq`; genesis before the first."""
    row = session.get(HeadRow, last_seq)
    return wire.from_hex(row.head) if row else GENESIS_HEAD


class AdmissionLog:
    """Writes group commits. One caller at a time: entries are numbered without gaps."""

    def __init__(self, signer: Signer, domain: Domain) -> None:
        self._signer = signer
        self._domain = domain

    def append(self, session: Session, tip: Tip, lines: Sequence[Line], at: int) -> tuple[Tip, list[wire.Json]]:
        """Adds one group commit to the session: its entries with their paths, and its signed head.

        Returns the new end of the log and each entry's acknowledgement.
        """
        entries = [Entry(tip.seq + 1 + i, line.kind, line.paper, line.reason, at) for i, line in enumerate(lines)]
        leaves = [leaf(entry) for entry in entries]
        head = next_head(tip.head, merkle_root(leaves))
        last = tip.seq + len(entries)
        message = Head(self._signer.address, tip.seq + 1, last, head, at)
        signature = self._signer.sign(self._domain, message)
        head_row = {
            "last_seq": last,
            "first_seq": tip.seq + 1,
            "previous": wire.to_hex(tip.head),
            "head": wire.to_hex(head),
            "at": at,
            "signature": wire.to_hex(signature),
        }
        paths = _written(merkle_paths(leaves))
        rows = [
            {
                "seq": entry.seq,
                "kind": int(entry.kind),
                "paper": wire.to_hex(entry.paper),
                "reason": int(entry.reason),
                "received_at": at,
                "last_seq": last,
                "path": to_json(path).decode(),
                "detail": line.detail,
            }
            for entry, path, line in zip(entries, paths, lines, strict=True)
        ]
        insert_rows(session, "log_head", [head_row])
        insert_rows(session, "log_entry", rows)
        common = {
            "previous": head_row["previous"],
            "head": wire.paper_to_json(message),
            "signature": head_row["signature"],
        }
        acks = [
            {
                "entry": wire.paper_to_json(entry),
                "path": path,
                "index": i,
                "paper": wire.to_hex(entry.paper),
                **common,
            }
            for i, (entry, path) in enumerate(zip(entries, paths, strict=True))
        ]
        return Tip(last, head), acks


def _written(paths: Sequence[Sequence[bytes]]) -> list[list[str]]:
    """The paths as the wire has them; most of their nodes stand in many."""
    texts = {node: wire.to_hex(node) for node in set(chain.from_iterable(paths))}
    return [[texts[node] for node in path] for path in paths]


def entry_json(row: EntryRow) -> wire.Json:
    """A line as the wire has it."""
    return wire.paper_to_json(Entry(row.seq, row.kind, wire.from_hex(row.paper), row.reason, row.received_at))


def head_json(row: HeadRow, market: str) -> wire.Json:
    """A head as the wire has it, with its signature."""
    head = Head(market, row.first_seq, row.last_seq, wire.from_hex(row.head), row.at)
    return {"head": wire.paper_to_json(head), "signature": row.signature}


def acknowledgements(session: Session, market: str, seqs: Iterable[int]) -> dict[int, wire.Json]:
    """The proofs of the entries with these numbers, as wire.Acknowledgement has them."""
    rows = session.exec(
        select(EntryRow, HeadRow)
        .join(HeadRow, col(EntryRow.last_seq) == col(HeadRow.last_seq))
        .where(col(EntryRow.seq).in_(list(seqs)))
    )
    return {entry.seq: _acknowledgement(entry, head, market) for entry, head in rows}


def _acknowledgement(entry: EntryRow, head: HeadRow, market: str) -> wire.Json:
    return {
        "entry": entry_json(entry),
        "path": from_json(entry.path),
        "index": entry.seq - head.first_seq,
        "previous": head.previous,
        **head_json(head, market),
        "paper": entry.paper,
    }
