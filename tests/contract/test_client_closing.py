"""What a client signs and believes of a lease's end, on a real chain whatever the market says of it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from suanli.jobs.store import Store
from suanli.session.agreement import NotYetOnChainError, read_agreement
from suanli.session.closing import see_closed, take_receipt
from suanli.session.joblog import LogFollower
from suanli.session.outcome import status_of
from suanli.session.session import Session
from suanli.session.standing import billable_until, stop
from suanli_protocol import wire
from suanli_protocol.documents import LogSummary
from suanli_protocol.errors import IntegrityError
from suanli_protocol.escrow import Fill, Opening, Settlement
from suanli_protocol.lease import Kind, Previous, Progress
from suanli_protocol.lease_history import read_history
from suanli_protocol.messages import Receipt
from suanli_protocol.reasons import Reason
from support.builders import some_usage
from support.consumer_desk import a_desk, a_network, an_open_lease
from support.devnet import Anvil
from support.market import World, a_world
from support.receipts import LOG, an_evidence, signed

EVIDENCE = b"\x05" * 32


@pytest.fixture(scope="module")
def world(anvil: Anvil) -> World:
    return a_world(anvil)


class Scene:
    """One open lease with its parties."""

    def __init__(self, world: World, root: Path, **bid_fields: Any) -> None:
        self.world, self.provider, self.market = world, world.party(), world.party()
        self.root = root
        self.view, self.record, self.consumer = an_open_lease(
            world, provider=self.provider, market=self.market, **bid_fields
        )
        self.agreement = read_agreement(self.view, world.escrow.domain, self.consumer.address)

    @property
    def progress(self) -> Progress:
        """How far the lease is."""
        head = self.world.chain.block("latest").number
        return read_history(self.world.escrow, self.agreement.id, self.view.block, head).progress

    def stop(self) -> None:
        """The consumer's stop."""
        self.world.escrow.stop(self.consumer, self.agreement.lease, self.agreement.clauses, self.progress)

    def claim(self, amount: int, kind: Kind = Kind.DONE) -> None:
        """The provider's claim."""
        terms = (self.agreement.lease, self.agreement.clauses, self.progress)
        self.world.escrow.claim(self.provider.signer, *terms, amount, kind, EVIDENCE)

    def settle(self, amount: int, kind: Kind) -> None:
        """A receipt of both sides, paid."""
        paper = Receipt(self.agreement.id, amount, kind, EVIDENCE)
        signatures = [key.sign(self.world.escrow.domain, paper) for key in (self.provider.signer, self.consumer)]
        self.world.escrow.settle(
            self.provider.signer, [Settlement(self.agreement.lease, self.progress, amount, kind, EVIDENCE, *signatures)]
        )

    def open_again(self) -> None:
        """The market opens the next attempt at the same seat."""
        agreement, view = self.agreement, self.view
        proof = Previous(agreement.clauses, 0).encode()
        fill = Fill(agreement.offer, wire.from_hex(view.offer_signature), int(view.rate), 0, proof)
        opening = Opening(agreement.bid, wire.from_hex(view.bid_signature), (fill,))
        self.world.escrow.open(self.market.signer, bytes(32), [opening])

    def desk(self, market: object = None) -> Any:
        """The consumer's desk."""
        return a_desk(self.world, self.record, self.consumer, self.root, market=market)


class Receipts:
    """A market that has a receipt, and takes the consumer's signature."""

    def __init__(self, receipt: wire.SignedReceipt) -> None:
        self._receipt, self.taken = receipt, 0

    def receipt(self, _: bytes) -> wire.SignedReceipt:
        return self._receipt

    def countersign(self, _: bytes, body: wire.Countersignature) -> None:
        self.taken += 1


class WholeLog:
    """A log that came as the evidence names it."""

    def wait(self, *_: object) -> LogSummary:
        return LOG


def countersign(scene: Scene, seconds: int) -> Receipts:
    """Lets the client look at a receipt over so many seconds."""
    opened = scene.agreement.clauses.opened_at
    evidence = an_evidence(
        scene.agreement,
        usage=some_usage(wall_ms=seconds * 1000),
        reason=Reason.STOPPED.value,
        exit_code=None,
        started_at=opened,
        ended_at=opened + seconds,
    )
    market = Receipts(signed(evidence, scene.provider.signer, scene.world.escrow.domain))
    take_receipt(scene.desk(market), scene.agreement, cast(LogFollower, WholeLog()), scene.view)
    return market


