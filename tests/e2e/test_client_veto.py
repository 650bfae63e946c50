"""A market and a provider that collude against a consumer's conditions: on the chain all is well, off it is not.

The escrow knows no regions: it opens the lease. The client finds the breach before it seals anything, and stops.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from suanli.jobs.record import Record
from suanli.jobs.store import Store
from suanli.network import Network
from suanli.session.agreement import read_agreement
from suanli.session.desk import Desk
from suanli.session.handover import agree, hand_over
from suanli.session.progress import Silent
from suanli_protocol import wire
from suanli_protocol.documents import hex32
from suanli_protocol.errors import IntegrityError
from suanli_protocol.escrow import Fill, Opening
from suanli_protocol.events import Opened
from suanli_protocol.lease import BY_CONSUMER_SIDE, Phase, Progress, ask_up, seat_word
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.signing import struct_hash
from support.builders import a_job, some_constraints
from support.devnet import Anvil
from support.market import World, a_world, signed_bid, signed_offer

pytestmark = pytest.mark.e2e


class SilentMarket:
    """A market that nothing must be sent to."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the market was asked for {name}")


def a_breached_lease(world: World, regions: tuple[str, ...]) -> tuple[wire.LeaseView, Record, Any]:
    """A lease that is open on the chain, on a machine in CN-GD, for a bid that asks for `regions`."""
    consumer, provider, market = (world.party() for _ in range(3))
    constraints, job = some_constraints(regions=regions), a_job()
    signed = signed_bid(world, consumer.signer, market.address, constraints=constraints, job=job)
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


def a_desk(world: World, record: Record, signer: Any, root: Path) -> Desk:
    network = SimpleNamespace(market=SilentMarket(), domain=world.escrow.domain, escrow=world.escrow, chain=world.chain)
    return Desk(cast(Network, network), Store(root), record, signer, Silent(), None)


def test_a_breach_is_stopped_on_the_chain_before_anything_is_sent(anvil: Anvil, tmp_path: Path) -> None:
    world = a_world(anvil)
    view, record, signer = a_breached_lease(world, ("DE",))
    desk = a_desk(world, record, signer, tmp_path)
    with pytest.raises(IntegrityError, match="region") as caught:
        agree(desk, view)
    assert "stopped on the chain" in caught.value.hint
    assert record.delivered == []
    lease = read_agreement(view, desk.domain, signer.address)
    now = world.chain.block("latest").timestamp
    word = world.escrow.seat(lease.lease.seat_key)
    stops = [Progress(clock=now - back, phase=Phase.STOPPED, flags=BY_CONSUMER_SIDE) for back in range(5)]
    assert word in [seat_word(lease.id, stop) for stop in stops]
    told = view.model_copy(update={"state": "stopped"})
    assert agree(desk, told)[1] is False  # followed to its end, never handed anything


def test_a_lease_that_is_not_on_the_chain_gets_nothing(anvil: Anvil, tmp_path: Path) -> None:
    world = a_world(anvil)
    view, record, signer = a_breached_lease(world, ())
    desk = a_desk(world, record, signer, tmp_path)
    agreement, is_kept = agree(desk, view)
    assert is_kept
    world.escrow.stop(signer, agreement.lease, agreement.clauses, Progress())
    with pytest.raises(IntegrityError, match="chain"):
        hand_over(desk, agreement)
    assert record.delivered == []
