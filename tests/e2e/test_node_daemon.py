"""A node as it serves: real chain, market, Ray and sandbox; the consumer follows a script."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from suanli_protocol import billing, wire
from suanli_protocol.documents import Constraints, Evidence, JobDocument, PythonEnvironment, hex32, sha256
from suanli_protocol.lease import Clauses, Lease, Progress, ask_up, lease_id, terms
from suanli_protocol.messages import Bid, Offer, Receipt
from suanli_protocol.signing import verify
from support.builders import a_need
from support.devnet import Anvil, free_port
from support.liar import LyingMarket
from support.market import MarketProcess, World, a_world, market_key, serve_command, signed_bid, start_market
from support.node import Consumer, NodeHome, NodeProcess, a_node_home, an_archive, eventually, start_node

pytestmark = pytest.mark.e2e
SMALL = a_need(cpu_milli=500, memory_mib=256, disk_mib=64).pack()


@dataclass
class Street:
    """A market with one node on it."""

    world: World
    market: MarketProcess
    home: NodeHome
    node: NodeProcess
    requirements: bytes  # of the one package that the node can install

    def consumer(self) -> Consumer:
        """A new funded consumer."""
        signer = self.world.party().signer
        return Consumer(self.world, signer, self.market.client(signer), self.market.address)


@pytest.fixture(scope="module")
def world(anvil: Anvil) -> World:
    return a_world(anvil)


@pytest.fixture(scope="module")
def market(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    folder = tmp_path_factory.mktemp("market")
    key, password, _ = market_key(world, folder / "key")
    with start_market(serve_command(world, key, password, folder / "data")) as market:
        yield market


@pytest.fixture(scope="module")
def street(world: World, market: MarketProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    home = a_node_home(world, tmp_path_factory.mktemp("node"))
    wheels = tmp_path_factory.mktemp("wheels")
    requirements = a_wheel(wheels)
    try:
        with start_node(home.command(market.url, "--index", str(wheels))) as node:
            yield Street(world, market, home, node, requirements)
    finally:
        home.down()


def a_wheel(folder: Path) -> bytes:
    """A package in a folder of wheels, and the hashed requirements that name it."""
    path, info = folder / "greeting-1.0-py3-none-any.whl", "greeting-1.0.dist-info"
    files = {
        "greeting.py": "TEXT = 'hello from a wheel'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
    return f"greeting==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode()


def terms_of(view: wire.LeaseView) -> tuple[Lease, Clauses, Offer]:
    bid, offer = wire.paper_from_json(Bid, view.bid), wire.paper_from_json(Offer, view.offer)
    return *terms(bid, offer, rate=int(view.rate), opened_at=view.opened_at), offer


def check_receipt(
    street: Street, view: wire.LeaseView, job: JobDocument, receipt: Receipt, evidence: Evidence, signature: str
) -> None:
    """The receipt is the node's, names the evidence, and is over what the shared bill says."""
    verify(street.world.escrow.domain, receipt, wire.from_hex(signature), street.node.address)
    assert receipt.evidence == evidence.digest()
    lease, clauses, offer = terms_of(view)
    bill = billing.due(lease, clauses, offer, job.billing, evidence.usage, evidence.reason)
    assert (receipt.amount, evidence.billed_seconds) == (bill.amount, bill.billed_seconds)


def settled(consumer: Consumer, view: wire.LeaseView) -> wire.LeaseView | None:
    found = consumer.market.lease(bytes.fromhex(view.id[2:]))
    return found if found.state == "settled" else None


