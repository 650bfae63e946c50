"""The sender: each transaction of this market is in the tables before it is sent, and is carried to its answer.

One at a time, at its one nonce. After a break, or a reorganisation that took its block, the same transaction is sent
again, or replaced at a higher fee; its rows wait for nothing else until the chain has answered or the nonce is taken.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from suanli_market.chain.duties import DUTIES
from suanli_market.chain.journal import UNDER_WAY
from suanli_market.events import now_ms
from suanli_market.store import Store
from suanli_market.tables import ChainTransactionRow, ChainVersionRow, MatchRow, ReceiptRow
from suanli_protocol import faults, wire
from suanli_protocol.chain import Chain
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import ChainUnavailableError, SuanliError, TimedOutError
from suanli_protocol.letters import MINED_S, Carrier, Letter, NonceTakenError
from suanli_protocol.signing import Signer

FEES_S = 1.0  # for which fees are good
LOOKED_AT = 512  # of the newest transactions, for those that a reorganisation took
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """One transaction to be: its calldata, and the rows that it carries."""

    kind: str
    calldata: bytes
    gas: int
    rows: tuple[int | str, ...]  # ids of matches, or of leases
    is_full: bool = False  # more may wait


@dataclass(kw_only=True)
class Intent(Letter):
    """A batch under way. `row` is its ChainTransactionRow once there is one."""

    batch: Batch
    row: int | None = None


class Sender:
    """Sends this market's batches; one thread uses it."""

    def __init__(
        self,
        store: Store,
        chain: Chain,
        signer: Signer,
        escrow: str,
        *,
        on_mined: Callable[[], None],
        is_ended: Callable[[], bool],
        mined_s: float = MINED_S,
    ) -> None:
        self._store, self._chain, self._signer, self._escrow = store, chain, signer, escrow
        self._on_mined = on_mined
        self._carrier = Carrier[Intent](
            chain, signer, keep=self._keep, on_sent=_sent, is_ended=is_ended, mined_s=mined_s
        )
        self._nonce: int | None = None
        self._fees = (-FEES_S, (0, 0))  # when they were asked for (monotonic), and what they were

    def send(self, batch: Batch) -> None:
        """Carries a batch to the chain's answer.

        ChainRevertedError, or another SuanliError but these: the chain refused it, its rows wait again. TimedOutError,
        ChainUnavailableError: it is under way, `resume` comes first. NonceTakenError: see `resume`.
        """
        if self._nonce is None:
            self._nonce = self._chain.nonce(self._signer.address)
        fee, tip = self._fees_now()
        self._bring(
            Intent(
                batch=batch, to=self._escrow, data=wire.to_hex(batch.calldata), nonce=self._nonce, gas=batch.gas,
                fee=fee, tip=tip,
            )
        )  # fmt: skip

    def resume(self) -> None:
        """Brings what is under way to its end, in the order of nonces; before anything else is sent.

        NonceTakenError if another transaction took the nonce of one: its rows wait again.
        """
        self._nonce, self._fees = None, (-FEES_S, (0, 0))
        self._take_up_lost()
        while (intent := self._next_left()) is not None:
            log.info("%s with nonce %d was under way and is taken up", intent.batch.kind, intent.nonce)
            try:
                self._bring(intent)
            except (ChainUnavailableError, TimedOutError, NonceTakenError):
                raise
            except SuanliError as error:
                log.error("a transaction failed: %s %s", error.detail, error.hint)

    def _take_up_lost(self) -> None:
        """What a block had mined that is no more: a gap in the nonces would hold up all that follow."""
        following = self._chain.nonce(self._signer.address, "latest")
        newest = select(ChainTransactionRow.id).order_by(col(ChainTransactionRow.id).desc()).limit(LOOKED_AT)
        lost = (
            col(ChainTransactionRow.id).in_(newest),
            col(ChainTransactionRow.state).in_(("mined", "failed")),
            col(ChainTransactionRow.nonce) >= following,
        )
        with self._store.write() as session:
            session.execute(update(ChainTransactionRow).where(*lost).values(**UNDER_WAY))

    def _bring(self, intent: Intent) -> None:
        kind = intent.batch.kind
        try:
            receipt = self._carrier.carry(intent)
        except NonceTakenError as error:
            self._give_back(intent, error.detail)
            raise
        except (ChainUnavailableError, TimedOutError):
            raise
        except SuanliError as error:
            if intent.hashes:
                raise TimedOutError(f"{error.detail}; it may still be mined", hint=error.hint) from error
            self._discard(intent)
            raise
        self._nonce = intent.nonce + 1
        self._on_mined()
        faults.reach(f"market.{kind}.mined")
        self._mark(intent, receipt)
        faults.reach(f"market.{kind}.marked")
        if receipt.status != 1:
            self._chain.wait(receipt.transaction)  # raises what it reverted with

    def _fees_now(self) -> tuple[int, int]:
        """The chain's fees, asked for once in a while: they leave room for the base fee to double."""
        at, fees = self._fees
        if time.monotonic() - at > FEES_S:
            fees = self._chain.fees()
            self._fees = time.monotonic(), fees
        return fees

    # The tables

    def _keep(self, intent: Intent) -> None:
        """Writes a version down before it is sent; with the first its rows are tied to it."""
        with self._store.write() as session:
            row = session.get_one(ChainTransactionRow, intent.row) if intent.row is not None else _row_of(intent)
            row.fee, row.tip, row.raises = str(intent.fee), str(intent.tip), intent.raises
            session.add(row)
            session.flush()
            if intent.row is None:
                _tie(session, intent.batch, row.id)
            session.merge(ChainVersionRow(hash=intent.hashes[-1], transaction=row.id or 0))
            intent.row = row.id
        faults.reach(f"market.{intent.batch.kind}.intended")

    def _next_left(self) -> Intent | None:
        """The lowest nonce of what was written down and has no answer."""
        with self._store.read() as session:
            order = col(ChainTransactionRow.nonce), col(ChainTransactionRow.id)
            prepared = select(ChainTransactionRow).where(ChainTransactionRow.state == "prepared").order_by(*order)
            row = session.exec(prepared.limit(1)).first()
            if row is None:
                return None
            versions = select(ChainVersionRow.hash).where(ChainVersionRow.transaction == row.id)
            hashes = list(session.exec(versions))
        batch = Batch(row.kind, wire.from_hex(row.calldata), row.gas, ())
        fees = {"fee": int(row.fee), "tip": int(row.tip), "raises": row.raises}
        place = {"nonce": row.nonce, "gas": row.gas}
        return Intent(batch=batch, row=row.id, to=self._escrow, data=row.calldata, hashes=hashes, **fees, **place)

    def _mark(self, intent: Intent, receipt: TxReceipt) -> None:
        with self._store.write() as session:
            row = session.get_one(ChainTransactionRow, intent.row)
            row.hash, row.block = wire.to_hex(receipt.transaction), receipt.block
            row.gas_used, row.gas_price = receipt.gas_used, str(receipt.effective_gas_price)
            row.state = "mined" if receipt.status == 1 else "failed"
            session.add(row)
            if receipt.status != 1:
                untie(session, intent.row)

    def _give_back(self, intent: Intent, error: str) -> None:
        """It can never be mined: its rows wait again."""
        with self._store.write() as session:
            row = session.get_one(ChainTransactionRow, intent.row)
            row.state, row.error = "dropped", error
            session.add(row)
            untie(session, intent.row)

    def _discard(self, intent: Intent) -> None:
        """The endpoint did not take even its first version: it leaves no trace, and its rows wait again."""
        with self._store.write() as session:
            untie(session, intent.row)
            session.execute(delete(ChainVersionRow).where(col(ChainVersionRow.transaction) == intent.row))
            session.execute(delete(ChainTransactionRow).where(col(ChainTransactionRow.id) == intent.row))


