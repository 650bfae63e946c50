"""A lease without a market: the consumer opens it and brings the node its papers; the market is dead."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.consumer import Consumer, a_consumer
from support.devnet import Anvil, free_port
from support.market import World, a_world, market_key, serve_command, start_market
from support.node import NodeHome, NodeProcess, a_node_home, start_node

pytestmark = pytest.mark.e2e


@dataclass
class Alley:
    """A node that listens, and a consumer; the market that the node once met is gone."""

    world: World
    home: NodeHome
    node: NodeProcess
    consumer: Consumer

    @property
    def url(self) -> str:
        """Where the node listens."""
        return str(self.node.ready["direct"])


@pytest.fixture(scope="module")
def alley(anvil: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alley]:
    world = a_world(anvil)
    folder = tmp_path_factory.mktemp("alley")
    key, password, _ = market_key(world, folder / "key")
    home = a_node_home(world, folder / "node")
    listen = f"127.0.0.1:{free_port()}"
    try:
        with start_market(serve_command(world, key, password, folder / "data")) as market:
            consumer = a_consumer(world, market.url, folder / "consumer")
            with start_node(home.command(market.url, "--listen", listen)) as node:
                market.process.send_signal(signal.SIGKILL)
                market.process.wait(10)
                yield Alley(world, home, node, consumer)
    finally:
        home.down()


def test_a_job_runs_and_is_paid_without_any_market(alley: Alley) -> None:
    done = alley.consumer("take", alley.url, "-y", "--json", "--", "python", "-c", "print(6*7)")
    assert done.status == 0, done.err
    summary = json.loads(done.out)
    assert (summary["phase"], summary["exitCode"], summary["fee"]) == ("settled", 0, "0")
    assert int(summary["paid"]) > 0
    assert (alley.home.state / "census.json").exists(), "the node reads its openings from the chain"
    assert "42" in alley.consumer("logs", summary["job"][:10]).out
    audited = alley.consumer("audit", "lease", summary["lease"])
    assert audited.status == 0, audited.out + audited.err


def test_outputs_come_back_and_the_same_key_is_the_same_job(alley: Alley, tmp_path: Path) -> None:
    line = ("--idempotency-key", "once", "-y", "--json", "-o", str(tmp_path / "out"), "--", "sh", "-c")
    script = 'echo hello > "$SUANLI_OUTPUT_DIR/greeting"'
    first = alley.consumer("take", alley.url, *line, script)
    again = alley.consumer("take", alley.url, *line, script)
    assert (first.status, again.status) == (0, 0), first.err + again.err
    assert (tmp_path / "out" / "out" / "greeting").read_text() == "hello\n"
    assert json.loads(first.out)["lease"] == json.loads(again.out)["lease"]


def test_a_stranger_sees_nothing(alley: Alley, tmp_path: Path) -> None:
    import httpx

    lease = "0x" + "11" * 32
    for path in (f"/v1/leases/{lease}", f"/v1/leases/{lease}/logs", "/v1/leases", "/v1/events"):
        answer = httpx.get(alley.url + path, timeout=10)
        assert (answer.status_code, answer.json()["code"]) == (401, "signature"), path
    assert httpx.post(alley.url + "/v1/leases", content=b"x" * 600_000, timeout=10).status_code == 413


def test_what_the_offer_does_not_do_is_said_before_anything_is_signed(alley: Alley) -> None:
    done = alley.consumer("take", alley.url, "-y", "--json", "--max-price", "0.000001", "--", "true")
    assert (done.status, done.problem["code"]) == (4, "no_match")
    assert "rate above bid" in done.problem["detail"]
    done = alley.consumer("take", alley.url, "-y", "--json", "--window", "3s", "--", "true")
    assert (done.status, done.problem["code"]) == (2, "window")
    assert "3 s is under the 10 s that heron takes at least" in done.problem["detail"]
    done = alley.consumer("take", "http://127.0.0.1:9", "-y", "--json", "--", "true")
    assert (done.status, done.problem["code"]) == (7, "unreachable")
    assert "the node at http://127.0.0.1:9" in done.problem["detail"]


def test_a_direct_lease_that_was_stopped_is_billed_until_then(alley: Alley) -> None:
    line = ("take", alley.url, "-y", "-d", "--quiet", "--", "python", "-c", "import time; time.sleep(60)")
    job = alley.consumer(*line).out.strip()
    assert alley.consumer("wait", job, "--for", "running", "--timeout", "60s").status == 0
    stopped = alley.consumer("stop", job, "--json")
    assert (stopped.status, json.loads(stopped.out)["state"]) == (0, "stopped"), stopped.err
    done = alley.consumer("wait", job, "--timeout", "60s")
    assert done.status == 103, done.err
    shown = json.loads(alley.consumer("show", job, "--json").out)
    assert (shown["phase"], shown["reason"]) == ("settled", "stopped")
