"""A lease's way through the node, killed before and after every side effect: one run, one receipt, nothing lost."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from suanli_node.background import Background
from suanli_node.engine import meter
from suanli_node.engine.environment import Check
from suanli_node.engine.runlog import LogEntry, LogWriter, Source, read_log
from suanli_node.engine.runs import RunPhase, RunSpec, RunStatus
from suanli_node.leases import log_shipping
from suanli_node.leases import run as lease_run
from suanli_node.leases.closing import Move, claimable, next_move
from suanli_node.leases.delivery import seal_outputs
from suanli_node.leases.ending import Ending
from suanli_node.leases.intake import RunRefusedError
from suanli_node.leases.record import LeaseFolder, LeaseRecord, Step
from suanli_node.leases.run import LeaseRun
from suanli_node.leases.services import Services
from suanli_node.leases.verification import Assignment, read_assignment
from suanli_node.leases.workshop import Collection, Say, spec_of
from suanli_protocol import wire
from suanli_protocol.archive import Source as ArchiveSource
from suanli_protocol.documents import Evidence, JobDocument
from suanli_protocol.errors import (
    ChainUnavailableError,
    ExecutionError,
    MarketError,
    NotFoundError,
    ProtocolError,
    UnreachableError,
)
from suanli_protocol.escrow import CLOSED
from suanli_protocol.lease import Phase, Progress, State
from suanli_protocol.lease_history import LeaseHistory
from suanli_protocol.messages import Delivered
from suanli_protocol.reasons import Reason
from suanli_protocol.sealing import Context, seal_bytes
from support import builders
from support.leases import Opened, an_opened_lease

WAIT_S = 20.0
USAGE = meter.Usage(wall_ms=2_000, cpu_ms=900, peak_memory_mib=10, samples=4, chain_head="0x" + "cd" * 32)


class Killed(BaseException):
    """kill -9, as far as a thread can feel it."""


class Fate:
    """Kills at the n-th side effect, once."""

    def __init__(self, at: int = 0) -> None:
        self.at, self.count = at, 0

    def strike(self) -> None:
        """One more side effect, before or after it is done."""
        self.count += 1
        if self.count == self.at:
            raise Killed


@dataclass
class FakeMarket:
    """Relays and keeps what it is sent, as the market does."""

    opened: Opened
    fate: Fate
    blobs: dict[str, bytes] = field(default_factory=dict)
    logs: dict[int, bytes] = field(default_factory=dict)
    receipts: list[wire.SignedReceipt] = field(default_factory=list)
    reports: list[wire.Report] = field(default_factory=list)
    outages: int = 0

    def info(self) -> Any:
        """As far as it is asked."""
        return type("Info", (), {"address": builders.market().address})

    def get_blob(self, lease: bytes, slot: str) -> Iterator[bytes]:
        """Ciphertext."""
        self.fate.strike()
        if slot not in self.blobs:
            raise NotFoundError("not here")
        yield self.blobs[slot]

    def put_blob(self, lease: bytes, slot: str, data: Any, size: int) -> wire.BlobView:
        """Takes it and signs for it."""
        self.fate.strike()
        data.seek(0)
        held = self.blobs.setdefault(slot, data.read(size))
        digest = hashlib.sha256(held).digest()
        delivered = Delivered(builders.market().address, lease, slot, digest, len(held), 1)
        signature = wire.to_hex(builders.market().sign(builders.a_domain(), delivered))
        self.fate.strike()
        paper = wire.paper_to_json(delivered)
        return wire.BlobView(slot=slot, size=size, received=size, delivered=paper, signature=signature)

    def post_logs(self, lease: bytes, page: wire.LogPage) -> None:
        """The first chunk of a seq stays."""
        for chunk in page.chunks:
            self.logs.setdefault(chunk.seq, bytes.fromhex(chunk.data[2:]))

    def post_receipt(self, lease: bytes, signed: wire.SignedReceipt) -> None:
        """Keeps all."""
        self.fate.strike()
        if self.outages:
            self.outages -= 1
            raise UnreachableError("gone")
        self.receipts.append(signed)
        self.fate.strike()

    def report(self, lease: bytes, report: wire.Report) -> None:
        """Keeps all."""
        self.reports.append(report)

    def lease(self, lease: bytes) -> wire.LeaseView:
        """The view."""
        return self.opened.view


@dataclass
class FakeRunner:
    """Runs as the executor keeps them: durable, started once."""

    folder: Path
    fate: Fate
    started: list[str] = field(default_factory=list)
    known: dict[str, RunStatus] = field(default_factory=dict)
    stops: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    endless: bool = False
    deaf: int = 0  # so many stops do not reach it

    def start(self, spec: RunSpec) -> None:
        """Once."""
        self.fate.strike()
        if spec.lease_id in self.known:
            return
        self.started.append(spec.lease_id)
        writer = LogWriter(self.folder / "run.log", limit=2**20)
        writer.append(Source.STDOUT, b"42\n", 1)
        writer.close()
        self.known[spec.lease_id] = RunStatus(spec.lease_id, RunPhase.RUNNING, started_at=builders.NOW + 1)
        self.fate.strike()

    def status(self, lease_id: str) -> RunStatus:
        """What is known."""
        if lease_id not in self.known:
            raise NotFoundError("never started")
        return self.known[lease_id]

    def wait_change(self, seen: RunStatus, timeout_s: float) -> RunStatus:
        """Ends at the first look, unless endless."""
        self.fate.strike()
        known = self.known[seen.lease_id]
        if not known.final and not self.endless:
            known = self._end(seen.lease_id, "ok", 0)
        time.sleep(0.01)
        return known

    def _end(self, lease_id: str, reason: str, code: int) -> RunStatus:
        ended = replace(
            self.known[lease_id],
            phase=RunPhase.EXITED,
            reason=reason,
            exit_code=code,
            ended_at=builders.NOW + 3,
            usage=USAGE,
        )
        self.known[lease_id] = ended
        return ended

    def read_log(self, lease_id: str, offset: int) -> tuple[list[LogEntry], int]:
        """The run's log."""
        return read_log(self.folder / "run.log", offset)

    def stop(self, lease_id: str, reason: str) -> None:
        """Ends it."""
        if lease_id not in self.known:
            raise NotFoundError("never started")
        self.stops.append(reason)
        if len(self.stops) <= self.deaf:
            raise ExecutionError("the Ray host cannot be reached", code="ray_host")
        if not self.known[lease_id].final:
            self._end(lease_id, "stopped", 143)

    def forget(self, lease_id: str) -> None:
        """Remembers that it was asked to."""
        self.forgotten.append(lease_id)

    def runs(self) -> list[RunStatus]:
        """All."""
        return list(self.known.values())


