"""The chain writer: the one sender of this market's transactions, with its own nonces and batches.

Each batch is written down before it is sent. What became of it is never guessed: the indexer reads the chain's answer,
and after a break everything that the chain has not answered is sent again; the seat guards against a second time.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from suanli_market.admission.papers import bid_of, offer_of
from suanli_market.chain.duties import DUTIES, Duties
from suanli_market.clearing.keeper import Keeper
from suanli_market.events import now_ms
from suanli_market.leasing.leases import OPEN_STATES, progress_of, terms_of
from suanli_market.store import Store
from suanli_market.tables import BidRow, ChainTransactionRow, LeaseRow, MatchRow, OfferRow, ReceiptRow, RoundRow
from suanli_protocol import faults, wire
from suanli_protocol.errors import ChainRevertedError, ChainUnavailableError, SuanliError
from suanli_protocol.escrow import Chain, Escrow, Fill, Opening, Settlement, TxReceipt
from suanli_protocol.messages import Receipt
from suanli_protocol.signing import Signer

BATCH_MAX = 100
GAS_BASE = 150_000
GAS_PER_OPENING = 150_000
GAS_PER_SETTLEMENT = 140_000
GAS_PER_DUTY = 200_000
GAS_MAX = 16_000_000  # a transaction may use at most 16,777,216
RECEIPT_TIMEOUT_S = 120.0
TICK_S = 1.0
FEES_S = 1.0  # for which fees are good
SETTLE_PAUSE_S = 0.1  # between settlements: what is countersigned meanwhile goes with the next

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """One transaction to be: its calldata, and the rows that it carries."""

    kind: str
    calldata: bytes
    gas: int
    rows: tuple[int | str, ...]  # ids of matches, or of leases


class ChainWriter:
    """The thread that sends."""

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        chain: Chain,
        escrow: Escrow,
        signer: Signer,
        *,
        on_mined: Callable[[], None],
        catch_up: Callable[[], None],
    ) -> None:
        self._store, self._keeper, self._chain, self._escrow, self._signer = store, keeper, chain, escrow, signer
        self._on_mined, self._catch_up = on_mined, catch_up
        self._work = threading.Event()
        self._stopping = False
        self._limit = BATCH_MAX
        self._nonce: int | None = None
        self._settle_at, self._is_settling_put_off = 0.0, False  # not before (monotonic)
        self._fees = (-FEES_S, (0, 0))  # when they were asked for (monotonic), and what they were
        self._is_lost = True  # what was sent before is not known yet
        self._duties = Duties(store)
        self._thread = threading.Thread(target=self._run, name="chain-writer", daemon=True)

    def start(self) -> None:
        """Begins to send what waits."""
        self._thread.start()

    def stop(self) -> None:
        """Ends after the transaction at hand."""
        self._stopping = True
        self._work.set()
        self._thread.join(timeout=10)

    def wake(self) -> None:
        """There is work."""
        self._work.set()

    def start_anew(self) -> None:
        """The chain lost blocks: what was sent is looked up again before anything else is."""
        self._is_lost = True
        self._work.set()

    def _run(self) -> None:
        delay = 0.0
        while not self._stopping:
            self._work.wait(self._patience())
            self._work.clear()
            if self._keeper.halted is not None:
                continue
            try:
                if self._is_lost:
                    self._is_lost = False
                    self._resume()
                self._drain()
                delay = 0.0
            except ChainUnavailableError as error:
                self._is_lost, delay = True, min(5.0, max(0.1, delay * 2))
                log.warning("nothing can be sent, trying again in %.1f s: %s", delay, error.detail)
            except SuanliError as error:
                self._is_lost, delay = True, min(5.0, max(0.1, delay * 2))
                log.error("a transaction failed: %s %s", error.detail, error.hint)
            except Exception:
                self._is_lost, delay = True, 1.0
                log.exception("the chain writer failed")
            if delay:
                time.sleep(delay)
                self._work.set()

    def _patience(self) -> float:
        return max(0.0, self._settle_at - time.monotonic()) if self._is_settling_put_off else TICK_S

    def _drain(self) -> None:
        """Sends what waits; what comes to wait meanwhile rings."""
        self._is_settling_put_off = False
        is_more = True
        while is_more and not self._stopping and self._keeper.halted is None:
            limit = self._limit
            found = (self._openings(), self._settlements(), self._duty())
            batches = [batch for batch in found if batch is not None]
            for batch in batches:
                self._carry_out(batch)
            is_more = any(batch.kind in DUTIES or len(batch.rows) == limit for batch in batches)

    # What waits

    def _openings(self) -> Batch | None:
        with self._store.read() as session:
            found = session.exec(
                select(MatchRow, BidRow, OfferRow, RoundRow.hash)
                .join(BidRow, col(BidRow.id) == MatchRow.bid)
                .join(OfferRow, col(OfferRow.id) == MatchRow.offer)
                .join(RoundRow, col(RoundRow.number) == MatchRow.round)
                .where(MatchRow.state == "pending", col(MatchRow.transaction).is_(None))
                .order_by(col(MatchRow.id))
                .limit(self._limit)
            ).all()
        if not found:
            return None
        openings = [_opening(match, bid, offer) for match, bid, offer, _ in found]
        calldata = self._escrow.encode_open(wire.from_hex(found[-1][3]), openings)
        gas = min(GAS_MAX, GAS_BASE + GAS_PER_OPENING * len(openings))
        return Batch("open", calldata, gas, tuple(match.id or 0 for match, _, _, _ in found))

    def _settlements(self) -> Batch | None:
        if time.monotonic() < self._settle_at:
            self._is_settling_put_off = True
            return None
        with self._store.read() as session:
            found = session.exec(
                select(ReceiptRow, LeaseRow)
                .join(LeaseRow, col(LeaseRow.id) == ReceiptRow.lease)
                .where(
                    ReceiptRow.state == "queued",
                    col(ReceiptRow.transaction).is_(None),
                    col(LeaseRow.state).in_(OPEN_STATES),
                )
                .order_by(col(LeaseRow.number))
                .limit(self._limit)
            ).all()
            settlements = [_settlement(session, receipt, lease) for receipt, lease in found]
        if not settlements:
            return None
        self._settle_at = time.monotonic() + SETTLE_PAUSE_S
        gas = min(GAS_MAX, GAS_BASE + GAS_PER_SETTLEMENT * len(settlements))
        return Batch("settle", self._escrow.encode_settle(settlements), gas, tuple(row.id for _, row in found))

    def _duty(self) -> Batch | None:
        """The next lease that time alone ends: nobody else may do it, and both parties' money waits for it."""
        duty = self._duties.next(self._keeper.now())
        if duty is None:
            return None
        calldata = self._escrow.encode_way_out(duty.change, duty.lease, duty.clauses, duty.progress)
        return Batch(duty.change, calldata, GAS_PER_DUTY, (duty.id,))

    # One transaction

    def _carry_out(self, batch: Batch) -> None:
        if self._nonce is None:
            self._nonce = self._chain.nonce(self._signer.address)
        intent = self._intend(batch, self._nonce)
        faults.reach(f"market.{batch.kind}.intended")
        transaction = self._escrow.send(
            self._signer, batch.calldata, gas=batch.gas, nonce=self._nonce, fees=self._fees_now()
        )
        self._nonce += 1
        faults.reach(f"market.{batch.kind}.sent")
        try:
            receipt = self._escrow.wait(transaction, RECEIPT_TIMEOUT_S)
        except ChainRevertedError as error:
            self._give_back(intent, "failed", error.detail)
            if batch.kind in DUTIES:
                self._on_mined()  # somebody else may have done it
                return
            self._limit = max(1, self._limit // 2)
            raise
        self._on_mined()
        faults.reach(f"market.{batch.kind}.mined")
        self._mark_mined(intent, receipt)
        faults.reach(f"market.{batch.kind}.marked")
        self._limit = min(BATCH_MAX, self._limit * 2)

    def _fees_now(self) -> tuple[int, int]:
        """The chain's fees, asked for once in a while: they leave room for the base fee to double."""
        at, fees = self._fees
        if time.monotonic() - at > FEES_S:
            fees = self._chain.fees()
            self._fees = time.monotonic(), fees
        return fees

    def _intend(self, batch: Batch, nonce: int) -> int:
        """Writes the intent down and ties its rows to it."""
        with self._store.write() as session:
            intent = ChainTransactionRow(
                kind=batch.kind,
                nonce=nonce,
                entries=len(batch.rows),
                calldata=wire.to_hex(batch.calldata),
                at=now_ms(),
            )
            session.add(intent)
            session.flush()
            for row in _carried(session, batch):
                row.transaction = intent.id
                session.add(row)
            return intent.id or 0

    def _mark_mined(self, intent: int, receipt: TxReceipt) -> None:
        with self._store.write() as session:
            row = session.get_one(ChainTransactionRow, intent)
            row.state, row.hash = "mined", wire.to_hex(receipt.transaction)
            row.gas_used, row.gas_price = receipt.gas_used, str(receipt.effective_gas_price)
            session.add(row)

    def _give_back(self, intent: int, state: str, error: str) -> None:
        """The transaction did nothing, or nobody knows: what the chain has not answered waits again."""
        with self._store.write() as session:
            row = session.get_one(ChainTransactionRow, intent)
            row.state, row.error = state, error
            session.add(row)
            matches = select(MatchRow).where(MatchRow.transaction == intent, MatchRow.state == "pending")
            for match in session.exec(matches).all():
                match.transaction = None
                session.add(match)
            receipts = select(ReceiptRow).where(ReceiptRow.transaction == intent, ReceiptRow.state == "queued")
            for receipt in session.exec(receipts).all():
                receipt.transaction = None
                session.add(receipt)

    def _resume(self) -> None:
        """After a start or a break: waits for what is still under way, then lets the indexer read the outcome."""
        self._nonce = self._chain.nonce(self._signer.address)
        self._fees = (-FEES_S, (0, 0))
        with self._store.read() as session:
            rows = session.exec(
                select(ChainTransactionRow)
                .where(ChainTransactionRow.state == "prepared")
                .order_by(col(ChainTransactionRow.id))
            ).all()
        for row in rows:
            log.info("transaction %s of %d entries (nonce %d) is looked up", row.kind, row.entries, row.nonce)
            if row.nonce < self._nonce:
                self._catch_up()
            self._give_back(row.id or 0, "dropped", "its outcome was read from the chain")


def _opening(match: MatchRow, bid: BidRow, offer: OfferRow) -> Opening:
    previous = bytes.fromhex(bid.previous)
    fill = Fill(offer_of(offer), wire.from_hex(offer.signature), int(match.rate), match.seat_index, previous)
    return Opening(bid_of(bid), wire.from_hex(bid.signature), (fill,))


def _settlement(session: Session, row: ReceiptRow, lease_row: LeaseRow) -> Settlement:
    lease, _ = terms_of(session, lease_row)
    receipt = wire.paper_from_json(Receipt, json.loads(row.receipt))
    return Settlement(
        lease=lease,
        progress=progress_of(lease_row),
        amount=receipt.amount,
        kind=receipt.kind,
        evidence=receipt.evidence,
        provider=wire.from_hex(row.signature),
        consumer=wire.from_hex(row.countersignature or ""),
    )


def _carried(session: Session, batch: Batch) -> Sequence[MatchRow | ReceiptRow]:
    """The rows that a batch carries."""
    if batch.kind in DUTIES:
        return ()
    if batch.kind == "open":
        return session.exec(select(MatchRow).where(col(MatchRow.id).in_(batch.rows))).all()
    return session.exec(select(ReceiptRow).where(col(ReceiptRow.lease).in_(batch.rows))).all()