def test_a_running_lease_is_billable_to_its_end_and_a_stopped_one_to_the_stop(world: World, tmp_path: Path) -> None:
    scene = Scene(world, tmp_path)
    agreement = scene.agreement
    assert billable_until(scene.desk(), agreement) == agreement.clauses.ends_at
    scene.stop()
    clock = scene.progress.clock
    assert billable_until(scene.desk(), agreement) == clock < agreement.clauses.ends_at
    time.sleep(1.1)
    scene.claim(0)
    assert scene.progress.clock > clock
    assert billable_until(scene.desk(), agreement) == clock


def test_nothing_is_signed_for_the_time_after_a_stop(world: World, tmp_path: Path) -> None:
    scene = Scene(world, tmp_path)
    scene.stop()
    most = max(scene.agreement.clauses.min_seconds, scene.progress.clock - scene.agreement.clauses.opened_at)
    with pytest.raises(IntegrityError, match=r"^evidence\.billedSeconds"):
        countersign(scene, most + 1)
    assert not scene.record.countersignature
    assert countersign(scene, most).taken == 1
    assert scene.record.countersignature


@pytest.mark.parametrize("ending", ["release", "failed"])
def test_an_attempt_is_seen_closed_although_the_next_one_has_the_seat(
    world: World, tmp_path: Path, ending: str
) -> None:
    scene = Scene(world, tmp_path, attempts=2)
    agreement, record = scene.agreement, scene.record
    if ending == "release":
        world.escrow.release(scene.provider.signer, agreement.lease, agreement.clauses, Progress())
    else:
        scene.settle(0, Kind.FAILED)
    scene.open_again()
    see_closed(scene.desk(), agreement, scene.view)
    assert (record.phase, record.paid) == ("settled", "0")
    assert record.gas > 0


def test_what_the_own_endpoint_has_not_seen_is_waited_for(world: World, tmp_path: Path) -> None:
    scene = Scene(world, tmp_path)
    closed = scene.view.model_copy(update={"state": "settled", "settled_transaction": "0x" + "ee" * 32})
    with pytest.raises(NotYetOnChainError, match="still holds"):
        see_closed(scene.desk(), scene.agreement, closed)
    with pytest.raises(NotYetOnChainError, match="has not opened"):
        see_closed(scene.desk(), replace(scene.agreement, id=b"\x09" * 32), closed)
    scene.settle(0, Kind.DONE)
    see_closed(scene.desk(), scene.agreement, closed)
    assert scene.record.phase == "settled"
    assert scene.record.transaction != closed.settled_transaction


class OfClosed(Receipts):
    """A market whose lease is over, with a receipt that was never signed by both."""

    def __init__(self, view: wire.LeaseView, receipt: wire.SignedReceipt) -> None:
        super().__init__(receipt)
        self._view = view.model_copy(update={"state": "settled", "receipt": receipt.receipt})

    def lease(self, _: bytes) -> wire.LeaseView:
        return self._view

    def logs(self, *_: object, **__: object) -> wire.LogPage:
        return wire.LogPage(chunks=[], complete=True)


def test_a_false_receipt_keeps_no_job_from_its_end(world: World, tmp_path: Path) -> None:
    scene = Scene(world, tmp_path)
    evidence = an_evidence(scene.agreement, amount="999")
    market = OfClosed(scene.view, signed(evidence, scene.provider.signer, world.escrow.domain))
    scene.settle(2, Kind.DONE)
    session = Session(a_network(world, market), Store(tmp_path), scene.record, scene.consumer)
    record = session.look()
    session.stop_log()
    assert (record.phase, record.paid, record.reason, status_of(record)) == ("settled", "2", "receipt_refused", 104)
    assert "amount" in record.detail
    assert not record.countersignature


@pytest.mark.parametrize("block", [0, 2**40])
def test_where_a_lease_was_opened_is_nobodys_word(world: World, tmp_path: Path, block: int) -> None:
    scene = Scene(world, tmp_path)
    lie = scene.view.model_copy(update={"block": block})
    assert stop(scene.desk(), scene.agreement).state == "stopped"
    scene.settle(0, Kind.DONE)
    see_closed(scene.desk(), scene.agreement, lie)
    assert scene.record.phase == "settled"


def test_other_money_than_was_signed_is_named(world: World, tmp_path: Path) -> None:
    scene = Scene(world, tmp_path)
    scene.settle(3, Kind.DONE)
    scene.record.receipt = {"amount": "2"}
    with pytest.raises(IntegrityError, match=r"^paid: the chain says 3"):
        see_closed(scene.desk(), scene.agreement, scene.view)