@dataclass
class FakeWorkshop:
    """Prepares nothing and collects one file."""

    fate: Fate
    runner: FakeRunner
    refusal: RunRefusedError | None = None
    busy: bool = False  # prepares until it is interrupted
    unfit: Exception | None = None  # comes out of preparing
    spoilt: Exception | None = None  # comes out of collecting

    def prepare(
        self, assignment: Assignment, job: JobDocument, unpacked: Path | None, say: Say, deadline: float, check: Check
    ) -> RunSpec:
        """The spec."""
        self.fate.strike()
        assert assignment.id.hex() not in self.runner.known, "preparing clears the folder of a run that was started"
        say(Source.SETUP, b"ready\n")
        if self.refusal is not None:
            raise self.refusal
        if self.unfit is not None:
            raise self.unfit
        while self.busy:
            check()
            time.sleep(0.001)
        return spec_of(assignment, job, "", now=builders.NOW + 1)

    def collect(
        self, assignment: Assignment, run_id: str, job: JobDocument, folder: LeaseFolder, say: Say
    ) -> Collection:
        """One file."""
        self.fate.strike()
        if self.spoilt is not None:
            raise self.spoilt
        recipient = builders.consumer().encryption_public
        outputs = seal_outputs(folder, [ArchiveSource("out/x", b"42")], recipient, assignment.id)
        self.fate.strike()
        return Collection(outputs)