def test_a_lease_runs_is_billed_settled_and_forgotten(street: Street, tmp_path: Path) -> None:
    consumer = street.consumer()
    archive, manifest = an_archive(
        {
            "work/main.py": b"import sys\nprint(open('/in/data/n').read().strip() * 2)\nprint('oh', file=sys.stderr)\n"
            b"open('/out/answer.txt', 'w').write('42')\nopen('made.json', 'w').write('{}')\n",
            "in/data/n": b"6\n",
        }
    )
    command = {"argv": ("python3", "main.py")}
    job = consumer.a_job(command=command, archive=manifest, outputs=("made.json", "missing.txt"), billing="usage")
    view = consumer.run(job, archive, need=SMALL)
    receipt, evidence, signature = consumer.receipt(view)
    assert (receipt.kind, evidence.reason, evidence.exit_code) == (1, "ok", 0)
    check_receipt(street, view, job, receipt, evidence, signature)
    assert consumer.text(view, "stdout") == "66\n"
    assert consumer.text(view, "stderr") == "oh\n"
    assert "missing.txt is missing" in consumer.text(view, "system")
    assert consumer.log(view)[1] == evidence.log.sha256
    assert consumer.outputs(view, evidence, tmp_path) == {"out/answer.txt": b"42", "made.json": b"{}"}
    consumer.countersign(view, receipt)
    found = eventually(lambda: settled(consumer, view), "the settlement")
    assert int(found.paid) == receipt.amount
    eventually(lambda: not (street.home.state / "leases" / view.id[2:]).exists(), "forgetting the lease")
    eventually(lambda: not (street.home.state / "executor" / "runs" / view.id[2:]).exists(), "forgetting the run")
    kept = json.loads((street.home.state / "receipts" / f"{view.id[2:]}.json").read_text())
    assert kept["signed"]["receipt"] == wire.paper_to_json(receipt)


def test_a_failing_job_is_billed_and_done(street: Street) -> None:
    consumer = street.consumer()
    job = consumer.a_job("echo broken >&2; exit 3")
    view = consumer.run(job, need=SMALL)
    receipt, evidence, signature = consumer.receipt(view)
    assert (receipt.kind, evidence.reason, evidence.exit_code) == (1, "exit_nonzero", 3)
    assert receipt.amount > 0
    check_receipt(street, view, job, receipt, evidence, signature)
    assert evidence.outputs is None
    consumer.countersign(view, receipt)


def test_a_job_that_takes_too_long_is_ended(street: Street) -> None:
    consumer = street.consumer()
    job = consumer.a_job("echo begun; sleep 60", timeouts={"execution": 1})
    view = consumer.run(job, need=SMALL)
    receipt, evidence, signature = consumer.receipt(view)
    assert (receipt.kind, evidence.reason) == (1, "timeout")
    check_receipt(street, view, job, receipt, evidence, signature)
    consumer.countersign(view, receipt)


