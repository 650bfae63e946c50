"""Receipts: the provider's, checked against lease and evidence; the consumer's signature over the same receipt."""

from __future__ import annotations

import json

from sqlmodel import Session

from suanli_market.admission.checks import Doubt, MarketTerms
from suanli_market.admission.log import Line
from suanli_market.admission.submissions import RefusedReceipt
from suanli_market.events import note
from suanli_market.leasing import logs
from suanli_market.leasing.leases import OPEN_STATES, advance_phase, lease_of, require
from suanli_market.store import Store
from suanli_market.tables import LeaseRow, ReceiptRow
from suanli_protocol import faults, wire
from suanli_protocol.documents import Evidence
from suanli_protocol.errors import MarketError, NotFoundError, SignatureError
from suanli_protocol.lease import Kind, Refusal
from suanli_protocol.log import EntryKind, ReasonCode
from suanli_protocol.messages import Receipt
from suanli_protocol.reasons import Phase, Reason
from suanli_protocol.signing import struct_hash, verify


class Receipts:
    """Takes receipts; each refusal is handed back to be logged."""

    def __init__(self, store: Store, terms: MarketTerms) -> None:
        self._store = store
        self._terms = terms

    def post(self, lease: str, party: str, body: wire.SignedReceipt) -> RefusedReceipt | None:
        """Keeps the provider's receipt and tells the consumer; the refusal if it does not hold.

        A receipt may be replaced until the consumer has signed one; the same again changes nothing.
        """
        receipt = wire.paper_from_json(Receipt, body.receipt)
        evidence = Evidence.parse(body.evidence)
        with self._store.write() as session:
            row, role = lease_of(session, lease, party)
            require(role, "provider")
            doubt = self._doubt_of_receipt(row, receipt, body.signature, evidence)
            if doubt is not None:
                return _refused(receipt, doubt, party)
            _keep(session, row, body, evidence)
            faults.reach("market.receipt.kept")
        faults.reach("market.receipt.committed")
        return None

    def countersign(self, lease: str, party: str, body: wire.Countersignature) -> RefusedReceipt | None:
        """Queues the receipt for settlement if the consumer signed exactly the provider's; else the refusal."""
        receipt = wire.paper_from_json(Receipt, body.receipt)
        with self._store.write() as session:
            row, role = lease_of(session, lease, party)
            require(role, "consumer")
            held = _held(session, lease)
            doubt = self._doubt_of_countersignature(row, held, receipt, body)
            if doubt is not None:
                return _refused(receipt, doubt, party)
            _queue(session, row, held, body)
            faults.reach("market.countersignature.kept")
        faults.reach("market.countersignature.committed")
        return None

    def _doubt_of_receipt(self, row: LeaseRow, receipt: Receipt, signature: str, evidence: Evidence) -> Doubt | None:
        doubt = self._signature_doubt(receipt, signature, row.provider, Refusal.PROVIDER_SIGNATURE)
        if doubt is not None:
            return doubt
        if wire.to_hex(receipt.lease) != row.id or evidence.lease != row.id:
            return Doubt(Refusal.UNKNOWN_LEASE, "the receipt or its evidence is about another lease")
        if evidence.digest() != receipt.evidence:
            return Doubt(ReasonCode.ATTRIBUTES, "the evidence is not the document that the receipt names by digest")
        if receipt.kind not in (Kind.DONE, Kind.FAILED):
            return Doubt(Refusal.KIND, f"a receipt of kind {receipt.kind}: this market takes only final ones (1, 2)")
        if not int(row.paid) <= receipt.amount <= int(row.price) or str(receipt.amount) != evidence.amount:
            bounds = f"paid {row.paid}, price {row.price}, evidence {evidence.amount}"
            return Doubt(Refusal.AMOUNT, f"the amount {receipt.amount} does not fit ({bounds})")
        return None

    def _doubt_of_countersignature(
        self, row: LeaseRow, held: ReceiptRow, receipt: Receipt, body: wire.Countersignature
    ) -> Doubt | None:
        if json.loads(held.receipt) != wire.paper_to_json(receipt):
            return Doubt(ReasonCode.REPLACED, "the countersigned receipt is not the provider's", "read it again")
        return self._signature_doubt(
            receipt, body.signature, row.consumer, Refusal.CONSUMER_SIGNATURE
        ) or self._signature_doubt(receipt, held.signature, row.provider, Refusal.PROVIDER_SIGNATURE)

    def _signature_doubt(self, receipt: Receipt, signature: str, signer: str, code: Refusal) -> Doubt | None:
        try:
            verify(self._terms.domain, receipt, wire.from_hex(signature, size=64), signer)
        except SignatureError as error:
            return Doubt(code, error.detail, error.hint)
        return None


def _refused(receipt: Receipt, doubt: Doubt, party: str) -> RefusedReceipt:
    return RefusedReceipt(Line(EntryKind.REFUSE, struct_hash(receipt), doubt.code, doubt.detail), doubt, party)


def _held(session: Session, lease: str) -> ReceiptRow:
    held = session.get(ReceiptRow, lease)
    if held is None:
        raise NotFoundError(f"the provider of lease {lease} has sent no receipt yet")
    return held


def _keep(session: Session, row: LeaseRow, body: wire.SignedReceipt, told: Evidence) -> None:
    lease = row.id
    _require_open(row)
    receipt, evidence = json.dumps(body.receipt), json.dumps(body.evidence)
    held = session.get(ReceiptRow, lease)
    if held is not None and json.loads(held.receipt) == body.receipt:
        return
    if held is not None and held.countersignature is not None:
        raise MarketError("another receipt of this lease is countersigned already", code="countersigned")
    if held is None:
        session.add(ReceiptRow(lease=lease, receipt=receipt, signature=body.signature, evidence=evidence))
    else:
        held.receipt, held.signature, held.evidence = receipt, body.signature, evidence
        session.add(held)
    logs.end(session, row, told.log.chunks)
    if told.reason == Reason.OK:  # of any other end the provider has more to say
        advance_phase(session, row, wire.Report(phase=Phase.SUCCEEDED, reason=Reason.OK))
    note(session, [row.consumer], "lease.receipt", lease=lease, bid=row.bid, data={"receipt": body.receipt})


def _queue(session: Session, row: LeaseRow, held: ReceiptRow, body: wire.Countersignature) -> None:
    if held.countersignature is not None:
        return
    _require_open(row)
    held.countersignature, held.state = body.signature, "queued"
    session.add(held)
    data = {"receipt": body.receipt, "signature": body.signature}
    note(session, [row.provider], "lease.countersigned", lease=row.id, bid=row.bid, data=data)


def _require_open(row: LeaseRow) -> None:
    if row.state not in OPEN_STATES:
        raise MarketError(f"the lease is {row.state}: nothing more can be settled", code="lease_closed")
