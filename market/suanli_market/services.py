"""The parts of a running market that its handlers use; wired in `bootstrap`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from suanli_market.admission.desk import Admission
from suanli_market.api.limits import RequestLimits
from suanli_market.chain.indexer import Indexer
from suanli_market.chain.writer import ChainWriter
from suanli_market.clearing.keeper import Keeper
from suanli_market.clearing.rounds import Rounds
from suanli_market.figures import Figures
from suanli_market.health import Health
from suanli_market.hub import Hub
from suanli_market.leasing.receipts import Receipts
from suanli_market.leasing.relay import Relay
from suanli_market.leasing.retention import Retention
from suanli_market.metrics import Counters
from suanli_market.store import Store
from suanli_protocol.gate import Gate
from suanli_protocol.wire import MarketInfo


@dataclass(frozen=True, slots=True)
class Services:
    """One market."""

    info: MarketInfo
    store: Store
    hub: Hub
    keeper: Keeper
    gate: Gate
    admission: Admission
    rounds: Rounds
    chain_writer: ChainWriter
    indexer: Indexer
    receipts: Receipts
    relay: Relay
    retention: Retention
    counters: Counters
    limits: RequestLimits
    health: Health
    figures: Figures

    def start(self) -> None:
        """Starts the threads: the chain is followed before anything is cleared."""
        self.indexer.start()
        self.chain_writer.start()
        self.admission.start()
        self.rounds.start()
        self.retention.start()

    def stop(self) -> None:
        """Ends streams and threads; what was acknowledged is on the disk."""
        self.hub.close()
        self.retention.stop()
        self.rounds.stop()
        self.admission.stop()
        self.chain_writer.stop()
        self.indexer.stop()
        self.health.close()
        self.store.close()


async def services_of(request: Request) -> Services:
    return cast(Services, request.app.state.services)


Market = Annotated[Services, Depends(services_of)]
