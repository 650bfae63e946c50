"""A lease that its consumer opens itself is brought to the node from where it lies; no chain is read from the start."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from suanli.session import direct, lookback
from suanli.session.desk import Desk
from suanli.session.lookback import SLACK_S, newest_lease
from suanli_protocol import devnet, lease_lookup, wire
from suanli_protocol.chain import Chain
from suanli_protocol.errors import IntegrityError, UnreachableError
from suanli_protocol.lease import ask_up
from suanli_protocol.messages import Bid, Offer
from support.consumer_desk import a_desk, an_open_lease
from support.devnet import Anvil
from support.market import World, a_world, signed_bid, signed_offer
from support.records import a_record

SPAN_BLOCKS = 5


@pytest.fixture(scope="module")
def world(anvil: Anvil) -> World:
    return a_world(anvil)


class Node:
    """A node that takes what is brought, once it can be reached."""

    def __init__(self, *, away: int = 0) -> None:
        self.taken: list[wire.TakenLease] = []
        self._away = away

    def take(self, taken: wire.TakenLease) -> wire.LeaseView:
        if self._away:
            self._away -= 1
            raise UnreachableError("it is away")
        self.taken.append(taken)
        return wire.LeaseView.model_construct(id=taken.id)


def a_direct_desk(world: World, root: Path, node: Node) -> Desk:
    """The desk of a job that is to be opened by its consumer."""
    consumer, provider = world.party(), world.party()
    bid = signed_bid(world, consumer.signer, consumer.address, fee_bps=0)
    offer = signed_offer(world, provider.signer)
    papers = wire.paper_from_json(Bid, bid.bid), wire.paper_from_json(Offer, offer.offer)
    record = a_record(
        papers[0].seat.hex(),
        created_at=int(time.time()),
        bid=bid.bid,
        signature=bid.signature,
        constraints=bid.constraints,
        job_digest=bid.job_digest,
        plan={"offer": offer.to_json(), "rate": str(ask_up(*papers))},
    )
    return a_desk(world, record, consumer.signer, root, market=node)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blocks each question for events spans."""
    monkeypatch.setattr(lookback, "SPAN_BLOCKS", SPAN_BLOCKS)
    spans: list[int] = []
    logs = Chain.logs

    def counted(chain: Chain, address: str, first: int, last: int, **named: Any) -> Any:
        spans.append(last - first + 1)
        return logs(chain, address, first, last, **named)

    monkeypatch.setattr(Chain, "logs", counted)
    return spans


def test_a_lease_is_brought_by_the_receipt_of_its_opening_and_no_event_is_looked_for(
    world: World, tmp_path: Path, asked: list[int]
) -> None:
    node = Node()
    desk = a_direct_desk(world, tmp_path, node)
    direct.open_lease(desk)
    assert asked == []
    assert (desk.record.phase, desk.record.lease) == ("leased", node.taken[0].id)
    mined = world.chain.receipt(wire.from_hex(node.taken[0].transaction))
    assert mined is not None
    assert (node.taken[0].block, node.taken[0].block_hash) == (mined.block, wire.to_hex(mined.block_hash))


def test_after_a_break_it_is_looked_for_from_the_newest_block_back(
    world: World, tmp_path: Path, asked: list[int]
) -> None:
    node = Node(away=1)
    desk = a_direct_desk(world, tmp_path, node)
    with pytest.raises(UnreachableError):
        direct.open_lease(desk)
    devnet.mine(world.chain, 3 * SPAN_BLOCKS)
    direct.open_lease(desk)
    assert len(node.taken) == 1
    assert 0 < len(asked) <= 4
    assert max(asked) == SPAN_BLOCKS


def test_nothing_is_looked_for_before_the_bid_was_signed(world: World, asked: list[int]) -> None:
    consumer = world.party()
    view, _, _ = an_open_lease(world, consumer=consumer, market=consumer)
    bid = wire.paper_from_json(Bid, view.bid)
    devnet.mine(world.chain, 2 * SPAN_BLOCKS)
    asked.clear()
    found = newest_lease(world.escrow, bid, view.opened_at)
    assert found is not None
    assert wire.to_hex(found.lease_id) == view.id
    assert sum(asked) <= 3 * SPAN_BLOCKS
    asked.clear()
    tomorrow = world.chain.block().timestamp + 86_400 + SLACK_S
    assert newest_lease(world.escrow, bid, tomorrow) is None
    assert asked == [SPAN_BLOCKS]


def test_a_seat_that_another_bid_has_is_named(world: World, tmp_path: Path) -> None:
    desk = a_direct_desk(world, tmp_path, Node())
    bid = wire.paper_from_json(Bid, desk.record.bid)
    world.escrow.cancel(desk.signer, desk.signer.address, bid.seat)
    with pytest.raises(IntegrityError, match="no lease of this bid"):
        direct.open_lease(desk)


def test_a_young_lease_is_found_in_the_newest_blocks(
    world: World, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_lookup, "LOG_SPAN_BLOCKS", SPAN_BLOCKS)
    devnet.mine(world.chain, 2 * SPAN_BLOCKS)
    view, _, _ = an_open_lease(world)
    asked.clear()
    found = lease_lookup.find_lease(world.escrow, view.id)
    assert found.history.state == "open"
    assert sum(asked) <= 2 * SPAN_BLOCKS
    asked.clear()
    assert lease_lookup.look_up(world.escrow, found.opened) == found
    assert sum(asked) <= SPAN_BLOCKS
