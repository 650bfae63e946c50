"""The indexer follows the chain: blocks to events, events to rows, rows and cursor in one transaction.

It resumes where its cursor stands. If the cursor's block is no longer the chain's, a reorganisation came between: the
journal undoes what the lost blocks had changed, and the new ones are read in their place. A chain that shares no block
with the journal any more is another chain (a devnet that was reset): the market then halts and says so.

Now and then every open lease is held against its word on the chain, so that even an event that never arrived is made
up for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import update
from sqlmodel import Session, col, select

from suanli_market.chain import journal
from suanli_market.chain.projection import Projection, Stretch
from suanli_market.clearing.keeper import Keeper
from suanli_market.events import EVERYBODY, note
from suanli_market.leasing.leases import OPEN_STATES, state_of
from suanli_market.settings import FINALIZED
from suanli_market.store import Store
from suanli_market.tables import ChainStepRow, ChainTransactionRow, CursorRow, LeaseRow, MatchRow, ReceiptRow
from suanli_protocol import faults, wire
from suanli_protocol.errors import ChainError, ChainUnavailableError, SuanliError
from suanli_protocol.escrow import Account, Block, Chain, Escrow
from suanli_protocol.events import (
    EscrowEvent,
    Finalized,
    Opened,
    Reclaimed,
    Refused,
    Released,
    Resolved,
    Settled,
)

RANGE_BLOCKS = 2_000
RECONCILE_S = 120.0
OUTCOMES_S = 10.0

DATED = Opened | Settled | Released | Finalized | Resolved | Reclaimed  # the times of their blocks are kept

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
        confirmations: int,
        poll_s: float,
        on_undone: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._on_lost = on_lost  # the writer looks up its nonce again
        self._on_undone = on_undone  # book and writer start anew from the tables
        self._store, self._keeper = store, keeper
        self._chain, self._escrow, self._projection = chain, escrow, projection
        self._confirmations, self._poll_s = confirmations, poll_s
        self._news = threading.Event()
        self._stopping = False
        self._reconcile_due = self._outcomes_due = 0.0
        self._missing: int | None = None  # the nonce that the last look missed
        self._stepping = threading.Lock()
        self._cursor = _Cursor(0, b"", 0)  # until `begin`
        self._thread = threading.Thread(target=self._run, name="indexer", daemon=True)

    def begin(self) -> None:
        """Takes up the chain at the cursor, then catches up with it; before `start`."""
        with self._store.write() as session:
            row = session.get_one(CursorRow, 1)
            journal.add_step(session, row.block, row.block_hash, row.opened)
        self._cursor = _Cursor(row.block, wire.from_hex(row.block_hash), row.opened)
        self.catch_up()
        self._keeper.advance(self._chain.block(self._cursor.block), None, [])

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

    def reconcile(self) -> int:
        """Holds every open lease, and what waits to be opened, against the chain; how many were behind until now."""
        with self._stepping:
            behind = self._behind()
            for lease, first in behind:
                self._read_again(lease, first)
        return len(behind) + self.read_outcomes()

    def read_outcomes(self) -> int:
        """Looks up own transactions whose rows still wait for their word; how many there were."""
        with self._stepping:
            unanswered = self._unanswered()
            for transaction in unanswered:
                self._read_outcome(transaction)
        return len(unanswered)

    def look_for_lost(self) -> None:
        """Has the writer carry again what was mined in a block that is no more, and that never counted.

        The key's own count tells, whatever the transactions were for. An endpoint that lags may tell the same once.
        """
        with self._stepping:
            missing = self._missing_nonce()
        if missing is not None and missing == self._missing:
            log.warning("the transaction with nonce %d was lost with its block and is sent again", missing)
            self._on_lost()
        self._missing = missing

    def _run(self) -> None:
        delay = self._poll_s
        while not self._stopping:
            self._news.wait(delay)
            self._news.clear()
            try:
                self.catch_up()
                delay = self._poll_s
                if time.monotonic() >= self._outcomes_due:
                    self._outcomes_due = time.monotonic() + OUTCOMES_S
                    self.read_outcomes()
                    self.look_for_lost()
                if time.monotonic() >= self._reconcile_due:
                    self._reconcile_due = time.monotonic() + RECONCILE_S
                    self.reconcile()
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

    def _step(self) -> bool:
        """One stretch of blocks; False if there was nothing new, or nothing is left."""
        cursor, tip = self._cursor, self._tip()
        if not self._is_same_chain(cursor, tip):
            self._undo(tip)
            return True
        if tip.number <= cursor.block:
            return False  # nothing new, or an endpoint that is behind the one that answered before
        last = min(cursor.block + RANGE_BLOCKS, tip.number)
        block = tip if last == tip.number else self._chain.block(last)
        events = self._escrow.events(cursor.block + 1, last)
        stretch = self._stretch(events, block)
        with self._store.write() as session:
            with journal.recorded(session, last):
                step = self._projection.apply(session, stretch, cursor.opened)
            journal.add_step(session, last, wire.to_hex(block.hash), step.opened)
            self._move(session, block, step.opened)
            faults.reach("market.blocks.projected")
        faults.reach("market.blocks.committed")
        self._cursor = _Cursor(block.number, block.hash, step.opened)
        self._keeper.advance(block, step.touched, step.changes, self._read_accounts(step.touched or (), block))
        return last < tip.number

    def _read_accounts(self, touched: Iterable[str], block: Block) -> dict[str, Account]:
        """What those who wait for the step would read next."""
        try:
            return self._keeper.accounts.read(touched, block.number)
        except ChainError:
            return {}  # they try it themselves

    def _stretch(self, events: Sequence[EscrowEvent], block: Block) -> Stretch:
        """The events with the times that their projection needs; `block` is one whose time is known."""
        dated = {event.block for event in events if isinstance(event, DATED)}
        times = {number: (block if number == block.number else self._chain.block(number)).timestamp for number in dated}
        return Stretch(events, times)

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

    def _is_same_chain(self, cursor: _Cursor, tip: Block) -> bool:
        """Whether the cursor's block is still the chain's. A step that brings nothing costs no call.

        A tip below the cursor says nothing yet: only a known block with another hash is another history.
        """
        if tip.number < cursor.block:
            return self._is_behind(tip)
        if tip.number == cursor.block + 1:
            return tip.parent == cursor.block_hash
        here = tip if tip.number == cursor.block else self._chain.block(cursor.block)
        return here.hash == cursor.block_hash

    def _is_behind(self, tip: Block) -> bool:
        """Whether a tip below the cursor is of the same chain, as far as the steps that are kept can tell."""
        with self._store.read() as session:
            steps = journal.steps(session, up_to=tip.number, limit=1)
            genesis = session.get_one(CursorRow, 1).genesis
        if steps and steps[0].block == tip.number:
            return steps[0].block_hash == wire.to_hex(tip.hash)
        if steps:
            return self._has(steps[0])
        return wire.to_hex(self._chain.genesis()) == genesis

    def _undo(self, tip: Block) -> None:
        """Goes back to the newest step that the chain still has; ChainResetError if it has none of them."""
        with self._store.read() as session:
            steps = journal.steps(session, up_to=tip.number)
        kept = next((step for step in steps if self._has(step)), None)
        if kept is None:
            raise reset_error(f"the chain has none of the blocks that were seen before, up to {self._cursor.block}")
        log.warning("the chain was reorganised: blocks %d to %d are read again", kept.block + 1, self._cursor.block)
        block = self._chain.block(kept.block)
        with self._store.write() as session:
            journal.undo(session, kept.block)
            self._move(session, block, kept.opened)
            data = {"block": kept.block, "before": self._cursor.block}
            note(session, [EVERYBODY], "chain.reorganised", data=data)
        faults.reach("market.blocks.undone")
        self._cursor = _Cursor(kept.block, block.hash, kept.opened)
        self._on_undone()
        self._keeper.advance(block, None, [])

    def _has(self, step: ChainStepRow) -> bool:
        """Whether the chain still has the step's block; LackingError if the endpoint cannot tell now."""
        return wire.to_hex(self._chain.block(step.block).hash) == step.block_hash

    def _behind(self) -> list[tuple[str, int]]:
        """The open leases of this market whose word on the chain is another than their row says, with their block."""
        with self._store.read() as session:
            query = select(LeaseRow).where(col(LeaseRow.state).in_(OPEN_STATES), col(LeaseRow.bid).is_not(None))
            known = [(row.id, row.block, state_of(session, row)) for row in session.exec(query)]
        block = self._cursor.block
        return [
            (lease, first)
            for lease, first, state in known
            if self._escrow.seat(state.lease.seat_key, block=block) != state.word
        ]

    def _read_again(self, lease: str, first: int) -> None:
        """Applies a lease's own events once more: each says a total, so the second time does no harm."""
        block = self._chain.block(self._cursor.block)
        found = self._escrow.events_of_lease(wire.from_hex(lease), first, block.number)
        events = [event for event in found if not isinstance(event, Opened)]
        log.error("lease %s was behind the chain: %d of its events are applied again", lease, len(events))
        self._apply_late(events, block)

    def _missing_nonce(self) -> int | None:
        """The next nonce of this market's key, if a transaction with it was mined once."""
        with self._store.read() as session:
            mined = select(ChainTransactionRow.nonce).where(col(ChainTransactionRow.state).in_(("mined", "failed")))
            last = session.exec(mined.order_by(col(ChainTransactionRow.id).desc()).limit(1)).first()
            market = session.get_one(CursorRow, 1).market
        if last is None:
            return None
        following = self._chain.nonce(market, "latest")
        return following if following <= last else None

    def _unanswered(self) -> list[str]:
        """Own transactions that were mined once, with a match or a receipt that still waits for their word."""
        sent = select(ChainTransactionRow.hash).where(ChainTransactionRow.state == "mined").distinct()
        opened = sent.join(MatchRow, col(MatchRow.transaction) == ChainTransactionRow.id)
        settled = sent.join(ReceiptRow, col(ReceiptRow.transaction) == ChainTransactionRow.id)
        with self._store.read() as session:
            found = [*session.exec(opened.where(MatchRow.state == "pending"))]
            found += session.exec(settled.where(ReceiptRow.state == "queued"))
        return [hash_ for hash_ in dict.fromkeys(found) if hash_ is not None]

    def _read_outcome(self, transaction: str) -> None:
        """Applies what an opening of this market's became, unless its leases are known already."""
        block, mined = self._chain.block(self._cursor.block), self._chain.receipt(wire.from_hex(transaction))
        if mined is None:
            self._carry_again(transaction)
            return
        if mined.block > block.number:
            return
        with self._store.read() as session:
            known = set(session.exec(select(LeaseRow.id).where(LeaseRow.transaction == transaction)))
        events = [
            event
            for event in self._escrow.events_of(mined)
            if isinstance(event, Refused) or (isinstance(event, Opened) and wire.to_hex(event.lease_id) not in known)
        ]
        log.error("the outcome of %s was missed: %d events are applied now", transaction, len(events))
        self._apply_late(events, block)

    def _carry_again(self, transaction: str) -> None:
        """A transaction that was mined and is no more: it is carried to the chain once more, by its own nonce.

        The journal knows no block that was lost before it counted.
        """
        log.warning("the transaction %s was lost with its block and is sent again", transaction)
        with self._store.write() as session:
            lost = (col(ChainTransactionRow.hash) == transaction, col(ChainTransactionRow.state) == "mined")
            session.execute(update(ChainTransactionRow).where(*lost).values(**journal.UNDER_WAY))
        self._on_lost()

    def _apply_late(self, events: Sequence[EscrowEvent], block: Block) -> None:
        """Applies events of blocks before the cursor, as part of its step."""
        stretch = self._stretch(events, block)
        with self._store.write() as session:
            with journal.recorded(session, block.number):
                step = self._projection.apply(session, stretch, self._cursor.opened)
            journal.add_step(session, block.number, wire.to_hex(block.hash), step.opened)
            self._move(session, block, step.opened)
        self._cursor = _Cursor(block.number, block.hash, step.opened)
        self._keeper.advance(block, step.touched, step.changes)

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
