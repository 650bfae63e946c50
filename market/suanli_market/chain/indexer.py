"""The indexer follows the chain: blocks to events, events to rows, rows and cursor in one transaction.

It resumes where its cursor stands, and knows the chain again by genesis and by the cursor's block: if either is
another, the devnet was reset, and nothing in the database is true of it. The market then halts and says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from suanli_market.chain.projection import Projection, Stretch
from suanli_market.clearing.keeper import Keeper
from suanli_market.events import EVERYBODY, note
from suanli_market.settings import FINALIZED
from suanli_market.store import Store
from suanli_market.tables import CursorRow
from suanli_protocol import faults, wire
from suanli_protocol.errors import ChainError, ChainUnavailableError, SuanliError
from suanli_protocol.escrow import Block, Chain, Escrow
from suanli_protocol.events import EscrowEvent, Opened, Refused, Released, Settled, SettlementRefused

RANGE_BLOCKS = 2_000
RESTLESS_S = 2.0  # how long after activity the chain is asked at the fast pace
IDLE_FACTOR = 4

log = logging.getLogger(__name__)


class ChainResetError(ChainError):
    """The chain is not the one that this market's database is about."""

    code, title, http_status, retryable = "chain_reset", "The chain was reset", 503, False


@dataclass(frozen=True, slots=True)
class _Cursor:
    """The cursor's row, as this thread, its only writer, knows it."""

    block: int
    block_hash: bytes
    opened: int


class Indexer:
    """The thread that follows one escrow."""

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        chain: Chain,
        escrow: Escrow,
        projection: Projection,
        *,
        market: str,
        confirmations: int,
        poll_s: float,
    ) -> None:
        self._store, self._keeper = store, keeper
        self._chain, self._escrow, self._projection = chain, escrow, projection
        self._market = market
        self._confirmations, self._poll_s = confirmations, poll_s
        self._news = threading.Event()
        self._stopping = False
        self._active_until = 0.0
        self._stepping = threading.Lock()
        self._cursor = _Cursor(0, b"", 0)  # until `begin`
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)

    def begin(self) -> None:
        """Takes up the chain at the cursor, then catches up with it; before `start`."""
        with self._store.read() as session:
            row = session.get_one(CursorRow, 1)
        block = self._chain.block(row.block)
        self._cursor = _Cursor(row.block, wire.from_hex(row.block_hash), row.opened)
        self._keeper.advance(block, None, [])
        self.catch_up()

    def start(self) -> None:
        """Begins to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the step at hand."""
        self._stopping = True
        self._news.set()
        self._thread.join(timeout=10)

    def wake(self) -> None:
        """Something was sent: look now."""
        self._news.set()

    def catch_up(self) -> None:
        """Follows to the newest block that counts; ChainUnavailableError, ChainResetError."""
        with self._stepping:
            while self._step():
                pass

    def _run(self) -> None:
        delay = self._poll_s
        while not self._stopping:
            self._news.wait(delay)
            self._news.clear()
            try:
                self.catch_up()
                delay = self._pace()
            except ChainResetError as error:
                self._halt(error)
                return
            except ChainUnavailableError as error:
                delay = min(5.0, max(delay * 2, 0.1))
                log.warning("the chain does not answer: %s", error.detail)
            except SuanliError as error:
                delay = 1.0
                log.error("a step along the chain failed: %s", error.detail)
            except Exception:
                delay = 1.0
                log.exception("a step along the chain failed")

    def _pace(self) -> float:
        active = time.monotonic() < self._active_until
        return self._poll_s if active else self._poll_s * IDLE_FACTOR

    def _step(self) -> bool:
        """One stretch of blocks; False if there was nothing new."""
        cursor, tip = self._cursor, self._tip()
        self._check_same_chain(cursor, tip)
        if tip.number <= cursor.block:
            return False
        last = min(cursor.block + RANGE_BLOCKS, tip.number)
        block = tip if last == tip.number else self._chain.block(last)
        events = self._escrow.events(cursor.block + 1, last)
        dated = {event.block for event in events if isinstance(event, Opened | Settled | Released)}
        times = {number: (block if number == last else self._chain.block(number)).timestamp for number in dated}
        stretch = Stretch(events, times, self._own(events))
        with self._store.write() as session:
            step = self._projection.apply(session, stretch, cursor.opened)
            self._move(session, block, step.opened)
            faults.reach("market.blocks.projected")
        faults.reach("market.blocks.committed")
        self._cursor = _Cursor(block.number, block.hash, step.opened)
        self._keeper.advance(block, step.touched, step.changes)
        self._keeper.refresh(step.touched or ())
        if events:
            self._active_until = time.monotonic() + RESTLESS_S
        return True

    def _own(self, events: Sequence[EscrowEvent]) -> frozenset[bytes]:
        """This market's transactions among those that left something out."""
        asked = {event.transaction for event in events if isinstance(event, Refused | SettlementRefused)}
        return frozenset(hash_ for hash_ in asked if self._chain.transaction(hash_).sender == self._market)

    def _move(self, session: Session, block: Block, opened: int) -> None:
        row = session.get_one(CursorRow, 1)
        row.block, row.block_hash, row.opened = block.number, wire.to_hex(block.hash), opened
        session.add(row)

    def _tip(self) -> Block:
        if self._confirmations == FINALIZED:
            return self._chain.block("finalized")
        latest = self._chain.block("latest")
        if self._confirmations == 0:
            return latest
        return self._chain.block(max(0, latest.number - self._confirmations))

    def _check_same_chain(self, cursor: _Cursor, tip: Block) -> None:
        """ChainResetError unless the cursor's block is still the chain's. A step that brings nothing costs no call."""
        if tip.number < cursor.block:
            raise reset_error(f"the chain ends at block {tip.number}, block {cursor.block} was seen before")
        here = tip if tip.number == cursor.block else self._chain.block(cursor.block)
        if here.hash != cursor.block_hash:
            raise reset_error(f"block {cursor.block} is not the one that was seen before")

    def _halt(self, error: ChainResetError) -> None:
        log.error("%s; %s", error.detail, error.hint)
        self._keeper.halted = error
        with self._store.write() as session:
            note(session, [EVERYBODY], "chain.reset", data={"detail": error.detail})


def reset_error(detail: str) -> ChainResetError:
    """The error with what to do."""
    return ChainResetError(
        detail,
        hint="if the devnet was reset, stop the market and start it with a new --data folder and the new escrow",
    )
