"""A queued bid taken back on the chain itself: its seat is closed, so that no market can open it any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suanli.jobs.record import Record
from suanli.session.progress import Change, Watcher
from suanli_protocol import wire
from suanli_protocol.errors import ChainRevertedError, IntegrityError
from suanli_protocol.lease import seat_key
from suanli_protocol.pinning import check_escrow_code
from suanli_protocol.reasons import Phase, Reason

if TYPE_CHECKING:
    from suanli.client import Client

UNUSED = bytes(32)
CLOSED = bytes(31) + b"\x01"


def close_seat(client: Client, record: Record, watcher: Watcher) -> Record:
    """Closes the seat of a job that has no lease, by the consumer's own endpoint; the market is not asked.

    ChainRevertedError if a lease was opened there meanwhile, ChainUnavailableError if the chain cannot be reached.
    """
    network, signer = client.network, client.signer
    if network.escrow.address.lower() != record.escrow.lower():
        raise IntegrityError(f"{record.short} is on the escrow {record.escrow}", hint="give it by --escrow")
    network.check_genesis(record.genesis)
    check_escrow_code(network.chain, network.escrow.address)
    seat, transaction = wire.from_hex(record.id, size=32), ""
    word = network.escrow.seat(seat_key(seat, signer.address, 0))
    if word == UNUSED:
        transaction = wire.to_hex(network.escrow.cancel(signer, signer.address, seat).transaction)
    elif word != CLOSED:
        raise ChainRevertedError("SeatTaken", hint=f"a lease was opened: suanli wait {record.short}, then cancel again")
    detail = "the seat is closed on the chain: no market can open it any more"
    record.phase, record.reason, record.detail = Phase.CANCELLED.value, Reason.STOPPED.value, detail
    client.store.save(record)
    watcher.changed(record, Change(record.phase, detail, {"reason": record.reason, "transaction": transaction}))
    return record
