"""A market dies between the receipt that both sides signed and its settlement: either side pays it out by itself.

First the market dies before it has kept the consumer's signature, so that the consumer alone has both; then after it
has passed the signature on, with no way to the chain, so that the node has them too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.consumer import Consumer, a_consumer
from support.devnet import Anvil, free_port
from support.market import MarketProcess, World, a_world, market_key, serve_command, start_market
from support.meddler import Meddler, start_meddler
from support.node import NodeHome, a_node_home, eventually, start_node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
MONEY = 5_000_000


@dataclass
class Town:
    """A node and a consumer by their own way to the chain; a market that can die, and whose way can be cut."""

    world: World
    home: NodeHome
    consumer: Consumer
    way: Meddler
    strikes: Path
    command: list[str]
    stack: ExitStack

    def market(self) -> MarketProcess:
        """The market, started (again)."""
        return self.stack.enter_context(start_market(["env", f"SUANLI_FAULT={self.strikes}", *self.command]))

    def free(self, account: str) -> int:
        """Free money in the escrow."""
        return self.world.escrow.account(account).free

    def record(self, lease: str) -> dict[str, Any]:
        """What the node has written down of a lease."""
        path = self.home.state / "leases" / lease[2:] / "record.json"
        return dict(json.loads(path.read_bytes())) if path.exists() else {}

    def ending(self, lease: str) -> dict[str, Any]:
        """What the node wrote down of a lease that is over."""
        path = self.home.state / "endings" / f"{lease[2:]}.json"
        return dict(json.loads(path.read_bytes())) if path.exists() else {}

    def job_of(self, lease: str) -> dict[str, Any]:
        """The consumer's job with that lease, as its own machine knows it."""
        jobs: list[dict[str, Any]] = json.loads(self.consumer("ps", "-a", "--json").out)
        return next(job for job in jobs if job["lease"] == lease)


@pytest.fixture(scope="module")
def town(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    world, folder = a_world(anvil), tmp_path_factory.mktemp("town")
    key, password, _ = market_key(world, folder / "key")
    port, strikes = free_port(), folder / "strikes"
    strikes.mkdir()
    home = a_node_home(world, folder / "node")
    with ExitStack() as stack:
        way = stack.enter_context(start_meddler(world.url))
        command = serve_command(world, key, password, folder / "data", "--port", str(port))
        command[command.index("--chain") + 1] = way.url
        url = f"http://127.0.0.1:{port}"
        made = Town(world, home, a_consumer(world, url, folder / "consumer"), way, strikes, command, stack)
        (strikes / "market.countersignature.kept").touch()
        made.market()
        stack.callback(home.down)
        stack.enter_context(start_node(home.command(url)))
        yield made


def line(window: str, script: str) -> tuple[str, ...]:
    return ("run", "--yes", "--json", "--window", window, "--max-price", "1", "--", "sh", "-c", script)


def test_the_consumer_settles(town: Town) -> None:
    run = town.consumer.start(*line("60s", "echo hi"))
    strike = town.strikes / "market.countersignature.kept"
    eventually(lambda: not strike.exists(), "the market's death")
    run.kill()
    run.communicate(timeout=60)
    (job,) = json.loads(town.consumer("ps", "-a", "--json").out)
    lease, amount = job["lease"], int(job["receipt"]["amount"])
    provider = town.home.signer.address
    before = town.free(provider)
    settled = town.consumer("settle", job["job"], "--json")
    assert settled.status == 0, settled.err
    facts = json.loads(settled.out)
    assert (facts["state"], facts["paid"]) == ("settled", str(amount))
    assert facts["transaction"]
    assert town.free(provider) > before + amount  # its bond came back with it
    ended = eventually(partial(town.ending, lease), "the node's word")
    assert (ended["how"], ended["paid"]) == ("settled", str(amount))
    audited = town.consumer("audit", "lease", lease, "--json")
    assert audited.status == 0, audited.out + audited.err
    assert json.loads(audited.out)["ok"] is True


def test_the_provider_settles(town: Town) -> None:
    market = town.market()
    run = town.consumer.start(*line("24s", "sleep 2; echo hi"))
    client = market.client(town.home.signer)
    view = eventually(
        lambda: next((view for view in client.leases() if view.phase == "running"), None), "the job's start"
    )
    with town.way.lying("POST /", lambda _: b""):
        record = eventually(
            lambda: found if (found := town.record(view.id)).get("countersignature") else None, "the signature"
        )
        market.process.kill()
        market.process.wait(10)
    run.kill()
    run.communicate(timeout=60)
    ended = eventually(partial(town.ending, view.id), "the node's settlement")
    amount = record["signed"]["receipt"]["amount"]
    assert (ended["how"], ended["paid"]) == ("settled", str(amount))
    told = town.consumer("settle", town.job_of(view.id)["job"], "--json")
    assert told.status == 0, told.err
    facts = json.loads(told.out)
    assert (facts["state"], facts["paid"], facts["transaction"]) == ("settled", str(amount), None)
    audited = town.consumer("audit", "all", "--json")
    assert audited.status == 0, audited.out + audited.err
    leases = json.loads(audited.out)["leases"]
    assert [lease["end"] for lease in leases] == ["both sides signed the final receipt"] * 2
    spent = sum(int(lease["toProvider"]) + int(lease["toMarket"]) for lease in leases)
    assert town.free(view.bid["consumer"]) == MONEY - spent
    assert [lease["locked"] for lease in leases] == ["0", "0"]