def untie(session: Session, transaction: int | None) -> None:
    """What a transaction carried, and the chain has not answered, waits for another."""
    matches = select(MatchRow).where(MatchRow.transaction == transaction, MatchRow.state == "pending")
    receipts = select(ReceiptRow).where(ReceiptRow.transaction == transaction, ReceiptRow.state == "queued")
    rows: Sequence[MatchRow | ReceiptRow] = [*session.exec(matches).all(), *session.exec(receipts).all()]
    for row in rows:
        row.transaction = None
        session.add(row)


def _tie(session: Session, batch: Batch, transaction: int | None) -> None:
    for row in _carried(session, batch):
        row.transaction = transaction
        session.add(row)


def _carried(session: Session, batch: Batch) -> Sequence[MatchRow | ReceiptRow]:
    """The rows that a batch carries."""
    if batch.kind in DUTIES:
        return ()
    if batch.kind == "open":
        return session.exec(select(MatchRow).where(col(MatchRow.id).in_(batch.rows))).all()
    return session.exec(select(ReceiptRow).where(col(ReceiptRow.lease).in_(batch.rows))).all()


def _row_of(intent: Intent) -> ChainTransactionRow:
    batch = intent.batch
    return ChainTransactionRow(
        kind=batch.kind, nonce=intent.nonce, entries=len(batch.rows), calldata=intent.data, gas=intent.gas, at=now_ms()
    )


def _sent(intent: Intent) -> None:
    faults.reach(f"market.{intent.batch.kind}.sent")
