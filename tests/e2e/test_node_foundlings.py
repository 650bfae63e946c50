"""Leases on a real chain of which nobody tells the node: it finds them by their events and ends them, bond unharmed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from suanli_node.background import Background
from suanli_node.leases import foundlings
from suanli_node.leases.census import Census
from suanli_node.leases.closer import Closer
from suanli_node.leases.closing import Move
from suanli_node.leases.desk import LeaseDesk
from suanli_node.leases.ending import ending_of
from suanli_node.leases.ledger import Ledger
from suanli_node.leases.record import LeaseFolder, LeaseRecord, Step
from suanli_node.leases.services import Services
from suanli_node.outbox import Outbox, OutboxEscrow
from suanli_node.settings import StateFolder
from suanli_protocol import wire
from suanli_protocol.errors import IntegrityError, NotFoundError, UnreachableError
from suanli_protocol.events import Claimed, Opened
from suanli_protocol.lease import Kind, Phase, Progress
from suanli_protocol.openings import encode_open
from support import builders
from support.devnet import Anvil
from support.lease_lives import LeaseLives, Live

pytestmark = pytest.mark.e2e
WAIT_S = 30.0


class SilentMarket:
    """Knows nothing and keeps nothing."""

    def leases(self, *, state: str = "") -> list[wire.LeaseView]:
        """It is away."""
        raise UnreachableError("away")

    def lease(self, lease: bytes, *_: object) -> Any:
        """Of no lease."""
        raise NotFoundError("no such lease")

    report = post_receipt = post_logs = lease


class NoRuns:
    """An executor that was never asked for anything."""

    def runs(self) -> list[Any]:
        """None."""
        return []

    def stop(self, lease_id: str, *_: object) -> None:
        """There is nothing to stop."""
        raise NotFoundError("no run")

    forget = stop

    def read_log(self, lease_id: str, offset: int) -> tuple[list[Any], int]:
        """Nothing was said."""
        return [], offset


class Node:
    """A desk, a census and a closer over a real chain."""

    def __init__(self, lives: LeaseLives, folder: Path) -> None:
        self.lives, self.state = lives, StateFolder(folder)
        self.state.create()
        escrow = OutboxEscrow(
            lives.chain, lives.escrow.address, Outbox(lives.chain, lives.provider, self.state.outbox, self.state.gas)
        )
        ledger = Ledger(escrow, lives.provider, "latest")
        self.census = Census(lives.escrow, lives.provider.address, self.state.census, lookback_s=10**6)

        def services(desk: LeaseDesk) -> Services:
            return Services(
                signer=lives.provider, domain=lives.escrow.domain, market=SilentMarket(),  # type: ignore[arg-type]
                read_seat=ledger.read_seat, read_history=ledger.read_history, census=self.census,
                runner=NoRuns(), workshop=None, receipts=self.state.receipts,  # type: ignore[arg-type]
                endings=self.state.endings, ending=lambda record, history: ending_of(record, history, lives.chain),
                reports=Background(1, "reports"), on_end=desk.ended, on_trouble=desk.wanted.set, is_void=ledger.is_void,
            )  # fmt: skip

        self.desk = LeaseDesk(self.state, builders.a_capacity(), services)
        self.closer = Closer(self.desk.services, ledger, self.desk.look_at)

    def look(self) -> None:
        """What the daemon does each half a minute."""
        with suppress(UnreachableError):
            self.desk.reconcile()

    def ended(self, live: Live) -> LeaseRecord:
        """The record of a lease once its receipt is signed."""
        return eventually(lambda: next((r.record for r in self.desk.runs() if _is(r, live) and _is_posted(r)), None))

    def make(self, move: Move, live: Live) -> None:
        """A move of the closer's, without waiting for its time."""
        self.closer.do(move, next(run for run in self.desk.runs() if _is(run, live)))


def _is(run: Any, live: Live) -> bool:
    return bool(run.assignment.id == live.id)


def _is_posted(run: Any) -> bool:
    return bool(run.record.step is Step.POSTED)


