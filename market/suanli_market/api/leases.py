"""Leases, phases, logs and receipts, for the two parties of each."""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from suanli_market.admission.submissions import RefusedReceipt
from suanli_market.api.auth import Signer
from suanli_market.api.types import After, Id, Sender, answer
from suanli_market.leasing import leases, logs
from suanli_market.services import Market, Services
from suanli_market.tables import ReceiptRow
from suanli_protocol.errors import NotFoundError
from suanli_protocol.wire import Countersignature, LeaseView, LogPage, Report, SignedReceipt

router = APIRouter(prefix="/v1/leases", tags=["leases"])
WAIT_MAX_S = 20


@router.get("", response_model=list[LeaseView])
def list_leases(signer: Signer, market: Market, state: Literal["", "open"] = "") -> Response:
    """The signer's leases, newest first."""
    with market.store.read() as session:
        return answer(leases.list_leases(session, signer, only_open=state == "open"))


@router.get("/{lease}", response_model=LeaseView)
def lease(lease: Id, signer: Signer, market: Market) -> Response:
    """One lease with its papers."""
    with market.store.read() as session:
        row, _ = leases.lease_of(session, lease, signer)
        return answer(leases.view_of(session, row))


@router.post("/{lease}/phase", status_code=204)
def post_phase(lease: Id, body: Report, signer: Signer, market: Market) -> None:
    """The provider's word on how far the run is."""
    with market.store.write() as session:
        leases.report_phase(session, lease, signer, body)


@router.post("/{lease}/logs", status_code=204)
def post_logs(lease: Id, body: LogPage, signer: Signer, market: Market) -> None:
    """Appends sealed log chunks; those that are there already are ignored."""
    with market.store.write() as session:
        logs.append(session, lease, signer, body)


@router.get("/{lease}/logs", response_model=LogPage)
async def get_logs(
    lease: Id,
    signer: Signer,
    market: Market,
    after: After = -1,
    wait: Annotated[int, Query(ge=0, le=WAIT_MAX_S)] = 0,
) -> Response:
    """The chunks after a number; waits for one if asked."""

    def read() -> LogPage:
        with market.store.read() as session:
            return logs.read(session, lease, signer, after)

    deadline = time.monotonic() + wait
    held = market.limits.streams.hold(signer) if wait else nullcontext()
    with held, market.hub.waiting(logs.topic(lease)) as waiter:
        while True:
            waiter.reset()
            page = await run_in_threadpool(read)
            left = deadline - time.monotonic()
            if page.chunks or page.complete or left <= 0 or market.hub.closing:
                return answer(page.to_json())
            await waiter.wait(left)


@router.post("/{lease}/receipt", status_code=204)
async def post_receipt(lease: Id, body: SignedReceipt, signer: Signer, sender: Sender, market: Market) -> None:
    """The provider's receipt with its evidence."""
    await _log_refusal(market, sender, await run_in_threadpool(market.receipts.post, lease, signer, body))


@router.get("/{lease}/receipt", response_model=SignedReceipt)
def get_receipt(lease: Id, signer: Signer, market: Market) -> Response:
    """The provider's newest receipt with its evidence."""
    with market.store.read() as session:
        leases.lease_of(session, lease, signer)
        row = session.get(ReceiptRow, lease)
    if row is None:
        raise NotFoundError(f"the provider of lease {lease} has sent no receipt yet")
    content = {"receipt": json.loads(row.receipt), "signature": row.signature, "evidence": json.loads(row.evidence)}
    return answer(content)


@router.post("/{lease}/countersignature", status_code=204)
async def post_countersignature(
    lease: Id, body: Countersignature, signer: Signer, sender: Sender, market: Market
) -> None:
    """The consumer's signature over the same receipt; it is settled with the next batch."""
    await _log_refusal(market, sender, await run_in_threadpool(market.receipts.countersign, lease, signer, body))
    market.chain_writer.wake()


async def _log_refusal(market: Services, sender: str, refused: RefusedReceipt | None) -> None:
    """Logs a refusal, which raises it."""
    if refused is not None:
        await market.admission.submit(refused, sender)