class World:
    """One lease on a node whose processes may die, while market, executor and disk stay."""

    def __init__(self, folder: Path, job: JobDocument | None = None, *, window: int = 600, least: int = 0) -> None:
        self.opened = an_opened_lease(job=job, opened_at=builders.NOW, window=window)
        self.least_window = least
        self.fate = Fate()
        self.market = FakeMarket(self.opened, self.fate)
        self.runner = FakeRunner(folder, self.fate)
        self.workshop = FakeWorkshop(self.fate, self.runner)
        self.word = self.opened.word()
        self.history = LeaseHistory()
        self.folder = LeaseFolder(folder / "lease")
        (folder / "receipts").mkdir(parents=True)
        self.receipts = folder / "receipts"
        self.folder.save(LeaseRecord(self.opened.view))
        self.deaths = 0

    def read_seat(self, _: bytes) -> bytes:
        return self.word

    def send_job(self) -> None:
        """The consumer uploads."""
        context = Context(self.opened.id, "job")
        sealed = seal_bytes(self.opened.job.canonical(), builders.provider().encryption_public, context)
        self.market.blobs["job"] = sealed

    def a_run(self, ended: threading.Event) -> LeaseRun:
        """The lease as a daemon that begins finds it."""
        services = Services(
            signer=builders.provider(),
            domain=builders.a_domain(),
            market=self.market,  # type: ignore[arg-type]
            read_seat=self.read_seat,
            read_history=lambda _: self.history,
            runner=self.runner,
            workshop=self.workshop,
            receipts=self.receipts,
            endings=self.receipts,
            ending=lambda record, history: Ending(
                record.view.id, 1, "", history.state, record.reason, "0", "0", "0", "0", 0, ""
            ),
            reports=Background(1, "reports"),
            on_end=lambda _: ended.set(),
            on_trouble=lambda: None,
            least_window=self.least_window,
        )
        assignment = read_assignment(self.opened.view, builders.provider().address, builders.a_domain())
        return LeaseRun(self.folder.load(), assignment, self.folder, services)

    def live(self) -> LeaseRun:
        """From start to the end of its thread, however that comes about."""
        ended = threading.Event()
        run = self.a_run(ended)
        run.start()
        assert ended.wait(WAIT_S), f"stuck at {run.record.step}"
        return run

    def reports(self, count: int) -> list[wire.Report]:
        """What was reported, once so many have come: they travel on a thread of their own."""
        deadline = time.monotonic() + WAIT_S
        while len(self.market.reports) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.market.reports

    def evidence(self) -> Evidence:
        """Of the last receipt."""
        return Evidence.parse(self.market.receipts[-1].evidence)


