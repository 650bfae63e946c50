"""`suanli wallet link`: an account with an owner is spent by its own key and paid out to its owner alone."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from suanli.cli import cli
from suanli.terminal.failure import exit_status
from suanli_protocol.keystore import load
from support.consumer import Consumer, Done, a_consumer
from support.devnet import Anvil
from support.market import PASSWORD, World, a_world

Ask = Callable[..., Done]
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def world(anvil: Anvil) -> World:
    return a_world(anvil)


@pytest.fixture
def ask(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """The command line of a hot key, a cold key and a thief, in this process."""
    people: dict[str, Consumer] = {
        name: a_consumer(world, NOWHERE, tmp_path / name, money="") for name in ("hot", "cold", "thief")
    }

    def call(name: str, *arguments: str) -> Done:
        with monkeypatch.context() as changed:
            for variable in [variable for variable in os.environ if variable.startswith(("SUANLI_", "XDG_"))]:
                changed.delenv(variable)
            for variable, value in people[name].environment().items():
                changed.setenv(variable, value)
            changed.chdir(people[name].home)
            changed.setattr("sys.stdin", io.StringIO())
            status = exit_status(cli, list(arguments))
        told = capsys.readouterr()
        return Done(status, told.out, told.err)

    return call


def test_an_owner_takes_the_money_and_nobody_else(world: World, ask: Ask, tmp_path: Path) -> None:
    hot, cold = (load(tmp_path / name / "key.json", PASSWORD).address for name in ("hot", "cold"))
    assert ask("hot", "wallet", "fund", "5").status == 0
    asked = ask("hot", "wallet", "link", cold, "--json")
    assert (asked.status, asked.problem["hint"]) == (2, "add --yes to agree beforehand")
    assert ask("hot", "wallet", "link", hot, "-y").status == 2
    linked = ask("hot", "wallet", "link", cold, "-y", "--json")
    assert linked.status == 0, linked.err
    assert json.loads(linked.out)["owner"] == cold
    assert json.loads(ask("hot", "wallet", "show", "--json").out)["owner"] == cold
    assert ask("hot", "wallet", "link", hot, "-y").status != 0
    again = ask("hot", "wallet", "link", world.deployer.address, "-y", "--json")
    assert (again.status, again.problem["code"]) == (3, "key")
    by_thief = ask("thief", "wallet", "withdraw", "1", "--account", hot, "--json")
    assert (by_thief.status, by_thief.problem["code"]) == (3, "key")
    token = world.escrow.token
    by_hot = ask("hot", "wallet", "withdraw", "2", "--json")
    assert (by_hot.status, json.loads(by_hot.out)["to"]) == (0, cold), by_hot.err
    by_cold = ask("cold", "wallet", "withdraw", "all", "--account", hot)
    assert by_cold.status == 0, by_cold.err
    assert cold in by_cold.out
    assert (token.balance_of(cold), token.balance_of(hot), world.escrow.account(hot).free) == (5_000_000, 0, 0)
    assert ask("cold", "wallet", "link", world.deployer.address, "-y", "--account", hot).status == 0
    assert world.escrow.owner_of(hot) == world.deployer.address
