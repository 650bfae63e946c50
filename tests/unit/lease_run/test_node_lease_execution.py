"""The run of a lease in the executor: followed to its end, stopped when the chain says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from suanli_node.engine.runs import RunSpec
from suanli_node.leases import execution
from suanli_node.leases.record import Step
from suanli_protocol.errors import ChainUnavailableError, ExecutionError, TimedOutError
from support import builders
from support.lease_scene import Clock, FakeRunner, World


def test_a_host_that_is_away_at_the_start_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "HOST_PAUSE_S", 0.01)
    world, start = World(tmp_path), FakeRunner.start
    world.send_job()
    away = [
        ExecutionError("the Ray host cannot be reached", code="ray_host"),
        TimedOutError("the Ray host does not answer"),
    ]

    def at_the_third_try(runner: FakeRunner, spec: RunSpec) -> None:
        if away:
            raise away.pop()
        start(runner, spec)

    monkeypatch.setattr(FakeRunner, "start", at_the_third_try)
    world.live()
    assert (world.evidence().reason, len(world.runner.started), world.troubles) == ("ok", 1, 2)


def test_a_run_that_the_executor_refuses_is_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, asked = World(tmp_path), []
    world.send_job()

    def refuse(_: FakeRunner, spec: RunSpec) -> None:
        asked.append(spec.lease_id)
        raise ExecutionError("no sandbox here")

    monkeypatch.setattr(FakeRunner, "start", refuse)
    run = world.live()
    assert (world.evidence().reason, world.evidence().amount) == ("sandbox_failed", "0")
    assert (asked, world.troubles) == ([run.record.run_id], 0)


def test_a_stop_that_no_event_told_is_seen_on_the_chain(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    world.runner.endless = True
    world.stop_on_chain(builders.NOW + 2)
    world.live()
    evidence = world.evidence()
    assert (evidence.reason, evidence.usage.wall_ms) == ("stopped", 1_000)
    assert world.runner.stops == ["stopped"]


def test_a_stop_that_the_host_did_not_hear_is_said_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.send_job()
    world.runner.endless, world.runner.deaf = True, 2
    world.stop_on_chain(builders.NOW + 2)
    world.live()
    assert (world.evidence().reason, world.runner.stops) == ("stopped", ["stopped"] * 3)


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


def test_a_run_of_which_nothing_is_heard_any_more_is_given_up_in_time_for_a_claim(tmp_path: Path, clock: Clock) -> None:
    world = World(tmp_path)
    world.send_job()
    world.runner.endless = True
    clock.now = world.signed_by
    run = world.live()
    assert (run.record.step, run.record.reason) == (Step.POSTED, "worker_lost")
