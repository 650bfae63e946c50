"""Receipts and logs of a lease over a real database: a receipt that is replaced meanwhile, a page of a large log."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from suanli_market.admission.checks import Doubt, MarketTerms
from suanli_market.leasing import logs
from suanli_market.leasing.receipts import Receipts
from suanli_market.store import Store
from suanli_market.tables import LeaseRow, LogChunkRow, ReceiptRow
from suanli_protocol import wire
from suanli_protocol.documents import Evidence, LogSummary, hex32, sha256
from suanli_protocol.errors import MarketError
from suanli_protocol.lease import Refusal
from suanli_protocol.messages import Receipt
from support.builders import NOW, a_domain, consumer, market, provider, some_usage

LEASE = wire.to_hex(b"\x01" * 32)
MIB = 1024 * 1024
NOWHERE = "0x" + "00" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    opened.migrate()
    with opened.write() as session:
        session.add(
            LeaseRow(
                id=LEASE,
                number=1,
                provider=provider().address,
                consumer=consumer().address,
                bid=NOWHERE,
                offer=NOWHERE,
                rate="1",
                price="100",
                seat_index=0,
                attempt=1,
                opened_at=NOW,
                block=1,
                block_hash=NOWHERE,
                transaction=NOWHERE,
            )
        )
    yield opened
    opened.close()


def a_receipt_over(amount: int) -> wire.SignedReceipt:
    evidence = Evidence(
        lease=LEASE,
        sequence=1,
        billing="capacity",
        billed_seconds=10,
        amount=str(amount),
        usage=some_usage(),
        exit_code=0,
        reason="ok",
        ended_at=NOW,
        log=LogSummary(sha256=hex32(sha256(b"")), size=0, chunks=0),
    )
    receipt = Receipt(wire.from_hex(LEASE), amount, 1, evidence.digest())
    signature = wire.to_hex(provider().sign(a_domain(), receipt))
    return wire.SignedReceipt(receipt=wire.paper_to_json(receipt), signature=signature, evidence=evidence.to_json())


def countersigned(signed: wire.SignedReceipt) -> wire.Countersignature:
    paper = wire.paper_from_json(Receipt, signed.receipt)
    return wire.Countersignature(receipt=signed.receipt, signature=wire.to_hex(consumer().sign(a_domain(), paper)))


class Crowded(Receipts):
    """Receipts of which the provider sends another while the consumer's signature is looked at."""

    other: wire.SignedReceipt | None = None
    ended: list[MarketError | None]
    thread: threading.Thread

    def _signature_doubt(self, receipt: Receipt, signature: str, signer: str, code: Refusal) -> Doubt | None:
        if self.other is not None and code == Refusal.CONSUMER_SIGNATURE:
            self.ended, self.thread = [], threading.Thread(target=self._replace, args=(self.other,), daemon=True)
            self.other = None
            self.thread.start()
            self.thread.join(timeout=0.3)  # if it can be replaced now, it is
        return super()._signature_doubt(receipt, signature, signer, code)

    def _replace(self, signed: wire.SignedReceipt) -> None:
        try:
            self.post(LEASE, provider().address, signed)
            self.ended.append(None)
        except MarketError as error:
            self.ended.append(error)


def test_the_receipt_that_was_signed_is_the_one_that_is_kept(store: Store) -> None:
    receipts = Crowded(store, MarketTerms(market().address, a_domain(), 50, 0, 10))
    first, second = a_receipt_over(10), a_receipt_over(20)
    assert receipts.post(LEASE, provider().address, first) is None
    receipts.other = second
    assert receipts.countersign(LEASE, consumer().address, countersigned(first)) is None
    receipts.thread.join(timeout=20)
    (error,) = receipts.ended
    assert error is not None
    assert error.code == "countersigned"
    with store.read() as session:
        held = session.get_one(ReceiptRow, LEASE)
        assert wire.paper_from_json(Receipt, json.loads(held.receipt)).amount == 10


def test_a_page_of_a_log_costs_no_more_than_the_page(store: Store) -> None:
    with store.write() as session:
        for seq in range(40):
            session.add(LogChunkRow(lease=LEASE, seq=seq, data=bytes(MIB)))
    with store.read() as session:
        logs.read(session, LEASE, consumer().address, 39)
        tracemalloc.start()
        try:
            page = logs.read(session, LEASE, consumer().address, -1)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert [chunk.seq for chunk in page.chunks] == [0, 1]
    assert not page.complete
    assert peak < 12 * MIB
