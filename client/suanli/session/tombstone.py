"""A job taken back on the chain itself: its bid's seat is closed, or the lease that was opened there stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suanli.jobs.record import Record
from suanli.session.lookback import newest_lease
from suanli.session.progress import Change, Watcher
from suanli_protocol import wire
from suanli_protocol.errors import ChainRevertedError, IntegrityError
from suanli_protocol.lease import Previous, fee_down, seat_key
from suanli_protocol.messages import Bid
from suanli_protocol.pinning import check_escrow_code
from suanli_protocol.reasons import Phase, Reason

if TYPE_CHECKING:
    from suanli.client import Client
    from suanli.network import Network
    from suanli_protocol.lease_lookup import FoundLease

UNUSED = bytes(32)
CLOSED = bytes(31) + b"\x01"


def close_seat(client: Client, record: Record, watcher: Watcher) -> Record:
    """Closes the seat of a job that has no lease, by the consumer's own endpoint; the market is not asked.

    A lease that was opened there meanwhile is stopped. ChainUnavailableError if the chain cannot be reached.
    """
    network, signer = client.network, client.signer
    _check(network, record)
    seat, transaction = wire.from_hex(record.id, size=32), ""
    key = seat_key(seat, signer.address, 0)
    word = network.escrow.seat(key)
    if word == UNUSED:
        try:
            transaction = wire.to_hex(network.escrow.cancel(signer, signer.address, seat).transaction)
        except ChainRevertedError:
            word = network.escrow.seat(key)
            if word == UNUSED:
                raise
    if word not in (UNUSED, CLOSED):
        return _stop(client, record, watcher)
    return _cancelled(client, record, watcher, transaction)


def drop_opening(client: Client, record: Record, watcher: Watcher) -> Record:
    """Takes back a job whose lease its consumer was to open itself; the node is not asked.

    That costs nothing while nothing was sent. If an opening may be on its way the seat is closed, or its lease stopped.
    """
    network, address = client.network, client.signer.address
    _check(network, record)
    key = seat_key(wire.from_hex(record.id, size=32), address, 0)
    with client.store.care(record.id) as is_mine:
        under_way = not is_mine or network.chain.nonce(address) != network.chain.nonce(address, "latest")
        if not under_way and network.escrow.seat(key) == UNUSED:
            return _cancelled(client, record, watcher, "", "the lease was never opened")
    return close_seat(client, record, watcher)


def _check(network: Network, record: Record) -> None:
    """The job's chain and escrow are those that are set, and this version's."""
    if network.escrow.address.lower() != record.escrow.lower():
        raise IntegrityError(f"{record.short} is on the escrow {record.escrow}", hint="give it by --escrow")
    network.check_genesis(record.genesis)
    check_escrow_code(network.chain, network.escrow.address)


def _cancelled(
    client: Client,
    record: Record,
    watcher: Watcher,
    transaction: str,
    detail: str = "the seat is closed on the chain: no market can open it any more",
) -> Record:
    record.phase, record.reason, record.detail = Phase.CANCELLED.value, Reason.STOPPED.value, detail
    client.store.save(record)
    watcher.changed(record, Change(record.phase, detail, {"reason": record.reason, "transaction": transaction}))
    return record


def _close_again(client: Client, record: Record, last: FoundLease, watcher: Watcher) -> Record:
    """Closes a seat whose last attempt ended and left it reopenable."""
    paid = last.history.paid
    proof = Previous(last.state.clauses, paid + fee_down(paid, last.state.lease.fee_bps)).encode()
    signer = client.signer
    mined = client.network.escrow.cancel(signer, signer.address, last.bid.seat, 0, proof)
    return _cancelled(client, record, watcher, wire.to_hex(mined.transaction))


def _stop(client: Client, record: Record, watcher: Watcher) -> Record:
    """Stops the newest lease of the bid; it is followed to its end once the market is back."""
    from suanli.lease_actions import act, on_terms
    from suanli_protocol.lease_lookup import look_up

    opened = newest_lease(client.network.escrow, wire.paper_from_json(Bid, record.bid), record.created_at)
    if opened is None:
        raise IntegrityError("the seat is used, but by no lease of this bid", hint="suanli audit all")
    found = look_up(client.network.escrow, opened)
    if found.history.closed_by is not None:
        return _close_again(client, record, found, watcher)
    record.lease, record.phase = wire.to_hex(found.id), Phase.LEASED.value
    client.store.save(record)
    acted = act(client, found, "stop", on_terms("stop", client.signer))
    text = f"a lease was opened meanwhile; it is {acted.now.history.state} now: nothing later is billable"
    watcher.changed(record, Change("stopped", text, {"transaction": wire.to_hex(acted.transaction)}))
    return record
