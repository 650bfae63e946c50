"""Whatever market, consumer, job or disk do, a receipt is signed."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from suanli_node.leases import log_shipping, setbacks
from suanli_node.leases.record import Step
from suanli_node.leases.run import LeaseRun
from suanli_node.leases.workshop import Collection
from suanli_protocol.documents import Evidence
from suanli_protocol.errors import MarketError, NotFoundError, ProtocolError
from support.lease_scene import WAIT_S, Clock, FakeMarket, FakeWorkshop, FullFolder, World

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
    for _ in range(setbacks.TRIES):
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


def test_a_disk_that_takes_no_record_is_waited_for_but_not_beyond_the_claim(tmp_path: Path, clock: Clock) -> None:
    world = World(tmp_path)
    world.send_job()
    world.folder, clock.now = FullFolder(world.folder.path), world.signed_by
    run = world.live()
    assert run.record.signed is not None
    assert world.market.receipts == [run.record.signed]