def test_a_stop_on_the_chain_ends_the_run_and_the_bill(street: Street) -> None:
    consumer = street.consumer()
    job = consumer.a_job("echo begun; sleep 120")
    view = consumer.run(job, need=SMALL)
    eventually(lambda: "begun" in consumer.text(view), "the first output, while the job runs")
    lease, clauses, _ = terms_of(view)
    street.world.escrow.stop(consumer.signer, lease, clauses, Progress())
    receipt, evidence, signature = consumer.receipt(view)
    assert (receipt.kind, evidence.reason) == (1, "stopped")
    check_receipt(street, view, job, receipt, evidence, signature)
    stopped = consumer.market.lease(bytes.fromhex(view.id[2:]))
    assert stopped.stopped_at is not None
    assert evidence.started_at is not None
    assert evidence.usage.wall_ms <= max(0, stopped.stopped_at - evidence.started_at) * 1000
    consumer.countersign(view, receipt)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown key": ({"gpus": 2}, "bad_job", "gpus"),
    "unknown kind": ({"kind": "wasm"}, "bad_job", "kind"),
    "two commands": ({"command": {"argv": ["true"], "shell": "true"}}, "bad_job", "exactly one"),
    "no environments here": (
        {"python": {"version": "3.11", "requirements": hex32(bytes(32))}},
        "bad_job",
        "brings no archive",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_job_that_cannot_run_is_refused_by_name_and_costs_nothing(street: Street, fault: str) -> None:
    members, reason, words = REFUSED[fault]
    consumer = street.consumer()

    class Loose(JobDocument):
        """A document that says what it likes."""

        def canonical(self) -> bytes:
            return json.dumps({**self.to_json(), **members}, sort_keys=True, separators=(",", ":")).encode()

    job = Loose(**dict(consumer.a_job("true")))
    view = consumer.run(job, need=SMALL)
    receipt, evidence, _ = consumer.receipt(view)
    assert (receipt.kind, receipt.amount, evidence.reason, evidence.exit_code) == (1, 0, reason, None)
    assert words in consumer.text(view, "system")
    assert consumer.log(view)[1] == evidence.log.sha256
    consumer.countersign(view, receipt)
    assert int(eventually(lambda: settled(consumer, view), "the settlement").paid) == 0


def test_an_archive_that_is_not_the_named_one_is_refused(street: Street) -> None:
    consumer = street.consumer()
    archive, manifest = an_archive({"work/a": b"honest"})
    other, _ = an_archive({"work/a": b"forged"})
    assert len(other) == len(archive)
    job = consumer.a_job("cat a", archive=manifest)
    view = consumer.run(job, other, need=SMALL)
    receipt, evidence, _ = consumer.receipt(view)
    assert (receipt.amount, evidence.reason) == (0, "bad_job")
    assert "not the one that the job document names" in consumer.text(view, "system")
    consumer.countersign(view, receipt)


def test_an_output_that_is_a_link_is_left_behind(street: Street, tmp_path: Path) -> None:
    consumer = street.consumer()
    job = consumer.a_job('ln -s /etc/shadow "$SUANLI_OUTPUT_DIR/x"; echo 1 > "$SUANLI_OUTPUT_DIR/y"')
    view = consumer.run(job, need=SMALL)
    receipt, evidence, _ = consumer.receipt(view)
    assert evidence.reason == "output_refused"
    assert consumer.outputs(view, evidence, tmp_path) == {"out/y": b"1\n"}
    assert "out/x is a symbolic link" in consumer.text(view, "system")
    consumer.countersign(view, receipt)


def with_requirements(consumer: Consumer, requirements: bytes) -> tuple[JobDocument, bytes]:
    archive, manifest = an_archive({"requirements.txt": requirements})
    python = {"version": "3.11", "requirements": hex32(sha256(requirements))}
    script = "python -c 'import greeting; print(greeting.TEXT)'"
    return consumer.a_job(script, archive=manifest, python=PythonEnvironment(**python)), archive


def test_packages_are_installed_before_the_clock_starts(street: Street) -> None:
    consumer = street.consumer()
    job, archive = with_requirements(consumer, street.requirements)
    view = consumer.run(job, archive, need=SMALL)
    receipt, evidence, _ = consumer.receipt(view)
    assert (evidence.reason, consumer.text(view, "stdout")) == ("ok", "hello from a wheel\n")
    assert "greeting" in consumer.text(view, "setup")
    assert consumer.log(view)[0][0].source == "setup"
    consumer.countersign(view, receipt)


def test_a_package_that_is_not_there_ends_the_job_for_nothing(street: Street) -> None:
    consumer = street.consumer()
    job, archive = with_requirements(consumer, b"absent==1.0 --hash=sha256:" + b"0" * 64 + b"\n")
    view = consumer.run(job, archive, need=SMALL)
    receipt, evidence, _ = consumer.receipt(view)
    assert (receipt.kind, receipt.amount, evidence.reason) == (1, 0, "environment_failed")
    assert "absent" in consumer.text(view, "system")
    consumer.countersign(view, receipt)


def test_an_engine_that_dies_costs_the_consumer_nothing_and_comes_back(street: Street) -> None:
    consumer = street.consumer()
    view = consumer.run(consumer.a_job("echo begun; sleep 60"), need=SMALL)
    eventually(lambda: "begun" in consumer.text(view), "the first output")
    engine = json.loads((street.home.state / "executor" / "ray_host.json").read_text())
    os.kill(engine["pid"], signal.SIGKILL)
    receipt, evidence, _ = consumer.receipt(view)
    assert (receipt.kind, receipt.amount, evidence.reason) == (2, 0, "worker_lost")
    consumer.countersign(view, receipt)
    again = consumer.run(consumer.a_job("echo again"), need=SMALL)
    receipt, evidence, _ = consumer.receipt(again)
    assert (evidence.reason, consumer.text(again, "stdout")) == ("ok", "again\n")
    consumer.countersign(again, receipt)


def test_status_and_doctor_say_how_it_is(street: Street) -> None:
    told = json.loads(street.home.ask("status", "--state", str(street.home.state), "--json").stdout)
    assert (told["running"], told["pid"]) == (True, street.node.process.pid)
    assert told["identity"]["account"] == street.node.address
    assert street.node.address in street.home.ask("status", "--state", str(street.home.state)).stdout
    connections = street.home.connections(street.market.url)
    healthy = street.home.ask("doctor", *connections, "--json")
    findings = {finding["name"]: finding["ok"] for finding in json.loads(healthy.stdout)}
    names = ["sandbox", "disk", "index", "key", "chain", "escrow", "market", "clock", "funds", "engine", "limits"]
    assert (list(findings), all(findings.values()), healthy.returncode) == (names, True, 0), healthy.stdout
    ill = street.home.ask("doctor", *connections, "--escrow", street.node.address, "--market", "http://127.0.0.1:9")
    assert ill.returncode == 2
    failing = [line.split()[1] for line in ill.stdout.splitlines() if line.startswith("FAIL")]
    assert failing == ["escrow", "market", "clock", "funds"], ill.stdout
    assert "check --escrow" in ill.stdout


def test_one_state_folder_serves_one_daemon(street: Street) -> None:
    with (
        pytest.raises(RuntimeError, match=r"ended with 2(.|\n)*in use by another node"),
        start_node(street.home.command(street.market.url)),
    ):
        pass


@pytest.fixture(scope="module")
def spare(world: World, market: MarketProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeHome]:
    """A provider whose daemon comes and goes; its engine stays until the end."""
    home = a_node_home(world, tmp_path_factory.mktemp("spare"))
    yield home
    assert "engine: ended" in home.down()


def test_a_killed_daemon_finds_its_run_again(world: World, market: MarketProcess, spare: NodeHome) -> None:
    signer = world.party().signer
    consumer = Consumer(world, signer, market.client(signer), market.address)
    with start_node(spare.command(market.url, "--price-core", "0.001")) as first:
        job = consumer.a_job("echo begun; sleep 5; echo ended")
        view = consumer.run(job, need=SMALL)
        assert wire.paper_from_json(Offer, view.offer).provider == first.address
        eventually(lambda: "begun" in consumer.text(view), "the first output")
        first.kill()
    with start_node(spare.command(market.url, "--price-core", "0.001")) as second:
        receipt, evidence, signature = consumer.receipt(view)
        verify(world.escrow.domain, receipt, wire.from_hex(signature), second.address)
        assert evidence.reason == "ok"
        assert consumer.text(view, "stdout") == "begun\nended\n"
        assert consumer.log(view)[1] == evidence.log.sha256
        second.kill()
    with start_node(spare.command(market.url, "--price-core", "0.001")):
        consumer.countersign(view, receipt)
        eventually(lambda: settled(consumer, view), "the settlement")
        eventually(lambda: not (spare.state / "leases" / view.id[2:]).exists(), "forgetting the lease")
        assert consumer.receipt(view)[0] == receipt
    assert not [offer for offer in consumer.market.offers() if offer.offer["provider"] == spare.signer.address]


def test_a_market_may_come_late_vanish_and_come_back(world: World, tmp_path: Path) -> None:
    key, password, _ = market_key(world, tmp_path / "key")
    port = free_port()
    command = serve_command(world, key, password, tmp_path / "data", "--port", str(port))
    home = a_node_home(world, tmp_path / "node")
    signer = world.party().signer
    try:
        with start_node(home.command(f"http://127.0.0.1:{port}"), wait=False) as node:
            eventually(lambda: any("meeting the market" in line for line in node.log), "a retry")
            with start_market(command) as market:
                consumer = Consumer(world, signer, market.client(signer), market.address)
                eventually(lambda: consumer.market.offers(), "the offer")
                view = consumer.run(consumer.a_job("echo begun; sleep 4; echo ended"), need=SMALL)
                eventually(lambda: "begun" in consumer.text(view), "the first output")
                retries = len(node.log)
                market.process.kill()
                market.process.wait()
            eventually(lambda: any("next try" in line for line in node.log[retries:]), "a retry")
            with start_market(command):
                _, evidence, _ = consumer.receipt(view)
                assert evidence.reason == "ok"
                assert consumer.text(view, "stdout") == "begun\nended\n"
                assert node.process.poll() is None
                node.process.terminate()
                assert node.process.wait(timeout=30) == 0
                assert consumer.market.offers() == []
    finally:
        home.down()


def phantom(world: World, consumer: Consumer, offer: wire.OfferView, job: JobDocument) -> wire.Json:
    """A lease out of true papers that nobody opened."""
    constraints = Constraints(salt="00" * 16)
    signed = signed_bid(world, consumer.signer, consumer.market_address, job=job, constraints=constraints, need=SMALL)
    bid, sold = wire.paper_from_json(Bid, signed.bid), wire.paper_from_json(Offer, offer.offer)
    rate, opened_at = ask_up(bid, sold), world.chain.block().timestamp
    lease, _ = terms(bid, sold, rate=rate, opened_at=opened_at)
    return {
        "id": hex32(lease_id(lease)), "number": 99, "bid": signed.bid, "bidSignature": signed.signature,
        "offer": offer.offer, "offerSignature": offer.signature, "attributes": offer.attributes,
        "constraints": signed.constraints, "jobDigest": signed.job_digest, "rate": str(rate), "index": 0, "attempt": 1,
        "openedAt": opened_at, "block": 1, "blockHash": hex32(bytes(32)), "transaction": hex32(bytes(32)),
        "state": "open", "phase": "leased",
    }  # fmt: skip


def test_nothing_runs_for_a_market_that_lies(world: World, market: MarketProcess, spare: NodeHome) -> None:
    signer = world.party().signer
    consumer = Consumer(world, signer, market.client(signer), market.address)
    invented: list[wire.Json] = []

    def lie(path: str, answer: Any) -> Any:
        if path.startswith("/v1/leases/"):
            return {**answer, "rate": str(int(answer["rate"]) + 1)}
        return answer + invented if path.startswith("/v1/leases") else answer

    liar = LyingMarket(market.url)
    with liar.serving(), start_node(spare.command(liar.url, "--price-core", "0.0001")) as node:
        offer = next(view for view in consumer.market.offers() if view.offer["provider"] == node.address)
        liar.lie = lie
        view = consumer.run(consumer.a_job("echo never"), need=SMALL)
        assert view.offer["provider"] == node.address
        eventually(lambda: any("make the lease" in line for line in node.log), "noticing the altered rate")
        node.kill()
        invented.append(phantom(world, consumer, offer, consumer.a_job("echo never")))
    with LyingMarket(market.url).serving() as second:
        second.lie = lambda path, answer: invented if path.startswith("/v1/leases?") else lie(path, answer)
        with start_node(spare.command(second.url, "--price-core", "0.0001")) as node:
            eventually(lambda: any("has no lease at the seat" in line for line in node.log), "noticing the phantom")
            assert list((spare.state / "leases").iterdir()) == []
            assert list((spare.state / "executor" / "runs").iterdir()) == []
    assert consumer.text(view) == ""


def test_a_locked_key_is_named(market: MarketProcess, spare: NodeHome, tmp_path: Path) -> None:
    (tmp_path / "wrong").touch(mode=0o600)
    (tmp_path / "wrong").write_text("wrong")
    command = [*spare.command(market.url)[4:], "--password-file", str(tmp_path / "wrong")]  # after the true one
    done = spare.ask("up", *command)
    assert (done.returncode, "the password is wrong" in done.stderr) == (3, True), done.stderr
    (tmp_path / "wrong").chmod(0o644)
    done = spare.ask("up", *command)
    assert (done.returncode, "chmod 600" in done.stderr) == (3, True), done.stderr


def test_settings_that_do_not_agree_are_named(world: World, market: MarketProcess, spare: NodeHome) -> None:
    other = replace(spare, world=replace(world, escrow=a_world_on(world).escrow))
    with (
        pytest.raises(RuntimeError, match=r"ended with 2(.|\n)*the market works with escrow"),
        start_node(other.command(market.url)),
    ):
        pass


def a_world_on(world: World) -> World:
    """Another escrow on the same chain."""
    return a_world(Anvil(world.url, [], 0))
