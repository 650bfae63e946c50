"""A lease's way through the node, killed before and after every side effect: one run, one receipt, nothing lost."""

from __future__ import annotations

import hashlib
import io
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from suanli_node.leases import run as lease_run
from suanli_node.leases import voice
from suanli_node.leases.closing import Move, claimable, next_move
from suanli_node.leases.intake import RunRefusedError
from suanli_node.leases.record import Step
from suanli_protocol.errors import MarketError
from suanli_protocol.escrow import CLOSED
from suanli_protocol.lease import State
from suanli_protocol.reasons import Reason
from suanli_protocol.sealing import Context, seal_bytes
from support import builders
from support.lease_scene import WAIT_S, FakeMarket, World


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
    calendar = Calendar()
    for module in (lease_run, voice):
        monkeypatch.setattr(module, "time", calendar)
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


def test_a_receipt_waits_for_the_market(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    world.market.outages = 3
    assert world.live().record.step is Step.POSTED
    assert len(world.market.receipts) == 1


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
