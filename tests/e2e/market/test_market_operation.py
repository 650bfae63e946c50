"""What an operator has: figures, readiness, logs, doctor, rounds, backup and restore, on real processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from suanli_market.api.recent import AGE_S_MAX
from suanli_protocol import wire
from suanli_protocol.errors import ProtocolError
from support.devnet import start_anvil
from support.market import PASSWORD, Party, World, a_world, market_key, serve_command, start_market, with_member
from support.market_scene import Market, countersigned, events_until, eventually, opened_lease, signed_receipt

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def market(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """A market that logs everything, as JSON."""
    folder = tmp_path_factory.mktemp("market")
    key, password, _ = market_key(world, folder / "key")
    options = ("--log-format", "json", "--log-level", "debug")
    with start_market(serve_command(world, key, password, folder / "data", *options)) as process:
        yield Market(world, process, folder / "data")


def operate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the operator's."""
    command = [sys.executable, "-m", "suanli_market.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def figures(market: Market) -> dict[str, float]:
    """The market's figures by name and labels, none of them older than the call."""
    time.sleep(2 * AGE_S_MAX)
    answer = httpx.get(f"{market.process.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert all(
        re.fullmatch(r'suanli_market_[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? \S+', line) for line in lines
    )
    return {
        name.removeprefix("suanli_market_"): float(value) for name, value in (line.rsplit(" ", 1) for line in lines)
    }


def needs(command: list[str]) -> list[str]:
    """The options of a `serve` that `doctor` takes too."""
    at = command.index("serve") + 1
    return command[at : command.index("--port")]


def test_figures_follow_a_lease_from_offer_to_settlement(market: Market, provider: Party, consumer: Party) -> None:
    before = figures(market)
    lease = opened_lease(market, provider, consumer)
    during = figures(market)
    assert during['leases{state="open"}'] == before['leases{state="open"}'] + 1
    assert during['offers{state="open"}'] == before['offers{state="open"}'] + 1
    assert during["rounds_total"] > before["rounds_total"]
    assert during["log_entries_total"] == before["log_entries_total"] + 2
    assert during["events_total"] > before["events_total"]
    assert (during["chain_up"], during["open"], during["chain_lag_blocks"]) == (1, 1, 0)
    assert during["gas_wei"] > 10**18
    with pytest.raises(ProtocolError):
        market.client(provider).post_offer(with_member(market.offer(provider), "offer", bondBps=1))
    signed = signed_receipt(market, provider, lease, amount=5)
    market.client(provider).post_receipt(wire.from_hex(lease.id), signed)
    client = market.client(consumer)
    client.countersign(wire.from_hex(lease.id), countersigned(market, consumer, signed.receipt))
    events_until(client, "lease.settled")
    after = figures(market)
    assert after['leases{state="open"}'] == before['leases{state="open"}']
    assert after['settlements{state="queued"}'] == after["settlement_lag_seconds"] == 0
    assert sum(value for name, value in after.items() if name.startswith("refusals_total")) == 1
    assert after['requests_total{method="POST",route="/v1/bids",status="200"}'] >= 1
    assert not [name for name in after if lease.id in name], "no path of a stranger's is a label"


def test_settlement_lag_grows_while_nothing_is_settled(market: Market, provider: Party, consumer: Party) -> None:
    lease = opened_lease(market, provider, consumer)
    signed = signed_receipt(market, provider, lease, amount=5)
    market.client(provider).post_receipt(wire.from_hex(lease.id), signed)
    client = market.client(consumer)
    market.world.chain.rpc("anvil_setBalance", market.process.address, "0x0")  # nothing can be sent
    try:
        client.countersign(wire.from_hex(lease.id), countersigned(market, consumer, signed.receipt))
        eventually(lambda: figures(market)["settlement_lag_seconds"] > 0)
        found = figures(market)
        assert found["gas_wei"] == 0
        assert found['settlements{state="queued"}'] == 1
        assert httpx.get(f"{market.process.url}/readyz").status_code == 200
    finally:
        market.world.chain.rpc("anvil_setBalance", market.process.address, hex(10**20))
    events_until(client, "lease.settled")
    assert figures(market)["settlement_lag_seconds"] == 0


def test_without_its_chain_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    with start_anvil() as anvil:
        world = a_world(anvil)
        key, password, _ = market_key(world, tmp_path / "key")
        command = serve_command(world, key, password, tmp_path / "data")
        with start_market(command) as process:
            ready = httpx.get(f"{process.url}/readyz")
            assert (ready.status_code, ready.json()["ready"]) == (200, True)
            assert [check["name"] for check in ready.json()["checks"]] == ["database", "chain", "indexer", "open"]
            well = operate("doctor", *needs(command), "--json")
            assert (well.returncode, [f["name"] for f in json.loads(well.stdout) if not f["ok"]]) == (0, [])
            os.kill(anvil.pid, signal.SIGKILL)
            problem = eventually(lambda: (a := httpx.get(f"{process.url}/readyz")).status_code == 503 and a)
            assert problem.headers["content-type"] == "application/problem+json"
            assert problem.json()["code"] == "not_ready"
            assert [check["name"] for check in problem.json()["checks"] if not check["ok"]] == ["chain", "indexer"]
            assert httpx.get(f"{process.url}/healthz").json() == {"alive": True}
            assert "suanli_market_chain_up 0" in httpx.get(f"{process.url}/metrics").text
            ill = operate("doctor", *needs(command))
            assert ill.returncode == 2
            assert re.search(r"FAIL +chain .*\n +is it running", ill.stdout)
            assert re.search(r"ok +key ", ill.stdout)
            assert process.process.poll() is None


def test_doctor_names_each_failing_thing_with_its_fix(world: World, tmp_path: Path) -> None:
    key, password, signer = market_key(world, tmp_path / "key")
    command = needs(serve_command(world, key, password, tmp_path / "data"))
    password.chmod(0o644)
    command[command.index("--escrow") + 1] = world.escrow.token.address
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "market.sqlite").write_bytes(b"nothing" * 1000)
    found = operate("doctor", *command, "--json")
    failing = {finding["name"]: finding for finding in json.loads(found.stdout) if not finding["ok"]}
    assert found.returncode == 2
    assert set(failing) == {"key", "escrow", "gas", "database"}
    assert all(finding["hint"] for finding in failing.values())
    password.chmod(0o600)
    world.chain.rpc("anvil_setBalance", signer.address, "0x1")
    found = operate("doctor", *command, "--json")
    gas = next(finding for finding in json.loads(found.stdout) if finding["name"] == "gas")
    assert "holds 1 wei" in gas["detail"]
    assert PASSWORD not in found.stdout + found.stderr


