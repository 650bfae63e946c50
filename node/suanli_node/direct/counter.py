"""The counter: the direct desk with its shelf, offers and server, put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import partial
from importlib import metadata
from pathlib import Path

from suanli_node.direct.api import DirectApi
from suanli_node.direct.desk import DirectDesk, Streams
from suanli_node.direct.limits import LimitedApp, RatedGate
from suanli_node.direct.offers import DirectOffers
from suanli_node.direct.relay import DirectRelay
from suanli_node.direct.server import DirectServer, bind, url_of
from suanli_node.direct.shelf import BLOB_BYTES_MAX, Shelf
from suanli_node.identity import Identity
from suanli_node.leases.standing import Standing, history_reader, stand
from suanli_node.leases.verification import Assignment
from suanli_node.supply.offers import Terms
from suanli_protocol import wire
from suanli_protocol.bodies import CHUNK_BYTES_MAX
from suanli_protocol.capacity import Lanes
from suanli_protocol.documents import Attributes
from suanli_protocol.errors import IntegrityError
from suanli_protocol.escrow import Escrow
from suanli_protocol.events import Opened
from suanli_protocol.gate import Gate
from suanli_protocol.lease_history import LeaseHistory, read_history
from suanli_protocol.signing import Signer


class Counter:
    """A node that deals without a market. `relay` is what its leases' runs talk to."""

    def __init__(
        self, path: Path, name: str, identity: Identity, signer: Signer, escrow: Escrow, least_window: int
    ) -> None:
        self._name, self._identity, self._signer, self._escrow = name, identity, signer, escrow
        self._least_window = least_window
        self._streams = Streams()
        self._shelf = Shelf(path)
        self.relay = DirectRelay(self._shelf, self._info, signer, identity.domain, self._history, self._streams.tell)
        self._server: DirectServer | None = None

    def open(
        self,
        address: str,
        opened: Callable[[wire.Event], None],
        sells: Callable[[], bool],
        capacity: Lanes,
        terms: Terms,
        attributes: Attributes,
        *,
        valid_s: int,
    ) -> str:
        """Serves on HOST:PORT and returns its URL; `opened` is told of new leases, deliveries and countersignatures."""
        listener = bind(address)
        signer, domain = self._signer, self._identity.domain
        offers = DirectOffers(
            signer,
            domain,
            lambda: self._escrow.account(signer.address),
            sells,
            capacity=capacity,
            terms=terms,
            attributes=attributes,
            valid_s=valid_s,
        )
        desk = DirectDesk(self.relay, self, opened)
        api = DirectApi(desk, RatedGate(Gate(domain, signer.address)), self._streams, offers.views)
        self._server = DirectServer(LimitedApp(api.app()), listener)
        self._server.start()
        return url_of(listener)

    def close(self) -> None:
        """Serves no more; what is on the shelf stays."""
        if self._server is not None:
            self._server.close()

    def trim(self, open_: Collection[str], endings: Path) -> None:
        """Deletes what was kept of leases that are closed for long, or sooner if the shelf is nearly full."""
        gone = self._shelf.trim(open_, endings)
        self._streams.forget(gone)

    def stand(self, assignment: Assignment) -> Standing:
        """How a lease stands, as deep as the node trusts it."""
        block = self._identity.trusted_block
        return stand(assignment, partial(self._escrow.seat, block=block), history_reader(self._escrow, block))

    def opened(self, lease: bytes, transaction: bytes) -> Opened:
        """The event that opened a lease, in the transaction that is named; IntegrityError if it is not there."""
        receipt = self._escrow.chain.receipt(transaction)
        for event in self._escrow.events_of(receipt) if receipt is not None else ():
            if isinstance(event, Opened) and event.lease_id == lease:
                return event
        raise IntegrityError(f"{wire.to_hex(transaction)} is not the transaction that opened {wire.to_hex(lease)}")

    def _history(self, lease: bytes, block: int) -> LeaseHistory:
        return read_history(self._escrow, lease, block, self._escrow.chain.block("latest").number)

    def _info(self) -> wire.MarketInfo:
        identity, token = self._identity, self._escrow.token
        return wire.MarketInfo(
            name=self._name,
            version=metadata.version("suanli"),
            address=self._signer.address,
            chain_id=identity.chain_id,
            genesis=identity.genesis,
            escrow=identity.escrow,
            code_hash=identity.code_hash,
            token=token.address,
            symbol=token.symbol,
            decimals=token.decimals,
            fee_bps=0,
            min_fee="0",
            min_window=self._least_window,
            confirmations=0,
            round_ms=0,
            blob_bytes_max=BLOB_BYTES_MAX,
            chunk_bytes_max=CHUNK_BYTES_MAX,
            time=int(time.time() * 1000),
        )
