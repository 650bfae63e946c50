"""The chain writer: it gathers what waits for the chain into batches, and has the sender carry one after the other.

A kind of batch that the chain refuses is tried again later, and smaller; the others go on. An entry that is refused
alone is set aside, and the rest of its kind go on.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, select

from suanli_market.admission.papers import bid_of, offer_of
from suanli_market.chain.aside import Aside
from suanli_market.chain.duties import DUTIES, Duties, Duty
from suanli_market.chain.projection import release
from suanli_market.chain.sender import Batch, Sender
from suanli_market.clearing.book import Change
from suanli_market.clearing.keeper import Keeper
from suanli_market.leasing.leases import OPEN_STATES, progress_of, terms_of
from suanli_market.store import Store, follow
from suanli_market.tables import BidRow, LeaseRow, MatchRow, OfferRow, ReceiptRow, RoundRow
from suanli_protocol import wire
from suanli_protocol.errors import ChainRevertedError, ChainUnavailableError, FundsError, SuanliError, TimedOutError
from suanli_protocol.escrow import Chain, Escrow, Fill, Opening, Settlement
from suanli_protocol.lease import Refusal
from suanli_protocol.letters import MINED_S, NonceTakenError
from suanli_protocol.log import ReasonCode
from suanli_protocol.messages import Receipt
from suanli_protocol.signing import Signer

BATCH_MAX = 100
BYTES_MAX = 100_000  # of calldata; nodes take transactions of at most 131,072
GAS_BASE = 150_000
GAS_PER_OPENING = 150_000
GAS_PER_SETTLEMENT = 140_000
GAS_MAX = 16_000_000  # a transaction may use at most 16,777,216
TICK_S = 1.0
REST_S = (0.1, 5.0)  # after a failure, the least and the most
SETTLE_PAUSE_S = 0.1  # between settlements: what is countersigned meanwhile goes with the next

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(slots=True)
class Pace:
    """How a kind of batch goes: how many rows it may carry, and when it may go again after a failure (monotonic)."""

    limit: int = BATCH_MAX
    rest_s: float = 0.0
    not_before: float = 0.0

    def went_well(self) -> None:
        """Larger again."""
        self.limit, self.rest_s = min(BATCH_MAX, 2 * self.limit), 0.0

    def failed(self, rows: int) -> None:
        """Smaller than a batch of so many rows, and later each time."""
        self.limit = max(1, min(self.limit, rows) // 2)
        self.rest_s = min(REST_S[1], max(REST_S[0], 2 * self.rest_s))
        self.not_before = time.monotonic() + self.rest_s

    def is_resting(self) -> bool:
        """Whether it may not go yet."""
        return time.monotonic() < self.not_before


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
        mined_s: float = MINED_S,
    ) -> None:
        self._store, self._keeper, self._chain, self._escrow, self._signer = store, keeper, chain, escrow, signer
        self._catch_up = catch_up
        self._work = threading.Event()
        self._stopping = False
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)  # by the kind of batch
        self._aside = Aside()
        self._settle_at, self._is_settling_put_off = 0.0, False  # not before (monotonic)
        self._is_lost = True  # what was sent before is not known yet
        self._duties = Duties(store)
        self._sender = Sender(
            store,
            chain,
            signer,
            escrow.address,
            on_mined=on_mined,
            is_ended=lambda: self._stopping or self._is_lost,
            mined_s=mined_s,
        )
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
        """The chain lost blocks: what they had mined is carried again before anything else is sent."""
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
                self.step()
                delay = 0.0
            except (ChainUnavailableError, TimedOutError) as error:
                self._is_lost, delay = True, min(REST_S[1], max(REST_S[0], delay * 2))
                log.warning("nothing can be sent, trying again in %.1f s: %s", delay, error.detail)
            except SuanliError as error:
                self._is_lost, delay = True, min(REST_S[1], max(REST_S[0], delay * 2))
                log.error("a transaction failed: %s %s", error.detail, error.hint)
            except Exception:
                self._is_lost, delay = True, 1.0
                log.exception("the chain writer failed")
            if delay and not self._stopping:
                time.sleep(delay)
                self._work.set()

    def step(self) -> None:
        """One look: what is under way is brought to its end, then what waits is sent."""
        if self._is_lost:
            self._is_lost = False
            self._resume()
        self._drain()

    def _resume(self) -> None:
        """After a start or a break. What lost its nonce to another has its rows wait again, less what was answered."""
        try:
            self._sender.resume()
        except NonceTakenError:
            self._catch_up()
            raise

    def _patience(self) -> float:
        return max(0.0, self._settle_at - time.monotonic()) if self._is_settling_put_off else TICK_S

    def _drain(self) -> None:
        """Sends what waits; what comes to wait meanwhile rings."""
        self._is_settling_put_off = False
        is_more = True
        while is_more and not self._stopping and not self._is_lost and self._keeper.halted is None:
            found = (self._openings(), self._settlements(), self._duty(), self._again("open"), self._again("settle"))
            went = [batch for batch in found if batch is not None and self._carry_out(batch)]
            is_more = any(batch.is_full for batch in went)

    def _carry_out(self, batch: Batch) -> bool:
        """Whether it went well. What the chain refused rests, so that other kinds go on; any other error is raised."""
        try:
            self._sender.send(batch)
        except (ChainUnavailableError, TimedOutError, NonceTakenError):
            raise
        except SuanliError as error:
            if batch.kind in DUTIES and isinstance(error, ChainRevertedError):
                log.info("%s of lease %s was in vain: %s", batch.kind, *batch.rows, error.detail)
                return True  # somebody else may have done it
            log.error("a transaction failed: %s %s", error.detail, error.hint)
            self._refused(batch, error)
            return False
        self._paces[batch.kind].went_well()
        self._aside.pass_(batch.kind, batch.rows)
        return True

    def _refused(self, batch: Batch, error: SuanliError) -> None:
        """The batch goes smaller; an entry that went alone is set aside, unless what lacks is the market's own coin."""
        alone = batch.rows[0] if len(batch.rows) == 1 else None
        if alone is None or alone not in self._aside.rows(batch.kind):
            self._paces[batch.kind].failed(len(batch.rows))
        if alone is None or batch.kind in DUTIES or isinstance(error, FundsError):
            return
        is_its_own = self._aside.refuse(batch.kind, alone)
        if batch.kind == "open" and isinstance(alone, int):
            self._give_up(alone, is_its_own=is_its_own)

    def _give_up(self, id_: int, *, is_its_own: bool) -> None:
        """Releases a match that cannot be opened: its papers' time is over, or others were opened and it was not."""
        now, changes = self._keeper.now(), list[Change]()
        with self._store.write() as session:
            match = session.get_one(MatchRow, id_)
            bid, offer = session.get_one(BidRow, match.bid), session.get_one(OfferRow, match.offer)
            over = Refusal.BID_EXPIRED if bid.valid_until <= now else Refusal.OFFER_EXPIRED
            code = over if min(bid.valid_until, offer.valid_until) <= now else ReasonCode.OPEN_FAILED
            if match.state != "pending" or match.transaction is not None or not (is_its_own or code is over):
                return
            release(session, match, bid, code, changes)
            follow(session, lambda: self._keeper.apply(changes))
        log.error("match %d of bid %s is given up: %s", id_, match.bid, match.reason)
        self._aside.forget("open", id_)

    # What waits

    def _again(self, kind: str) -> Batch | None:
        """One that was set aside, alone."""
        row = self._aside.due(kind)
        if row is None or self._paces[kind].is_resting():
            return None
        if kind == "open":
            batch = self._opened_by(col(MatchRow.id) == row, 1)
        else:
            batch = self._settled_by(col(ReceiptRow.lease) == row, 1)
        if batch is None:
            self._aside.forget(kind, row)
        return batch

    def _openings(self) -> Batch | None:
        pace = self._paces["open"]
        if pace.is_resting():
            return None
        return self._opened_by(col(MatchRow.id).not_in(self._aside.rows("open")), pace.limit)

    def _opened_by(self, wanted: ColumnElement[bool], limit: int) -> Batch | None:
        """The first pending matches that are wanted and fit."""
        with self._store.read() as session:
            found = session.exec(
                select(MatchRow, BidRow, OfferRow, RoundRow.hash)
                .join(BidRow, col(BidRow.id) == MatchRow.bid)
                .join(OfferRow, col(OfferRow.id) == MatchRow.offer)
                .join(RoundRow, col(RoundRow.number) == MatchRow.round)
                .where(MatchRow.state == "pending", col(MatchRow.transaction).is_(None), wanted)
                .order_by(col(MatchRow.id))
                .limit(limit)
            ).all()
        if not found:
            return None
        # A refusal names the seat alone: of bids with the same one (by strangers, who copied it) each goes by itself.
        by_seat = {bid.seat: (match, bid, offer, head) for match, bid, offer, head in reversed(found)}
        rows = sorted(by_seat.values(), key=lambda row: row[0].id or 0)
        openings = [_opening(match, bid, offer) for match, bid, offer, _ in rows]
        calldata, count = _fitting(openings, lambda part: self._escrow.encode_open(wire.from_hex(rows[-1][3]), part))
        gas = min(GAS_MAX, GAS_BASE + GAS_PER_OPENING * count)
        is_full = count < len(found) or len(found) == limit
        return Batch("open", calldata, gas, tuple(match.id or 0 for match, *_ in rows[:count]), is_full)

    def _settlements(self) -> Batch | None:
        pace = self._paces["settle"]
        if pace.is_resting():
            return None
        if time.monotonic() < self._settle_at:
            self._is_settling_put_off = True
            return None
        return self._settled_by(col(ReceiptRow.lease).not_in(self._aside.rows("settle")), pace.limit)

    def _settled_by(self, wanted: ColumnElement[bool], limit: int) -> Batch | None:
        """The first countersigned receipts that are wanted and fit."""
        with self._store.read() as session:
            found = session.exec(
                select(ReceiptRow, LeaseRow)
                .join(LeaseRow, col(LeaseRow.id) == ReceiptRow.lease)
                .where(
                    ReceiptRow.state == "queued",
                    col(ReceiptRow.transaction).is_(None),
                    col(LeaseRow.state).in_(OPEN_STATES),
                    wanted,
                )
                .order_by(col(LeaseRow.number))
                .limit(limit)
            ).all()
            settlements = [_settlement(session, receipt, lease) for receipt, lease in found]
        if not settlements:
            return None
        self._settle_at = time.monotonic() + SETTLE_PAUSE_S
        calldata, count = _fitting(settlements, self._escrow.encode_settle)
        gas = min(GAS_MAX, GAS_BASE + GAS_PER_SETTLEMENT * count)
        is_full = count < len(found) or len(found) == limit
        return Batch("settle", calldata, gas, tuple(row.id for _, row in found[:count]), is_full)

    def _duty(self) -> Batch | None:
        """The next lease that time alone ends: nobody else may do it, and both parties' money waits for it."""
        while (duty := self._duties.next(self._keeper.now())) is not None:
            calldata = self._escrow.encode_way_out(duty.change, duty.lease, duty.clauses, duty.progress)
            gas = self._gas_of(duty, calldata)
            if gas is not None:
                return Batch(duty.change, calldata, gas, (duty.id,), is_full=True)
        return None

    def _gas_of(self, duty: Duty, calldata: bytes) -> int | None:
        """What a duty costs; None if it is done already, in a block that does not count yet, or would be refused."""
        if self._escrow.seat(duty.lease.seat_key) != duty.word:
            return None
        request = {"from": self._signer.address, "to": self._escrow.address, "data": wire.to_hex(calldata)}
        try:
            return self._chain.estimate(request)
        except ChainRevertedError as error:
            log.info("%s of lease %s would be in vain: %s", duty.change, duty.id, error.detail)
            return None


def _fitting(items: Sequence[T], encode: Callable[[Sequence[T]], bytes]) -> tuple[bytes, int]:
    """The calldata of as many of the first items as fit into BYTES_MAX (one at least), and how many they are."""
    count = len(items)
    while len(calldata := encode(items[:count])) > BYTES_MAX and count > 1:
        count = max(1, min(count - 1, count * BYTES_MAX // len(calldata)))
    return calldata, count


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
