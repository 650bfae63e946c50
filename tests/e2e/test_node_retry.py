"""A node dies for good in the middle of a job: its lease runs out, and the job ends on another node, billed once."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from suanli_protocol.lease import bond_down, price_up
from support.consumer import a_consumer
from support.devnet import Anvil
from support.market import a_world, market_key, serve_command, start_market
from support.node import NodeHome, NodeProcess, a_node_home, eventually, start_node

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
SECONDS = 20
JOB = f"run: sleep 6; echo done\nretry: {{attempts: 2}}\ntimeouts: {{execution: {SECONDS}s, queue: 2m}}\nmax_price: 1\n"


def destroy(node: NodeProcess, home: NodeHome) -> None:
    """kill -9 to the daemon and its engine: nobody will ever bill."""
    engine = json.loads((home.state / "executor" / "ray_host.json").read_text())
    node.kill()
    os.kill(engine["pid"], signal.SIGKILL)


def test_a_job_whose_node_dies_ends_on_another(anvil: Anvil, tmp_path: Path) -> None:
    world = a_world(anvil)
    key, password, _ = market_key(world, tmp_path / "market")
    homes = [a_node_home(world, tmp_path / name) for name in ("first", "second")]
    with ExitStack() as stack:
        for home in homes:
            stack.callback(home.down)
        market = stack.enter_context(start_market(serve_command(world, key, password, tmp_path / "data")))
        first = stack.enter_context(start_node(homes[0].command(market.url)))
        person = a_consumer(world, market.url, tmp_path / "person")
        (person.home / "job.yaml").write_text(JOB)
        run = person.start("run", "--yes", "--json", "-f", "job.yaml")
        client = market.client(homes[0].signer)
        lost = eventually(
            lambda: next((view for view in client.leases() if view.phase == "running"), None), "the job's start"
        )
        destroy(first, homes[0])
        stack.enter_context(start_node(homes[1].command(market.url)))
        out, err = run.communicate(timeout=200)
        assert run.returncode == 0, err
        ended = json.loads(out)
        assert (ended["phase"], ended["exitCode"]) == ("settled", 0)
        (view,) = market.client(homes[1].signer).leases()
        assert (view.attempt, view.state, view.spent) == (2, "settled", "0")
        assert (ended["lease"], ended["paid"]) == (view.id, view.paid)
        before = client.lease(bytes.fromhex(lost.id[2:]))
        assert (before.state, before.paid) == ("reclaimed", "0")
        bond = bond_down(price_up(int(before.rate), SECONDS), before.offer["bondBps"])
        both = {before.number: (before.id, "reclaimed", "0"), view.number: (view.id, "settled", view.paid)}
        for number, (lease, status, paid) in both.items():
            audited = person("audit", "lease", lease, "--json")
            assert audited.status == 0, audited.out + audited.err
            (found,) = json.loads(audited.out)["leases"]
            assert (found["number"], found["status"], found["toProvider"]) == (number, status, paid)
        audited = person("audit", "job", ended["job"], "--json")
        assert audited.status == 0, audited.out + audited.err
        leases = json.loads(audited.out)["leases"]
        assert [(lease["number"], lease["attempt"], lease["previous"]) for lease in leases] == [
            (before.number, 1, None),
            (view.number, 2, before.number),
        ]
        free = world.escrow.account(view.bid["consumer"]).free
        assert free == 5_000_000 - int(view.paid) - int(view.fee) + bond
