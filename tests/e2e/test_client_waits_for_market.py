"""A market that is away when a command begins: it is waited for, for as long as its restart may take, and no longer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from suanli import network
from suanli.cli import cli
from suanli.terminal.console import Console
from suanli.terminal.failure import exit_status
from support.consumer import Consumer, a_consumer
from support.devnet import Anvil, free_port, stop_process
from support.market import a_world, market_key, serve_command, signed_offer, start_market

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@dataclass
class Stall:
    """A consumer with one lease, on an offer that no node stands behind; the market is away until it is started."""

    consumer: Consumer
    job: str
    lease: str
    command: list[str]

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """This process becomes the consumer's machine."""
        for name, value in self.consumer.environment().items():
            monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def stall(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stall]:
    world, folder = a_world(anvil), tmp_path_factory.mktemp("stall")
    key, password, _ = market_key(world, folder / "key")
    port = free_port()
    command = serve_command(world, key, password, folder / "data", "--port", str(port))
    consumer = a_consumer(world, f"http://127.0.0.1:{port}", folder / "consumer")
    with start_market(command) as market:
        provider = world.party()
        with market.client(provider.signer) as client:
            client.post_offer(signed_offer(world, provider.signer))
        done = consumer("run", "--yes", "--detach", "--json", "--window", "10m", "--max-price", "1000", "--", "true")
        assert done.status == 0, done.err
        left = json.loads(done.out)
        stop_process(market.process)
    return Stall(consumer, left["job"], left["lease"], command)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("get", "JOB"), 101, "there are no outputs yet"),
        (("logs", "JOB"), 0, ""),
        (("wait", "LEASE", "--for", "leased"), 0, ""),
    ],
    ids=["get", "logs", "wait-on-another-machine"],
)
def test_a_market_that_comes_late_is_waited_for(
    stall: Stall,
    arguments: tuple[str, ...],
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    stall.enter(monkeypatch)
    if "LEASE" in arguments:  # which a machine that knows of no job finds by the market
        monkeypatch.setenv("SUANLI_HOME", str(tmp_path))
    names, said = {"JOB": stall.job, "LEASE": stall.lease}, list[str]()
    with ExitStack() as stack:

        def warn(_: Console, text: str) -> None:
            said.append(text)
            stack.enter_context(start_market(stall.command))

        monkeypatch.setattr(Console, "warn", warn)
        assert exit_status(cli, [names.get(word, word) for word in arguments]) == status
    assert len(said) == 1
    assert "cannot be reached" in said[0]
    assert "waiting for it, 15 s at most" in said[0]
    assert words in capsys.readouterr().err


def test_a_market_that_never_comes_ends_the_command(
    stall: Stall, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stall.enter(monkeypatch)
    monkeypatch.setattr(network, "AWAY_S", 0.2)
    for arguments in (("wait", stall.job), ("logs", "-f", stall.job), ("get", stall.job), ("cancel", "-y", stall.job)):
        assert exit_status(cli, [*arguments, "--json"]) == 7, arguments
        told = capsys.readouterr()
        notice, *_, problem = told.err.splitlines()
        assert "waiting for it" in notice
        assert json.loads(problem)["code"] == "unreachable"
        assert "cannot be reached" in json.loads(problem)["detail"]
        assert told.out == ""


def test_the_wait_is_no_longer_than_its_timeout(
    stall: Stall, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stall.enter(monkeypatch)
    monkeypatch.setattr(network, "AWAY_S", 3600.0)
    assert exit_status(cli, ["wait", stall.job, "--timeout", "1s"]) == 7
    assert "waiting for it, 1 s at most" in capsys.readouterr().err


def test_a_list_waits_for_nobody(
    stall: Stall, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stall.enter(monkeypatch)
    monkeypatch.setattr(network, "AWAY_S", 3600.0)
    for arguments in (["ps", "-a"], ["show", stall.job]):
        assert exit_status(cli, arguments) == 0
        told = capsys.readouterr()
        assert "cannot be reached" in told.err
        assert "waiting" not in told.err