def test_logs_are_json_with_request_ids_and_without_secrets(market: Market, consumer: Party) -> None:
    url = market.process.url
    market.client(consumer).leases()
    given = httpx.get(f"{url}/v1/log?first=x&last=1&password={PASSWORD}", headers={"X-Request-Id": "mine-7"})
    assert (given.status_code, given.headers["x-request-id"]) == (422, "mine-7")
    made = httpx.get(f"{url}/v1/market", headers={"X-Request-Id": "a b" * 50})
    assert re.fullmatch(r"[0-9a-f]{16}", made.headers["x-request-id"])
    eventually(lambda: any('"mine-7"' in line for line in market.process.log))
    log = list(market.process.log)
    lines = [json.loads(line) for line in log]
    assert all({"at", "level", "logger", "message"} <= line.keys() for line in lines)
    assert any(line.get("request") == "mine-7" and "GET /v1/log 422" in line["message"] for line in lines)
    assert PASSWORD not in "".join(log)


def test_a_backup_of_a_serving_market_is_a_market(world: World, tmp_path: Path) -> None:
    key, password, _ = market_key(world, tmp_path / "key")
    provider, consumer = world.party(), world.party()
    data, again, copy = tmp_path / "data", tmp_path / "again", tmp_path / "copy.sqlite"
    with start_market(serve_command(world, key, password, data)) as process:
        market = Market(world, process, data)
        lease = opened_lease(market, provider, consumer)
        ack = market.client(consumer).post_bid(bid := market.bid(consumer))
        taken = operate("backup", str(copy), "--data", str(data))
        assert taken.returncode == 0, taken.stderr
        assert (copy.stat().st_mode & 0o777) == 0o600
        refused = operate("backup", str(copy), "--data", str(data))
        assert (refused.returncode, "never replaces" in refused.stderr) == (2, True)
        listed = json.loads(operate("rounds", "--data", str(data), "--json").stdout)
        assert sum(row["opened"] for row in listed) >= 1
        shown = operate("rounds", str(next(row["number"] for row in listed if row["opened"])), "--data", str(data))
        assert wire.to_hex(wire.from_hex(market.client(consumer).lease(wire.from_hex(lease.id)).id)) == lease.id
        assert re.search(r"opened, rate \d+\n +bid +0x[0-9a-f]{64}", shown.stdout)
        missing = operate("rounds", "999", "--data", str(data), "--json")
        assert (missing.returncode, json.loads(missing.stdout)["code"]) == (2, "not_found")
        signed = signed_receipt(market, provider, lease, amount=5)
        market.client(provider).post_receipt(wire.from_hex(lease.id), signed)  # after the backup: it will be lost
        starts: list[tuple[int, str]] = []
        next(market.client(consumer).events(0, on_start=lambda *start: starts.append(start)))
        seen = events_until(market.client(consumer), "lease.receipt")[-1].seq
        next(market.client(consumer).events(seen - 1, on_start=lambda *start: starts.append(start)))
        assert [start for start, _ in starts] == [0, seen - 1]
    again.mkdir()
    shutil.copy(copy, again / "market.sqlite")
    with start_market(serve_command(world, key, password, again)) as process:
        market = Market(world, process, again)
        client = market.client(consumer)
        again_from_the_first = next(client.events(seen, history=starts[0][1], on_start=lambda *s: starts.append(s)))
        assert starts[-1] == (0, starts[-1][1])
        assert starts[-1][1] not in ("", starts[0][1]), "the copy has a history of its own"
        assert again_from_the_first.seq <= seen
        assert client.post_bid(bid) == ack
        market.client(provider).post_receipt(wire.from_hex(lease.id), signed)
        client.countersign(wire.from_hex(lease.id), countersigned(market, consumer, signed.receipt))
        events_until(client, "lease.settled")