def eventually(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def lives(anvil: Anvil) -> LeaseLives:
    return LeaseLives(anvil.url, "foundlings")


@pytest.fixture
def node(lives: LeaseLives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(foundlings, "UNANNOUNCED_S", 0.0)
    monkeypatch.setattr(foundlings, "JOB_WAIT_S", -(10**8))
    return Node(lives, tmp_path)


def pass_time(lives: LeaseLives, seconds: int) -> None:
    lives.chain.rpc("evm_increaseTime", seconds)
    lives.chain.rpc("evm_mine")


def free(lives: LeaseLives) -> int:
    return lives.escrow.account(lives.provider.address).free


@pytest.mark.parametrize("is_stopped", [False, True], ids=["running", "stopped at once"])
def test_a_lease_that_nobody_announces_ends_with_the_whole_bond(
    lives: LeaseLives, node: Node, is_stopped: bool
) -> None:
    before = free(lives)
    (live,) = lives.open(lives.papers(window=60))
    assert free(lives) < before, "the bond is locked"
    if is_stopped:
        lives.escrow.stop(lives.consumer, live.lease, live.clauses, Progress())
    node.look()
    record = node.ended(live)
    assert (record.reason, record.receipt.amount, record.bare) == (
        "stopped" if is_stopped else "startup_timeout",
        0,
        True,
    )
    node.make(Move.CLAIM, live)
    first = lives.chain.block("latest").number
    (claim,) = [e for e in lives.escrow.events_of_lease(live.id, first, first) if isinstance(e, Claimed)]
    assert (claim.amount, claim.kind) == (0, Kind.DONE)
    pass_time(lives, 61)
    node.make(Move.FINALIZE, live)
    assert free(lives) == before
    node.look()
    assert node.desk.runs() == []
    assert (node.state.endings / f"{live.id.hex()}.json").exists()
    node.look()
    assert node.desk.idle


def test_the_next_process_goes_on_with_it(lives: LeaseLives, node: Node) -> None:
    (live,) = lives.open()
    node.look()
    signed = node.ended(live).signed
    node.desk.halt()
    again = Node(lives, node.state.path)
    again.desk.restore()
    assert [run.record.signed for run in again.desk.runs() if run.assignment.id == live.id] == [signed]
    again.make(Move.RELEASE, live)


def test_an_illegible_record_keeps_its_lease_only_until_there_is_just_time_for_a_claim(
    lives: LeaseLives, node: Node
) -> None:
    (live,) = lives.open(lives.papers(max_seconds=60, window=60))
    folder = LeaseFolder(node.state.leases / live.id.hex())
    folder.path.mkdir()
    (folder.path / "record.json").write_text("{")
    node.look()
    assert not any(_is(run, live) for run in node.desk.runs())
    lives.escrow.stop(lives.consumer, live.lease, live.clauses, Progress())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foundlings.time, "time", lambda: float(lives.now + 21))
        node.look()
    assert node.ended(live).never_begun
    assert (folder.path / "record.unread").exists()
    node.make(Move.RELEASE, live)


def test_it_is_left_open_for_as_long_as_its_papers_may_come(
    lives: LeaseLives, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    (live,) = lives.open()
    monkeypatch.setattr(foundlings, "JOB_WAIT_S", 10**8)
    node.look()
    node.look()
    assert not any(_is(run, live) for run in node.desk.runs())
    assert not node.desk.idle
    lives.escrow.release(lives.provider, live.lease, live.clauses, Progress())
    node.look()
    eventually(lambda: node.desk.idle or node.look())


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_lease_that_the_chain_took_back_is_kept_until_its_papers_have_run_out(
    lives: LeaseLives, node: Node, attempt: int
) -> None:
    bid, offer = lives.papers(attempts=attempt)
    former = lives.open((bid, offer))[0] if attempt == 2 else None
    if former is not None:
        lives.release(former)
    before = lives.chain.rpc("evm_snapshot")
    live = lives.reopen(former) if former is not None else lives.open((bid, offer))[0]
    node.look()
    node.ended(live)
    lives.chain.rpc("evm_revert", before)
    pass_time(lives, 5)
    node.look()
    assert any(_is(run, live) for run in node.desk.runs()), "the same papers may be opened again"
    pass_time(lives, 601)
    node.look()
    assert not any(_is(run, live) for run in node.desk.runs())
    ending = json.loads((node.state.endings / f"{live.id.hex()}.json").read_bytes())
    assert (ending["how"], ending["paid"]) == ("void", "0")
    assert not (node.state.leases / live.id.hex()).exists()


def test_a_lease_that_is_open_is_never_void(lives: LeaseLives, node: Node) -> None:
    (live,) = lives.open()
    node.look()
    node.ended(live)
    pass_time(lives, 601)
    (run,) = [run for run in node.desk.runs() if _is(run, live)]
    assert not node.desk.services.is_void(run.record.view, run.assignment)
    elsewhere = run.record.view.model_copy(update={"block_hash": wire.to_hex(bytes(32))})
    assert not node.desk.services.is_void(elsewhere, run.assignment), "the escrow says that it was opened"
    lives.release(live)


def test_each_opening_is_found_once_from_a_stored_block(lives: LeaseLives, tmp_path: Path) -> None:
    def a_census() -> Census:
        return Census(lives.escrow, lives.provider.address, tmp_path / "census.json", lookback_s=10**6)

    (first,) = lives.open()
    census = a_census()
    found = {item.opened.lease_id for item in census.read_on(lambda _: False)}
    assert first.id in found
    again = {item.opened.lease_id for item in a_census().read_on(lambda _: False)}
    assert again == found, "what nobody drives is read again by the next process"
    assert census.read_on(lambda _: True) == []
    assert a_census().read_on(lambda _: False) == []
    (second,) = lives.open()
    assert [item.opened.lease_id for item in census.read_on(lambda _: False)] == [second.id]
    strangers = Census(lives.escrow, lives.consumer.address, tmp_path / "other.json", lookback_s=10**6)
    assert strangers.read_on(lambda _: False) == []
    for live in (first, second):
        lives.escrow.release(lives.provider, live.lease, live.clauses, Progress())


def deploy_veil(lives: LeaseLives) -> str:
    """A contract that calls the escrow with the inverse of what it is called with: its calldata shows no papers."""
    code = "6000" + "5b" + "3681101560155780351981526020016002565b"
    code += "60006000366000600073" + lives.escrow.address[2:].lower() + "5af1603e57" + "60006000fd" + "5b00"
    assert len(code) == 2 * 64
    made = lives.chain.wait(lives.chain.send(lives.market, bytes.fromhex("604080600b6000396000f3" + code), to=None))
    return made.contract


def test_papers_behind_another_contract_are_found_where_the_endpoint_traces(lives: LeaseLives, node: Node) -> None:
    veil = deploy_veil(lives)
    bid, offer = lives.papers(market=veil)
    call = encode_open(bytes(32), [lives.opening(bid, offer)])
    veiled = bytes(255 - byte for byte in call.ljust(-(-len(call) // 32) * 32, b"\0"))
    mined = lives.chain.wait(lives.chain.send(lives.market, veiled, to=veil))
    (opened,) = [event for event in lives.escrow.events_of(mined) if isinstance(event, Opened)]
    found = next(item for item in node.census.read_on(lambda _: False) if item.opened.lease_id == opened.lease_id)
    view = node.census.view(found)
    assert view.bid == wire.paper_to_json(bid)
    assignment = node.census.assignment(view)
    assert node.census.stand(assignment).progress.phase is Phase.RUNNING
    lives.chain.rpc, traced = _without_traces(lives), lives.chain.rpc  # type: ignore[method-assign]
    try:
        with pytest.raises(IntegrityError, match="does not hold the papers"):
            node.census.view(found)
        assert not node.census.is_closed(found)
    finally:
        lives.chain.rpc = traced  # type: ignore[method-assign]
    lives.escrow.release(lives.provider, assignment.lease, assignment.clauses, Progress())
    assert node.census.is_closed(found)


def _without_traces(lives: LeaseLives) -> Callable[..., Any]:
    rpc = lives.chain.rpc

    def refusing(method: str, *params: object) -> Any:
        return rpc("debug_nothing" if method.startswith("debug_") else method, *params)

    return refusing
