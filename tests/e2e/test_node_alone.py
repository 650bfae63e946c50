"""A node whose counterparts fall silent: consumer, market, chain or engine. Nothing is torn down, and it is paid.

The devnet is this file's own: its time is moved forward instead of waiting.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from suanli_protocol import wire
from suanli_protocol.lease import CLOSED_WORD, seat_key
from suanli_protocol.messages import Bid, Receipt
from support.builders import a_need
from support.devnet import Anvil, free_port, start_anvil
from support.market import MarketProcess, World, a_world, market_key, serve_command, start_market
from support.node import Consumer, NodeHome, NodeProcess, a_node_home, eventually, start_node

pytestmark = pytest.mark.e2e
WINDOW = 30
SMALL = a_need(cpu_milli=500, memory_mib=256, disk_mib=64).pack()


@pytest.fixture(scope="module")
def devnet() -> Iterator[Anvil]:
    with start_anvil() as anvil:
        yield anvil


@pytest.fixture(scope="module")
def world(devnet: Anvil) -> World:
    return a_world(devnet)


@dataclass
class Place:
    """One node and one market that can be started and killed."""

    world: World
    devnet: Anvil
    home: NodeHome
    command: list[str]  # of the market
    url: str

    def node(self) -> Any:
        """The node as a context."""
        return start_node(self.home.command(self.url))

    def market(self) -> Any:
        """The market as a context."""
        return start_market(self.command)

    def consumer(self, market: MarketProcess) -> Consumer:
        """A funded consumer."""
        signer = self.world.party().signer
        return Consumer(self.world, signer, market.client(signer), market.address)

    def later(self, seconds: int) -> None:
        """Move the chain's time."""
        self.devnet.rpc("evm_increaseTime", seconds)
        self.devnet.rpc("evm_mine")

    def ending(self, view: wire.LeaseView) -> dict[str, Any] | None:
        """What the node wrote down of a closed lease."""
        path = self.home.state / "endings" / f"{view.id[2:]}.json"
        return dict(json.loads(path.read_bytes())) if path.exists() else None

    def word(self, view: wire.LeaseView) -> bytes:
        """The escrow's word at the lease's seat."""
        bid = wire.paper_from_json(Bid, view.bid)
        return self.world.escrow.seat(seat_key(bid.seat, bid.consumer))

    def claimed(self, view: wire.LeaseView) -> bool:
        """Whether the node sees its claim on the chain."""
        return any(lease["id"] == view.id and lease.get("state") == "claimed" for lease in self.status()["leases"])

    def status(self) -> dict[str, Any]:
        """`suanli-node status --json`."""
        return dict(json.loads(self.ask("status", "--json")))

    def ask(self, *arguments: str) -> str:
        """Another command on this node's state."""
        done = self.home.ask(*arguments, "--state", str(self.home.state))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def finalized(self, view: wire.LeaseView) -> dict[str, Any]:
        """Move time until a signed lease is claimed, then finalized; its ending."""
        self.later(WINDOW // 3 + 1)
        eventually(lambda: self.claimed(view), "the claim")
        assert self.ending(view) is None
        self.later(WINDOW + 1)
        return eventually(lambda: self.ending(view), "the finalization")


@pytest.fixture(scope="module")
def place(world: World, devnet: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    key, password, _ = market_key(world, folder / "key")
    port = free_port()
    options = ("--port", str(port), "--min-window", "10")
    command = serve_command(world, key, password, folder / "data", *options)
    home = a_node_home(world, folder / "node")
    try:
        yield Place(world, devnet, home, command, f"http://127.0.0.1:{port}")
    finally:
        home.down()


def signed(place: Place, view: wire.LeaseView) -> dict[str, Any] | None:
    """The node's record of a lease once its receipt is posted."""
    path = place.home.state / "leases" / view.id[2:] / "record.json"
    record = json.loads(path.read_bytes()) if path.exists() else {}
    return record if record.get("step") == "posted" else None


def test_a_silent_consumer_is_claimed_from_and_the_claim_is_finalized(place: Place) -> None:
    with place.market() as market, place.node() as node:
        consumer = place.consumer(market)
        view = consumer.run(consumer.a_job("echo done"), need=SMALL, window=WINDOW)
        receipt, _, _ = consumer.receipt(view)
        before = place.world.escrow.account(node.address).free
        ending = place.finalized(view)
        assert (ending["how"], int(ending["paid"]), receipt.amount > 0) == ("finalized", receipt.amount, True)
        assert place.word(view) == CLOSED_WORD
        bond = place.world.escrow.account(node.address).free - before - receipt.amount
        assert bond > 0
        assert not (place.home.state / "leases" / view.id[2:]).exists()
        told = json.loads(place.ask("earnings", "--json"))
        lease = next(lease for lease in told["leases"] if lease["lease"] == view.id)
        assert (int(lease["paid"]), int(lease["gasWei"]) > 0) == (receipt.amount, True)
        assert view.id in place.ask("earnings", "--csv")


def served_then_left(place: Place) -> tuple[Consumer, wire.LeaseView, Receipt]:
    """A lease whose receipt is posted; then market and daemon are killed."""
    with place.market() as market, place.node() as node:
        consumer = place.consumer(market)
        view = consumer.run(consumer.a_job("echo done"), need=SMALL, window=WINDOW)
        receipt, _, _ = consumer.receipt(view)
        eventually(lambda: signed(place, view), "the record of the receipt")
        node.kill()
        market.process.kill()
        market.process.wait()
    return consumer, view, receipt


def test_a_market_that_dies_after_the_receipt_keeps_nobody_from_being_paid(place: Place) -> None:
    _, view, receipt = served_then_left(place)
    with place.node() as node:  # it knows its leases without a market
        assert node.ready["offer"] == ""
        ending = place.finalized(view)
        assert (ending["how"], int(ending["paid"])) == ("finalized", receipt.amount)


def test_a_market_that_does_not_settle_is_not_needed_for_it(place: Place) -> None:
    consumer, view, receipt = served_then_left(place)
    record_path = place.home.state / "leases" / view.id[2:] / "record.json"
    record = json.loads(record_path.read_bytes())
    record["countersignature"] = wire.to_hex(consumer.signer.sign(place.world.escrow.domain, receipt))
    record["countersignedAt"] = record["signedAt"]
    record_path.write_text(json.dumps(record))
    with place.node():
        ending = eventually(lambda: place.ending(view), "the ending")
        assert (ending["how"], int(ending["paid"])) == ("settled", receipt.amount)
    assert place.word(view) == CLOSED_WORD


def test_pause_resume_offers_and_drain(place: Place) -> None:
    with place.market() as market, place.node() as node:

        def mine() -> list[Any]:
            return list(json.loads(place.ask("offers", "--json")))

        eventually(mine, "the offer")
        place.ask("pause")
        eventually(lambda: not mine(), "the end of the offer")
        place.ask("resume")
        eventually(mine, "the offer again")
        consumer = place.consumer(market)
        view = consumer.run(consumer.a_job("echo begun; sleep 3"), need=SMALL, window=WINDOW)
        eventually(lambda: "begun" in consumer.text(view), "the first output")
        place.ask("drain")
        eventually(lambda: not mine(), "the end of the offer")
        receipt, evidence, _ = consumer.receipt(view)
        assert (evidence.reason, node.process.poll()) == ("ok", None)
        consumer.countersign(view, receipt)
        assert node.process.wait(timeout=60) == 0
        assert place.status()["mode"] == "paused"
        place.ask("resume")


def test_an_engine_that_is_killed_and_a_chain_that_is_away_tear_nothing_down(place: Place) -> None:
    with place.market() as market, place.node() as node:
        consumer = place.consumer(market)
        view = consumer.run(consumer.a_job("echo begun; sleep 4; echo ended"), need=SMALL, window=WINDOW)
        eventually(lambda: "begun" in consumer.text(view), "the first output")
        os.kill(place.devnet.pid, signal.SIGSTOP)
        try:
            _, evidence, _ = consumer.receipt(view)
        finally:
            os.kill(place.devnet.pid, signal.SIGCONT)
        assert (evidence.reason, node.process.poll()) == ("ok", None)
        assert place.finalized(view)["how"] == "finalized"
        lost = consumer.run(consumer.a_job("echo begun; sleep 60"), need=SMALL, window=WINDOW)
        eventually(lambda: "begun" in consumer.text(lost), "the first output")
        os.kill(json.loads((place.home.state / "executor" / "ray_host.json").read_text())["pid"], signal.SIGKILL)
        receipt, evidence, _ = consumer.receipt(lost)
        assert (receipt.kind, receipt.amount, evidence.reason) == (2, 0, "worker_lost")
        assert place.finalized(lost)["paid"] == "0"


def test_what_is_due_is_told_and_free_money_can_be_withdrawn(place: Place) -> None:
    with place.market(), place.node() as node:
        found = place.status()
        assert (found["mode"], found["running"], found["chain"]) == ("selling", True, "")
        free = place.world.escrow.account(node.address).free
        assert found["funds"]["free"] == str(free)
        before = place.world.escrow.token.balance_of(node.address)
        done = json.loads(place.ask("withdraw", "0.1", "--json"))  # through the daemon: it holds the key
        assert done["what"] == "withdraw"
        assert place.world.escrow.token.balance_of(node.address) - before == 100_000
        refused = place.home.ask("claim", "99", "--state", str(place.home.state), "--json")
        assert (refused.returncode, json.loads(refused.stderr)["code"]) == (102, "not_found")


def test_the_password_may_come_from_the_service_manager(place: Place, tmp_path: Path) -> None:
    credential = tmp_path / "suanli-password"
    credential.touch(mode=0o400)
    credential.chmod(0o600)
    credential.write_text((place.home.folder / "password").read_text())
    command = place.home.command(place.url)
    at = command.index("--password-file")
    command[at : at + 2] = []
    command = ["env", f"CREDENTIALS_DIRECTORY={tmp_path}", *command]
    with place.market(), start_node(command) as node:
        assert isinstance(node, NodeProcess)
        assert node.address == place.home.signer.address
