"""The census: every lease that the escrow opened on this node's offers, from the chain's events alone.

They are read on from a stored block, so many at a time, filtered by the provider, up to the newest block: what is not
final yet may have to be ended before it is, and to end what a reorganisation takes back is a transaction that fails.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from suanli_node.engine.runs import write_json
from suanli_node.leases.standing import Standing, block_before, history_reader, stand
from suanli_node.leases.verification import Assignment, read_bare
from suanli_protocol import wire
from suanli_protocol.chain import Block
from suanli_protocol.documents import hex32
from suanli_protocol.escrow import Escrow
from suanli_protocol.events import Opened
from suanli_protocol.lease_history import read_history
from suanli_protocol.lease_lookup import read_papers

BLOCKS_MAX = 20_000  # that are read at one look
OVERLAP_BLOCKS = 64  # read again, should a reorganisation have put something else into them
NO_DOCUMENT = "0x" + "00" * 32
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """An opening, and when it was first seen here (monotonic seconds)."""

    opened: Opened
    seen_at: float = field(default_factory=time.monotonic)

    @property
    def lease(self) -> str:
        """The lease's id, 0x and hex."""
        return hex32(self.opened.lease_id)


class Census:
    """Reads openings on. `lookback_s`: how long a lease can be open."""

    def __init__(self, escrow: Escrow, provider: str, path: Path, *, lookback_s: int) -> None:
        self._escrow, self._provider, self._path, self._lookback_s = escrow, provider, path, lookback_s
        self._next: int | None = None  # the first block that was not read
        self._stored: int | None = None
        self._recent: dict[bytes, int] = {}  # what was found in the blocks that are read again, and where
        self._found: dict[bytes, Found] = {}

    def read_on(self, is_known: Callable[[str], bool]) -> list[Found]:
        """The openings so far that are not known otherwise; ChainError if the chain does not say."""
        newest = self._escrow.chain.block("latest")
        last = newest.number
        if self._next is None:
            self._next = self._stored = self._begin(newest)
        until = min(last, self._next + BLOCKS_MAX - 1)
        if until >= self._next:
            first = max(0, self._next - OVERLAP_BLOCKS)
            self._add(self._escrow.openings_of(self._provider, first, until))
            self._next = until + 1
            self._recent = {lease: at for lease, at in self._recent.items() if at > until - OVERLAP_BLOCKS}
        for found in list(self._found.values()):
            if is_known(found.lease):
                self.forget(found)
        self._store()
        return list(self._found.values())

    def forget(self, found: Found) -> None:
        """It is driven, or was closed."""
        self._found.pop(found.opened.lease_id, None)

    def is_closed(self, found: Found) -> bool:
        """Whether its events say that it is over, for one whose papers cannot be had."""
        last = self._escrow.chain.block("latest").number
        return read_history(self._escrow, found.opened.lease_id, found.opened.block, last).closed_by is not None

    def view(self, found: Found) -> wire.LeaseView:
        """What the chain has of a lease, in the form in which a market tells it; without documents.

        IntegrityError if the papers are not to be found in the transaction.
        """
        opened, papers = found.opened, read_papers(self._escrow, found.opened)
        attempt, spent = papers.attempt
        return wire.LeaseView(
            id=found.lease,
            number=0,
            bid=wire.paper_to_json(papers.opening.bid),
            bid_signature=wire.to_hex(papers.opening.signature),
            offer=wire.paper_to_json(papers.fill.offer),
            offer_signature=wire.to_hex(papers.fill.signature),
            attributes={},
            constraints={},
            job_digest=NO_DOCUMENT,
            rate=str(papers.fill.rate),
            index=papers.fill.index,
            attempt=attempt,
            spent=str(spent),
            opened_at=papers.state.clauses.opened_at,
            block=opened.block,
            block_hash=hex32(opened.block_hash),
            transaction=hex32(opened.transaction),
            state="open",
            phase="leased",
        )

    def assignment(self, view: wire.LeaseView) -> Assignment:
        """The assignment of such a view."""
        return read_bare(view, self._provider)

    def stand(self, assignment: Assignment) -> Standing:
        """How a lease stands at the newest block."""
        return stand(assignment, self._escrow.seat, history_reader(self._escrow, "latest"))

    def _begin(self, newest: Block) -> int:
        """The stored block; at first one that was made before any lease that can be open now."""
        try:
            return min(newest.number + 1, max(0, int(json.loads(self._path.read_bytes())["next"])))
        except (OSError, ValueError, KeyError, TypeError):
            return block_before(self._escrow.chain, newest.timestamp - self._lookback_s, newest.number)

    def _add(self, openings: list[Opened]) -> None:
        for opened in openings:
            if opened.lease_id not in self._recent:
                self._recent[opened.lease_id] = opened.block
                self._found[opened.lease_id] = Found(opened)

    def _store(self) -> None:
        """What is not known otherwise yet is read again by the next process."""
        following = min([found.opened.block for found in self._found.values()] + [self._next or 0])
        if following != self._stored:
            write_json(self._path, {"next": following})
            self._stored = following
