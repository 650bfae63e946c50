"""A lease as the consumer's session meets it: open on a real chain, told by a market that says nothing else."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from suanli.jobs.record import Record
from suanli.jobs.store import Store
from suanli.network import Network
from suanli.session.desk import Desk
from suanli.session.progress import Change, Silent
from suanli_protocol import wire
from suanli_protocol.documents import hex32
from suanli_protocol.escrow import Fill, Opening
from suanli_protocol.events import Opened
from suanli_protocol.lease import ask_up
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.signing import Signer, struct_hash
from support.builders import a_job, some_constraints
from support.market import Party, World, signed_bid, signed_offer


class SilentMarket:
    """A market that nothing must be asked of."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the market was asked for {name}")


def an_open_lease(
    world: World,
    regions: tuple[str, ...] = (),
    *,
    provider: Party | None = None,
    market: Party | None = None,
    consumer: Party | None = None,
    **bid_fields: Any,
) -> tuple[wire.LeaseView, Record, Signer]:
    """A lease that is open on the chain, on a machine in CN-GD, for a bid that asks for `regions`; its consumer."""
    consumer, market, provider = consumer or world.party(), market or world.party(), provider or world.party()
    constraints, job = some_constraints(regions=regions), a_job()
    signed = signed_bid(world, consumer.signer, market.address, constraints=constraints, job=job, **bid_fields)
    offered = signed_offer(world, provider.signer)
    bid, offer = wire.paper_from_json(Bid, signed.bid), wire.paper_from_json(Offer, offered.offer)
    signatures = [wire.from_hex(paper.signature) for paper in (signed, offered)]
    rate = ask_up(bid, offer)
    opening = Opening(bid, signatures[0], (Fill(offer, signatures[1], rate),))
    mined = world.escrow.open(market.signer, bytes(32), [opening])
    opened = next(event for event in world.escrow.events_of(mined) if isinstance(event, Opened))
    view = wire.LeaseView(
        id=hex32(opened.lease_id),
        number=1,
        bid=signed.bid,
        bid_signature=signed.signature,
        offer=offered.offer,
        offer_signature=offered.signature,
        attributes=offered.attributes,
        constraints=signed.constraints,
        job_digest=signed.job_digest,
        rate=str(rate),
        index=0,
        attempt=1,
        opened_at=world.chain.block(mined.block).timestamp,
        block=mined.block,
        block_hash=hex32(mined.block_hash),
        transaction=hex32(mined.transaction),
        state="open",
        phase="leased",
    )
    record = Record(
        id=hex32(bid.seat),
        created_at=int(time.time()),
        market="http://127.0.0.1:9",
        chain=world.url,
        chain_id=31337,
        escrow=world.escrow.address,
        genesis=hex32(world.chain.genesis()),
        symbol="DEV",
        decimals=6,
        bid=signed.bid,
        bid_hash=hex32(struct_hash(bid)),
        constraints=signed.constraints,
        job=job.to_json(),
        lease=view.id,
        phase="queued",
    )
    return view, record, consumer.signer


def a_desk(
    world: World, record: Record, signer: Signer, root: Path, *, market: Any = None, watcher: Silent | None = None
) -> Desk:
    """The desk of the consumer's session, by the world's own endpoint."""
    return Desk(a_network(world, market or SilentMarket()), Store(root), record, signer, watcher or Silent(), None)


def a_network(world: World, market: Any) -> Network:
    """The world's own endpoint and escrow, and a market of the test's."""
    found = SimpleNamespace(market=market, domain=world.escrow.domain, escrow=world.escrow, chain=world.chain)
    return cast(Network, found)


class Told(Silent):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def changed(self, record: object, change: Change) -> None:
        """One more."""
        self.changes.append(change)

    @property
    def kinds(self) -> list[str]:
        """Of what kinds the changes were."""
        return [change.kind for change in self.changes]
