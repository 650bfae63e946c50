"""What a lease's parties are told of it: a whole log, and the phase in which it is."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest

from suanli_node.background import Background
from suanli_node.bounds import Bounded
from suanli_node.engine.runlog import Source
from suanli_node.leases import run as lease_run
from suanli_node.leases import voice
from suanli_node.leases.record import LeaseRecord, Step
from suanli_node.leases.voice import NO_LOG, LeaseLog, Reports
from suanli_node.retry import Until
from suanli_protocol import wire
from suanli_protocol.errors import MarketError, UnreachableError
from suanli_protocol.reasons import Phase
from support import builders
from support.lease_scene import WAIT_S, FakeMarket, World


def a_log(world: World) -> tuple[LeaseLog, LeaseRecord]:
    """The log of the world's lease, and the record that it looks into."""
    record = world.folder.load()
    return LeaseLog(record, world.folder, world.runner, world.market, receipt_ends=True), record


def test_nothing_is_said_before_there_is_somebody_to_seal_it_to(tmp_path: Path) -> None:
    world = World(tmp_path)
    lease_log, record = a_log(world)
    lease_log.say(Source.NODE, b"unheard")
    assert not world.folder.setup_log.exists()
    record.consumer_key = wire.to_hex(builders.consumer().encryption_public)
    lease_log.say(Source.NODE, b"heard")
    assert lease_log.summary == NO_LOG
    assert lease_log.finish(Until(threading.Event(), WAIT_S)).chunks == len(world.market.logs) == 1


def test_what_a_former_life_said_is_no_log_while_nobody_is_known_to_seal_it_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had read the job and said something, but it died before the consumer's key was written down."""
    monkeypatch.setattr(lease_run, "JOB_WAIT_S", 0.05)
    world = World(tmp_path)
    lease_log, record = a_log(world)
    record.consumer_key = wire.to_hex(builders.consumer().encryption_public)
    lease_log.say(Source.NODE, b"said before")
    assert world.folder.setup_log.exists()
    world.live()
    evidence = world.evidence()
    assert (evidence.reason, evidence.log, world.market.logs) == ("startup_timeout", NO_LOG, {})


@pytest.mark.parametrize(
    ("error", "patience_s", "delivered"),
    [(MarketError("413", code="too_large"), WAIT_S, True), (UnreachableError("gone"), 0.1, False)],
)
def test_a_log_that_is_not_taken_is_summed_up_as_it_was_cut_and_sent_again_if_that_may_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, patience_s: float, delivered: bool
) -> None:
    world = World(tmp_path)
    lease_log, record = a_log(world)
    record.consumer_key, record.delivered = wire.to_hex(builders.consumer().encryption_public), True
    lease_log.say(Source.NODE, b"said once")

    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as context:
        context.setattr(FakeMarket, "post_logs", refuse)
        cut = lease_log.finish(Until(threading.Event(), patience_s))
    assert (cut.chunks, record.delivered, world.market.logs) == (1, delivered, {})
    assert lease_log.finish(Until(threading.Event(), WAIT_S)) == cut
    assert len(world.market.logs) == 1


def test_a_report_that_was_overtaken_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world, asked, answer = World(tmp_path), threading.Event(), threading.Event()
    keep = FakeMarket.report

    def slowly(market: FakeMarket, lease: bytes, report: wire.Report) -> None:
        asked.set()
        assert answer.wait(WAIT_S)
        keep(market, lease, report)

    monkeypatch.setattr(FakeMarket, "report", slowly)
    reports = Reports(world.folder.load(), world.market, Bounded(1, threading.Event()), Background(1, "reports"))
    reports.report(Phase.STARTING)
    assert asked.wait(WAIT_S)
    reports.report(Phase.RUNNING)
    reports.report(Phase.FAILED, "bad_job", "x" * (voice.REPORT_DETAIL_MAX + 1))
    answer.set()
    assert [report.phase for report in world.reports(2)] == [Phase.STARTING, Phase.FAILED]
    assert world.market.reports[1].detail == "x" * voice.REPORT_DETAIL_MAX


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