@pytest.fixture(autouse=True)
def _quiet_deaths(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed thread says nothing, and a look at the chain is due at once."""
    monkeypatch.setattr(threading, "excepthook", lambda *_: None)
    monkeypatch.setattr(lease_run, "CHAIN_LOOK_S", 0.02)
    monkeypatch.setattr(lease_run, "AGAIN_S", 0.01)


def test_a_lease_without_accidents(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    run = world.live()
    assert run.record.step is Step.POSTED
    assert len(world.runner.started) == len(world.market.receipts) == 1
    evidence = world.evidence()
    assert (evidence.reason, evidence.exit_code, evidence.started_at) == ("ok", 0, builders.NOW + 1)
    assert evidence.outputs is not None
    assert evidence.outputs.files[0].path == "out/x"
    assert hashlib.sha256(world.market.blobs["outputs"]).hexdigest() == evidence.outputs.sealed[2:]
    assert list(world.receipts.iterdir()) == [world.receipts / f"{run.record.run_id}.json"]
    assert [report.phase for report in world.reports(1)][-1] == "running"  # the receipt says the rest


def test_killed_at_every_side_effect_a_lease_runs_once_and_has_one_receipt(tmp_path: Path) -> None:
    deaths = 0
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        world = World(folder)
        world.send_job()
        world.fate.at = at
        world.live()
        if world.fate.count < at:
            break
        deaths += 1
        run = world.live()
        assert run.record.step is Step.POSTED, f"killed at {at}"
        assert len(world.runner.started) == 1, f"killed at {at}"
        assert len({str(signed) for signed in world.market.receipts}) == 1, f"killed at {at}"
        outputs = world.evidence().outputs
        assert outputs is not None
        assert hashlib.sha256(world.market.blobs["outputs"]).hexdigest() == outputs.sealed[2:], f"killed at {at}"
    assert deaths >= 10


def test_killed_between_the_runs_end_and_the_first_cut_its_whole_log_is_shipped_all_the_same(tmp_path: Path) -> None:
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        world = World(folder)
        world.send_job()
        world.fate.at = at
        run = world.live()
        if run.record.step in (Step.ENDED, Step.COLLECTED):
            break
    world.folder.chunks.unlink(missing_ok=True)  # the shipper's thread was later than the run's
    world.live()
    summary, undisturbed = world.evidence().log, World(folder / "calm")
    undisturbed.send_job()
    undisturbed.live()
    assert summary.size == undisturbed.evidence().log.size


class Calendar:
    """A clock whose every look is a day later."""

    def __init__(self) -> None:
        self.now = float(builders.NOW)
        self.monotonic = time.monotonic

    def time(self) -> float:
        """Seconds of Unix UTC."""
        self.now += 86_400
        return self.now


def test_a_receipt_that_was_sent_is_never_signed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What never ran has no time of its end but that of the signature, so signing twice would make two receipts."""
    monkeypatch.setattr(lease_run, "time", Calendar())
    for at in itertools.count(1):
        folder = tmp_path / str(at)
        folder.mkdir()
        world = World(folder)
        world.send_job()
        world.workshop.refusal = RunRefusedError(Reason.ENVIRONMENT_FAILED, "no such package")
        world.fate.at = at
        world.live()
        if world.fate.count < at:
            break
        assert world.live().record.step is Step.POSTED
        assert len({str(signed) for signed in world.market.receipts}) == 1, f"killed at {at}"
    assert at > 3


def test_a_receipt_waits_for_the_market(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    world.market.outages = 3
    assert world.live().record.step is Step.POSTED
    assert len(world.market.receipts) == 1


def test_a_refused_job_gets_a_receipt_over_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    world.workshop.refusal = RunRefusedError(Reason.ENVIRONMENT_FAILED, "no such package")
    run = world.live()
    evidence = world.evidence()
    assert run.record.step is Step.POSTED
    assert (evidence.reason, evidence.amount, evidence.exit_code) == ("environment_failed", "0", None)
    assert world.runner.started == []
    assert world.reports(1)[-1].detail == "no such package"


@pytest.mark.parametrize("window", [0, 1, 59])
def test_a_window_too_short_to_claim_in_is_refused_before_anything_runs(tmp_path: Path, window: int) -> None:
    """Whether the job was sent or not; and over nothing of the consumer's fault, so that giving back costs no bond."""
    world = World(tmp_path, window=window, least=60)
    world.send_job()
    run = world.live()
    assert (world.evidence().reason, world.evidence().amount, run.record.receipt.kind) == ("bad_job", "0", 1)
    assert (world.runner.started, run.record.never_begun) == ([], False)
    assert f"the window of {window} s is under the 60 s" in world.reports(1)[-1].detail
    state = State(run.assignment.lease, run.assignment.clauses)
    due = next_move(state, signed_at=builders.NOW + 1)
    assert due.move is Move.CLAIM, "not given back: that would cost a penalty"
    assert claimable(state, run.record.receipt.amount, builders.NOW + 1) == 0
    assert due.at <= builders.NOW + 1 + window // 3, "at once, not at the end"


def test_the_least_window_itself_is_enough(tmp_path: Path) -> None:
    world = World(tmp_path, window=60, least=60)
    world.send_job()
    assert world.live().record.reason == "ok"


def test_a_job_that_does_not_come_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_run, "JOB_WAIT_S", 0.05)
    world = World(tmp_path)
    world.live()
    assert (world.evidence().reason, world.evidence().amount) == ("startup_timeout", "0")
    assert world.evidence().log.chunks == 0


def test_a_job_for_another_lease_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    other = Context(bytes(32), "job")
    sealed = seal_bytes(world.opened.job.canonical(), builders.provider().encryption_public, other)
    world.market.blobs["job"] = sealed
    world.live()
    assert (world.evidence().reason, world.runner.started) == ("bad_job", [])


def test_a_job_that_the_bid_does_not_name_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    other = builders.a_job(name="another").canonical()
    context = Context(world.opened.id, "job")
    world.market.blobs["job"] = seal_bytes(other, builders.provider().encryption_public, context)
    world.live()
    assert (world.evidence().reason, world.runner.started) == ("bad_job", [])


def test_a_stop_that_no_event_told_is_seen_on_the_chain(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    world.runner.endless = True
    clock = builders.NOW + 2
    world.history = LeaseHistory(Progress(clock=clock, phase=Phase.STOPPED, flags=1))
    world.word = world.opened.word(world.history.progress)
    world.live()
    evidence = world.evidence()
    assert (evidence.reason, evidence.usage.wall_ms) == ("stopped", 1_000)
    assert world.runner.stops == ["stopped"]


def test_a_stop_that_the_host_did_not_hear_is_said_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    world.runner.endless, world.runner.deaf = True, 2
    world.history = LeaseHistory(Progress(clock=builders.NOW + 2, phase=Phase.STOPPED, flags=1))
    world.word = world.opened.word(world.history.progress)
    world.live()
    assert (world.evidence().reason, world.runner.stops) == ("stopped", ["stopped"] * 3)


def test_a_stop_before_the_start_starts_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    ended = threading.Event()
    run = world.a_run(ended)
    run.start()
    run.stop()
    assert ended.wait(WAIT_S)
    assert (world.evidence().reason, world.evidence().amount, world.runner.started) == ("stopped", "0", [])


def test_a_stop_interrupts_the_preparation(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    world.workshop.busy = True
    ended = threading.Event()
    run = world.a_run(ended)
    run.start()
    assert not ended.wait(0.05)
    run.stop()
    assert ended.wait(WAIT_S)
    assert (world.evidence().reason, world.evidence().amount, world.runner.started) == ("stopped", "0", [])


def test_an_unreachable_chain_tears_nothing_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    world.send_job()
    world.runner.endless = True
    looks = []

    def unreachable(_: bytes) -> bytes:
        looks.append(1)
        world.runner.endless = len(looks) < 3
        raise ChainUnavailableError("gone")

    monkeypatch.setattr(World, "read_seat", lambda _, key: unreachable(key))
    world.live()
    assert (world.evidence().reason, world.runner.stops) == ("ok", [])
    assert len(looks) >= 3


def test_a_lease_that_was_closed_meanwhile_is_let_go(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    world.runner.endless = True
    world.word = CLOSED
    run = world.live()
    assert run.record.step is Step.CLOSED
    assert world.market.receipts == []
    assert world.runner.stops == ["stopped"]
    assert world.runner.forgotten == [run.record.run_id]
    assert not world.folder.path.exists()


def test_a_market_that_refuses_the_receipt_leaves_it_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    world.send_job()

    def refuse(*_: object) -> None:
        raise MarketError("no")

    with monkeypatch.context() as context:
        context.setattr(FakeMarket, "post_receipt", refuse)
        assert world.live().record.step is Step.SIGNED
    assert world.live().record.step is Step.POSTED
    assert len(world.market.receipts) == 1


def test_the_records_survive_their_own_form(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    run = world.live()
    assert world.folder.load() == run.record
    assert io.BytesIO((world.receipts / f"{run.record.run_id}.json").read_bytes()).read(1) == b"{"


# Whatever market, consumer, job or disk do, a receipt is signed


ODD = [OSError(36, "File name too long"), ValueError("1024"), ProtocolError("a point of small order"), KeyError("x")]


@pytest.mark.parametrize("error", ODD, ids=repr)
def test_outputs_that_cannot_be_taken_do_not_keep_the_run_from_its_bill(tmp_path: Path, error: Exception) -> None:
    world = World(tmp_path)
    world.send_job()
    world.workshop.spoilt = error
    assert world.live().record.step is Step.POSTED
    evidence = world.evidence()
    assert (evidence.reason, evidence.outputs, evidence.exit_code) == ("output_refused", None, 0)
    assert int(evidence.amount) > 0


def test_a_disk_that_takes_no_outputs_is_the_nodes_own_failure(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    world.workshop.spoilt = OSError(errno.ENOSPC, "No space left on device")
    assert world.live().record.step is Step.POSTED
    assert (world.evidence().reason, world.evidence().amount) == ("sandbox_failed", "0")


@pytest.mark.parametrize("error", ODD, ids=repr)
def test_what_cannot_be_prepared_gets_a_receipt_over_nothing(tmp_path: Path, error: Exception) -> None:
    world = World(tmp_path)
    world.send_job()
    world.workshop.unfit = error
    run = world.live()
    assert (run.record.step, run.record.never_begun) == (Step.POSTED, True)
    assert (world.evidence().reason, world.evidence().amount) == ("sandbox_failed", "0")


def test_a_passing_trouble_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path)
    world.send_job()
    collect, troubles = FakeWorkshop.collect, [OSError(28, "No space left on device")]

    def at_the_second_try(*args: Any) -> Collection:
        if troubles:
            raise troubles.pop()
        return collect(*args)

    monkeypatch.setattr(FakeWorkshop, "collect", at_the_second_try)
    world.live()
    assert (world.evidence().reason, world.evidence().outputs is None) == ("ok", False)
    assert world.folder.load().tries == 0


def test_a_step_that_took_its_process_with_it_too_often_is_not_begun_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    for _ in range(lease_run.TRIES):
        run = world.a_run(threading.Event())
        run.count_try()
    assert world.live().record.reason == "sandbox_failed"
    assert world.runner.started == []


@pytest.mark.parametrize("error", [MarketError("413", code="too_large"), NotFoundError("gone"), ValueError("no JSON")])
def test_a_market_that_refuses_the_outputs_keeps_no_receipt_from_being_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world = World(tmp_path)
    world.send_job()

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(FakeMarket, "put_blob", refuse)
    assert world.live().record.step is Step.POSTED
    assert (world.evidence().reason, int(world.evidence().amount) > 0) == ("ok", True)
    assert world.evidence().outputs is not None


@pytest.mark.parametrize("call", ["put_blob", "post_logs", "info"])
def test_a_market_that_answers_for_ever_keeps_no_receipt_from_being_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    world, answer = World(tmp_path), threading.Event()
    world.send_job()
    monkeypatch.setattr(FakeMarket, call, lambda *_, **__: answer.wait())
    monkeypatch.setattr(LeaseRun, "_delivery_s", lambda _: 0.2)
    monkeypatch.setattr(log_shipping, "LEAVING_S", 0.1)
    ended = threading.Event()
    run = world.a_run(ended)
    run.start()
    deadline = time.monotonic() + WAIT_S
    while run.record.step not in (Step.SIGNED, Step.POSTED) and time.monotonic() < deadline:
        time.sleep(0.01)
    run.halt()
    answer.set()
    assert run.record.step in (Step.SIGNED, Step.POSTED)
    assert int(Evidence.parse(run.record.signed.evidence).amount) > 0 if run.record.signed else False


def test_a_job_that_trickles_in_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_run, "JOB_WAIT_S", 0.2)
    world, answer = World(tmp_path), threading.Event()

    def trickle(*_: object) -> Iterator[bytes]:
        yield b"x"
        answer.wait()

    monkeypatch.setattr(FakeMarket, "get_blob", trickle)
    world.live()
    answer.set()
    assert (world.evidence().reason, world.evidence().amount) == ("startup_timeout", "0")


def test_a_run_of_which_nothing_is_heard_any_more_is_given_up_in_time_for_a_claim(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    world.runner.endless = True
    run = world.a_run(ended := threading.Event())
    run._spare_s = lambda: 0.0  # type: ignore[method-assign]
    run.start()
    assert ended.wait(WAIT_S)
    assert (run.record.step, run.record.reason) == (Step.POSTED, "worker_lost")


def test_a_disk_that_takes_no_record_is_waited_for_but_not_beyond_the_claim(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    run = world.a_run(ended := threading.Event())
    run.folder = Full(run.folder.path)
    run._spare_s = lambda: 0.0  # type: ignore[method-assign]
    run.start()
    assert ended.wait(WAIT_S)
    assert run.record.signed is not None
    assert world.market.receipts == [run.record.signed]


class Full(LeaseFolder):
    """A folder on a full disk."""

    def save(self, record: LeaseRecord) -> None:
        """There is no room."""
        raise OSError(errno.ENOSPC, "No space left on device")
