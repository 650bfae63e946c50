"""The desk: takes what chain and papers prove, once, while there is room, with or without the market's events."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from suanli_node.background import Background
from suanli_node.engine.runlog import LogEntry
from suanli_node.engine.runs import RunPhase, RunSpec, RunStatus
from suanli_node.leases import desk as lease_desk
from suanli_node.leases import hold
from suanli_node.leases import run as lease_run
from suanli_node.leases.desk import LeaseDesk
from suanli_node.leases.ending import Ending
from suanli_node.leases.record import LeaseFolder, LeaseRecord, Step
from suanli_node.leases.services import Services
from suanli_node.leases.standing import Place, Standing
from suanli_node.leases.verification import Assignment
from suanli_node.settings import StateFolder
from suanli_protocol import wire
from suanli_protocol.capacity import Lanes
from suanli_protocol.documents import hex32
from suanli_protocol.errors import ChainUnavailableError, NotFoundError, UnreachableError
from suanli_protocol.escrow import CLOSED, UNUSED
from suanli_protocol.events import Reclaimed, Settled
from suanli_protocol.lease import Kind, Phase, Progress
from suanli_protocol.lease_history import LeaseHistory
from support import builders
from support.lease_scene import Clock
from support.leases import Opened, an_opened_lease

WAIT_S = 20.0


@dataclass
class Market:
    """Lists leases; has no job for any, so each waits in its first step."""

    views: dict[str, wire.LeaseView] = field(default_factory=dict)
    gone: bool = False

    def leases(self, *, state: str = "") -> list[wire.LeaseView]:
        """All that are open."""
        if self.gone:
            raise UnreachableError("gone")
        return list(self.views.values())

    def lease(self, lease: bytes) -> wire.LeaseView:
        """One."""
        if hex32(lease) not in self.views:
            raise NotFoundError("no such lease")
        return self.views[hex32(lease)]

    def get_blob(self, lease: bytes, slot: str) -> Any:
        """Not here."""
        raise NotFoundError("not here")

    def report(self, *_: object) -> None:
        """Takes it."""

    post_logs = post_receipt = report


@dataclass
class Runner:
    """Knows runs that somebody else may have started."""

    known: dict[str, RunStatus] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)

    def runs(self) -> list[RunStatus]:
        """All."""
        return list(self.known.values())

    def stop(self, lease_id: str, reason: str) -> None:
        """Ends it."""
        if lease_id not in self.known:
            raise NotFoundError("no run")
        self.stopped.append(lease_id)
        self.known[lease_id] = RunStatus(lease_id, RunPhase.EXITED)

    def forget(self, lease_id: str) -> None:
        """Forgets it."""
        self.known.pop(lease_id, None)

    def start(self, spec: RunSpec) -> None:
        """Never a new one."""
        assert spec.lease_id in self.known, "nothing may be started here"

    def status(self, lease_id: str) -> RunStatus:
        """What is known."""
        if lease_id not in self.known:
            raise NotFoundError("no run")
        return self.known[lease_id]

    def wait_change(self, seen: RunStatus, timeout_s: float) -> RunStatus:
        """As it was."""
        time.sleep(0.01)
        return seen

    def read_log(self, lease_id: str, offset: int) -> tuple[list[LogEntry], int]:
        """Nothing."""
        return [], offset


def an_ending(record: LeaseRecord, history: LeaseHistory) -> Ending:
    """The ending of a lease whose block is not asked for."""
    return Ending(record.view.id, 1, "", history.state, record.reason, "0", str(history.paid), "0", "0", 0, "")


def settled(opened: Opened) -> LeaseHistory:
    """The history of a lease that was settled over 5."""
    event = Settled(1, bytes(32), bytes(32), 0, opened.id, 5, 0, Kind.DONE, bytes(32))
    return LeaseHistory(Progress(), event)


class Node:
    """A desk over a chain in a dictionary."""

    def __init__(self, folder: Path, capacity: Lanes | None = None) -> None:
        self.chain: dict[bytes, bytes] = {}
        self.histories: dict[bytes, LeaseHistory] = {}
        self.reachable = True
        self.market, self.runner = Market(), Runner()
        self.state = StateFolder(folder)
        self.state.create()
        self.capacity = capacity or builders.a_capacity()
        self.papers_ran_out = False
        self.newest: dict[bytes, Progress] | None = None  # where the newest block is not trusted yet
        self.desk = self.a_desk()

    def a_desk(self) -> LeaseDesk:
        """As a process has it that begins."""

        def services(desk: LeaseDesk) -> Services:
            return Services(
                signer=builders.provider(),
                domain=builders.a_domain(),
                market=self.market,  # type: ignore[arg-type]
                read_seat=self.read_seat,
                read_history=self.read_history,
                runner=self.runner,
                workshop=None,  # type: ignore[arg-type]
                receipts=self.state.receipts,
                endings=self.state.endings,
                ending=an_ending,
                reports=Background(1, "reports"),
                on_end=desk.ended,
                on_trouble=desk.wanted.set,
                stand_newest=self.stand_newest,
                is_void=lambda *_: self.papers_ran_out,
            )

        return LeaseDesk(self.state, self.capacity, services)

    def stand_newest(self, assignment: Assignment) -> Standing:
        """By the newest block; as far as it is known."""
        progress = (self.newest or {}).get(assignment.id, Progress())
        return Standing(Place.OPEN, LeaseHistory(progress))

    def read_history(self, assignment: Assignment) -> LeaseHistory:
        """What the events say: the progress whose word is at the seat."""
        return self.histories.get(assignment.id, LeaseHistory())

    def read_seat(self, key: bytes) -> bytes:
        """The word at a seat."""
        if not self.reachable:
            raise ChainUnavailableError("gone")
        return self.chain.get(key, UNUSED)

    def open(self, n: int, **bid: Any) -> Opened:
        """A lease on chain and market."""
        opened = an_opened_lease(seat=builders.a_seat(n), **bid)
        self.chain[opened.lease.seat_key] = opened.word()
        self.market.views[opened.view.id] = opened.view
        return opened

    def tell(self, kind: str, opened: Opened) -> None:
        """An event of the market."""
        event = {"seq": 1, "at": 1, "kind": kind, "lease": opened.view.id}
        self.desk.handle(wire.Event.model_validate(event))

    def taken(self) -> set[str]:
        """The leases that the desk works on."""
        return {run.record.view.id for run in self.desk.runs()}


def eventually(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not look():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(lease_desk, "CHAIN_TRIES", 2)
    monkeypatch.setattr(hold, "time", Clock())
    return Node(tmp_path)


def test_an_opened_lease_is_taken_at_its_event_and_only_once(node: Node) -> None:
    opened = node.open(1)
    for _ in range(3):
        node.tell("lease.opened", opened)
    eventually(lambda: node.taken() == {opened.view.id})
    node.desk.reconcile()
    assert len(node.desk.runs()) == 1
    assert (node.state.leases / opened.view.id[2:] / "record.json").exists()


def test_a_lease_whose_event_was_lost_is_found(node: Node) -> None:
    opened = node.open(1)
    node.desk.reconcile()
    eventually(lambda: node.taken() == {opened.view.id})


def test_a_lease_that_the_chain_does_not_know_is_not_taken(node: Node) -> None:
    phantom, honest = node.open(1), node.open(2)
    del node.chain[phantom.lease.seat_key]
    for opened in (phantom, honest):
        node.tell("lease.opened", opened)
    eventually(lambda: node.taken() == {honest.view.id} and not node.desk._taking)
    assert {path.name for path in node.state.leases.iterdir()} == {honest.view.id[2:]}


def test_a_lease_of_other_terms_is_not_taken(node: Node) -> None:
    opened, honest = node.open(1), node.open(2)
    node.market.views[opened.view.id] = opened.told(rate=str(int(opened.view.rate) - 1))
    node.desk.reconcile()
    eventually(lambda: node.taken() == {honest.view.id} and not node.desk._taking)


def test_an_answer_about_another_lease_is_not_taken(node: Node) -> None:
    opened, other = node.open(1), node.open(2)
    node.market.views = {opened.view.id: other.view}
    node.tell("lease.opened", opened)
    eventually(lambda: not node.desk._taking)
    assert node.taken() == set()


def test_an_endpoint_that_is_behind_is_waited_for(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_desk, "CHAIN_TRIES", 8)
    opened = node.open(1)
    word = node.chain.pop(opened.lease.seat_key)
    threading.Timer(0.2, lambda: node.chain.update({opened.lease.seat_key: word})).start()
    node.tell("lease.opened", opened)
    eventually(lambda: node.taken() == {opened.view.id})


def test_what_does_not_fit_waits_until_there_is_room(tmp_path: Path) -> None:
    node = Node(tmp_path, builders.a_need())
    first = node.open(1)
    node.tell("lease.opened", first)
    eventually(lambda: node.taken() == {first.view.id})
    eventually(lambda: node.desk.runs()[0].admitted)
    second = node.open(2)
    node.tell("lease.opened", second)
    eventually(lambda: node.taken() == {first.view.id, second.view.id})
    waiting = next(run for run in node.desk.runs() if run.record.view.id == second.view.id)
    assert not waiting.admitted
    node.chain[first.lease.seat_key] = CLOSED
    node.histories[first.id] = settled(first)
    node.tell("lease.settled", first)
    eventually(lambda: waiting.admitted)


def test_what_never_fits_is_given_back(tmp_path: Path) -> None:
    node = Node(tmp_path, Lanes())
    opened = node.open(1)
    node.tell("lease.opened", opened)
    eventually(lambda: {run.record.step for run in node.desk.runs()} == {Step.POSTED})
    record = node.desk.runs()[0].record
    assert (record.reason, record.never_begun) == ("released", True)


def test_what_does_not_come_to_its_turn_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path, builders.a_need())
    first = node.open(1)
    node.tell("lease.opened", first)
    eventually(lambda: any(run.admitted for run in node.desk.runs()))
    monkeypatch.setattr(lease_run, "JOB_WAIT_S", 0.05)
    second = node.open(2)
    node.tell("lease.opened", second)
    eventually(lambda: Step.POSTED in {run.record.step for run in node.desk.runs()})
    given_back = next(run for run in node.desk.runs() if run.record.step is Step.POSTED)
    assert (given_back.record.view.id, given_back.record.reason) == (second.view.id, "released")


def stopped_on_chain(node: Node, opened: Opened, progress: Progress) -> None:
    node.chain[opened.lease.seat_key] = opened.word(progress)
    node.histories[opened.id] = LeaseHistory(progress)


def test_a_lease_that_was_stopped_before_it_was_seen_is_taken_and_ends_over_nothing(node: Node) -> None:
    opened = node.open(1)
    stopped_on_chain(node, opened, Progress(clock=builders.NOW, phase=Phase.STOPPED, flags=1))
    node.desk.reconcile()
    eventually(lambda: {run.record.step for run in node.desk.runs()} == {Step.POSTED})
    record = node.desk.runs()[0].record
    assert (record.reason, record.receipt.amount) == ("stopped", 0)


def test_a_lease_that_was_claimed_before_its_records_were_lost_waits_for_its_end(node: Node) -> None:
    opened = node.open(1)
    stopped_on_chain(node, opened, Progress(claimed=9, clock=builders.NOW, phase=Phase.CLAIMED, flags=2))
    node.desk.reconcile()
    eventually(lambda: node.taken() == {opened.view.id})
    assert (node.desk.runs()[0].record.step, node.desk.runs()[0].record.signed) == (Step.POSTED, None)


def test_a_stop_that_is_not_final_is_waited_for_but_not_over_the_window_for_a_claim(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = node.open(1)
    node.tell("lease.opened", opened)
    eventually(lambda: node.taken() == {opened.view.id})
    run = node.desk.runs()[0]
    node.newest = {opened.id: Progress(clock=builders.NOW, phase=Phase.STOPPED, flags=1)}
    monkeypatch.setattr(lease_desk.time, "time", lambda: builders.NOW + opened.clauses.window / 3 - 1)
    node.desk.reconcile()
    assert run.record.step is Step.ACCEPTED
    monkeypatch.setattr(lease_desk.time, "time", lambda: builders.NOW + opened.clauses.window / 3)
    node.desk.reconcile()
    eventually(lambda: run.record.step is Step.POSTED)
    assert (run.record.reason, run.record.stopped_at) == ("stopped", builders.NOW)


def test_the_next_attempt_at_a_seat_is_no_reorganised_one(node: Node) -> None:
    former, later = node.open(1, attempts=2), an_opened_lease(seat=builders.a_seat(1), attempts=2, attempt=2, spent=1)
    node.tell("lease.opened", former)
    eventually(lambda: node.taken() == {former.view.id})
    node.market.views = {later.view.id: later.view}
    node.chain[later.lease.seat_key] = later.word()
    event = Reclaimed(1, bytes(32), bytes(32), 0, former.id, 1, 0, 5)
    node.histories[former.id] = LeaseHistory(Progress(), event)
    node.tell("lease.opened", later)
    eventually(lambda: node.taken() == {former.view.id, later.view.id})
    assert {run.record.ran_as for run in node.desk.runs()} == {""}
    node.desk.reconcile()
    assert node.taken() == {later.view.id}
    assert json.loads((node.state.endings / f"{former.view.id[2:]}.json").read_text())["how"] == "reclaimed"


def test_a_record_that_cannot_be_used_is_never_written_over(node: Node) -> None:
    opened = node.open(1)
    folder = LeaseFolder(node.state.leases / opened.view.id[2:])
    record = LeaseRecord(opened.view, step=Step.STARTED).to_json() | {"step": "a newer one"}
    folder.path.mkdir()
    (folder.path / "record.json").write_text(json.dumps(record))
    node.desk.restore()
    node.desk.reconcile()
    node.tell("lease.opened", opened)
    eventually(lambda: not node.desk._taking)
    assert node.taken() == set()
    assert json.loads((folder.path / "record.json").read_text()) == record


def test_a_record_that_cannot_be_read_is_replaced_by_its_copy_with_the_receipt(node: Node) -> None:
    opened = node.open(1)
    node.tell("lease.opened", opened)
    stop = Progress(clock=builders.NOW, phase=Phase.STOPPED, flags=1)
    stopped_on_chain(node, opened, stop)
    node.tell("lease.stopped", opened)
    eventually(lambda: {run.record.step for run in node.desk.runs()} == {Step.POSTED})
    signed = node.desk.runs()[0].record.signed
    node.desk.halt()
    (node.state.leases / opened.view.id[2:] / "record.json").write_text("{")
    again = node.a_desk()
    again.restore()
    assert [run.record.signed for run in again.runs()] == [signed]


def test_news_are_believed_only_if_the_chain_says_the_same(node: Node) -> None:
    opened = node.open(1)
    node.tell("lease.opened", opened)
    eventually(lambda: node.taken() == {opened.view.id})
    run = node.desk.runs()[0]
    for kind in ("lease.settled", "lease.released", "lease.stopped"):
        node.tell(kind, opened)
    node.reachable = False
    node.tell("lease.settled", opened)
    node.reachable = True
    del node.market.views[opened.view.id]
    node.desk.reconcile()
    assert node.taken() == {opened.view.id}
    assert run.record.step is Step.ACCEPTED
    stop = Progress(clock=builders.NOW, phase=Phase.STOPPED, flags=1)
    node.chain[opened.lease.seat_key] = opened.word(stop)
    node.histories[opened.id] = LeaseHistory(stop)
    node.tell("lease.stopped", opened)
    eventually(lambda: run.record.step is Step.POSTED)
    assert run.record.reason == "stopped"


def test_a_settled_lease_is_forgotten_even_if_no_event_came(node: Node) -> None:
    opened = node.open(1)
    node.tell("lease.opened", opened)
    eventually(lambda: node.taken() == {opened.view.id})
    node.chain[opened.lease.seat_key] = CLOSED
    node.histories[opened.id] = settled(opened)
    node.market.gone = True  # it is not needed for that
    with pytest.raises(UnreachableError):
        node.desk.reconcile()
    assert node.taken() == set()
    assert list(node.state.leases.iterdir()) == []
    ending = json.loads((node.state.endings / f"{opened.view.id[2:]}.json").read_text())
    assert (ending["how"], ending["paid"]) == ("settled", "5")


def test_a_closed_seat_without_its_event_is_looked_at_twice(node: Node) -> None:
    opened = node.open(1)
    node.tell("lease.opened", opened)
    eventually(lambda: node.taken() == {opened.view.id})
    node.chain[opened.lease.seat_key] = CLOSED
    node.desk.reconcile()
    assert node.taken() == {opened.view.id}
    del node.market.views[opened.view.id]
    node.desk.reconcile()
    assert node.taken() == set()


def test_an_opening_that_the_chain_took_back_is_waited_for(node: Node) -> None:
    opened = node.open(1)
    node.tell("lease.opened", opened)
    eventually(lambda: node.taken() == {opened.view.id})
    word = node.chain.pop(opened.lease.seat_key)
    node.desk.reconcile()
    assert node.taken() == {opened.view.id}
    node.chain[opened.lease.seat_key] = word
    node.papers_ran_out = True
    node.desk.reconcile()
    assert node.taken() == {opened.view.id}


def test_an_opening_that_the_chain_took_back_for_good_is_let_go(node: Node) -> None:
    opened = node.open(1)
    node.tell("lease.opened", opened)
    eventually(lambda: node.taken() == {opened.view.id})
    del node.chain[opened.lease.seat_key], node.market.views[opened.view.id]
    node.papers_ran_out = True
    node.desk.reconcile()
    assert node.taken() == set()
    assert list(node.state.leases.iterdir()) == []
    assert json.loads((node.state.endings / f"{opened.view.id[2:]}.json").read_text())["how"] == "void"


def test_a_lease_opened_anew_takes_over_the_run(node: Node) -> None:
    former = an_opened_lease(seat=builders.a_seat(1))
    later = an_opened_lease(seat=builders.a_seat(1), opened_at=builders.NOW + 3)
    run_id = former.id.hex()
    spec = RunSpec(run_id, shell="true")
    status = RunStatus(run_id, RunPhase.RUNNING, started_at=builders.NOW + 1)
    node.runner.known[run_id] = status
    folder = LeaseFolder(node.state.leases / run_id)
    folder.save(LeaseRecord(former.view, step=Step.STARTED, job=former.job, spec=spec, ready_at=builders.NOW))
    node.desk.restore()
    node.chain[later.lease.seat_key] = later.word()
    node.market.views[later.view.id] = later.view
    node.desk.reconcile()
    eventually(lambda: node.taken() == {later.view.id})
    run = node.desk.runs()[0]
    assert (run.record.run_id, run.record.step) == (run_id, Step.STARTED)
    assert {path.name for path in node.state.leases.iterdir()} == {later.id.hex()}
    node.desk.reconcile()
    assert node.runner.stopped == []
    node.desk.halt()


def test_runs_that_belong_to_no_lease_are_stopped_then_forgotten(node: Node) -> None:
    opened = node.open(1)
    node.tell("lease.opened", opened)
    eventually(lambda: node.taken() == {opened.view.id})
    mine = opened.view.id[2:]
    node.runner.known = {name: RunStatus(name, RunPhase.RUNNING) for name in (mine, "stranger")}
    node.desk.reconcile()
    assert node.runner.stopped == ["stranger"]
    node.desk.reconcile()
    assert set(node.runner.known) == {mine}


def test_a_new_process_goes_on_with_what_it_finds(node: Node) -> None:
    opened = node.open(1)
    LeaseFolder(node.state.leases / opened.view.id[2:]).save(LeaseRecord(opened.view))
    (node.state.leases / "remains").mkdir()
    (node.state.leases / "torn").mkdir()
    (node.state.leases / "torn" / "record.json").write_text("{")
    node.desk.restore()
    assert node.taken() == {opened.view.id}
    assert {path.name for path in node.state.leases.iterdir()} == {opened.view.id[2:], "torn"}


def test_a_halting_desk_takes_nothing(node: Node) -> None:
    opened = node.open(1)
    node.desk.halt()
    node.tell("lease.opened", opened)
    node.desk.reconcile()
    assert node.taken() == set()
