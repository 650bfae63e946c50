"""A node whose counterparts fall silent: consumer, market, chain or engine. Nothing is torn down, and it is paid.

The devnet is this file's own: its time is moved forward instead of waiting.
"""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from suanli_node import cli
from suanli_protocol import wire
from suanli_protocol.lease import CLOSED_WORD, seat_key
from suanli_protocol.messages import Bid
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
    market_command: list[str]
    node_command: list[str]
    stack: ExitStack
    market: MarketProcess | None = None
    node: NodeProcess | None = None

    def serving(self) -> tuple[MarketProcess, NodeProcess]:
        """Market and node, each started unless it runs."""
        if self.market is None or self.market.process.poll() is not None:
            self.market = self.stack.enter_context(start_market(self.market_command))
        return self.market, self.node_alone()

    def node_alone(self) -> NodeProcess:
        """The node, started unless it runs."""
        if self.node is None or self.node.process.poll() is not None:
            self.node = self.stack.enter_context(start_node(self.node_command))
        return self.node

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
        status, out, err = self.tried(*arguments)
        assert status == 0, err
        return out

    def tried(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of a command, in this process."""
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            status = cli.run([*arguments, "--state", str(self.home.state)])
        return status, out.getvalue(), err.getvalue()

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
    node = handed_over(home.command(f"http://127.0.0.1:{port}", "--min-window", "20"), home, folder)
    try:
        with ExitStack() as stack:
            yield Place(world, devnet, home, command, node, stack)
    finally:
        home.down()


def handed_over(command: list[str], home: NodeHome, folder: Path) -> list[str]:
    """The command with the password in no option, but as a service manager hands it over."""
    credential = folder / "suanli-password"
    credential.touch(mode=0o600)
    credential.write_text((home.folder / "password").read_text())
    at = command.index("--password-file")
    return ["env", f"CREDENTIALS_DIRECTORY={folder}", *command[:at], *command[at + 2 :]]


def posted(place: Place, view: wire.LeaseView) -> dict[str, Any] | None:
    """The node's record of a lease once its receipt is posted."""
    path = place.home.state / "leases" / view.id[2:] / "record.json"
    record = json.loads(path.read_bytes()) if path.exists() else {}
    return record if record.get("step") == "posted" else None


def test_the_password_may_come_from_the_service_manager(place: Place) -> None:
    _, node = place.serving()
    assert (node.address, "--password-file" in place.node_command) == (place.home.signer.address, False)


def test_a_silent_consumer_is_claimed_from_and_the_claim_is_finalized(place: Place) -> None:
    market, node = place.serving()
    consumer = place.consumer(market)
    view = consumer.run(consumer.a_job("echo done"), need=SMALL, window=WINDOW)
    receipt, _, _ = consumer.receipt(view)
    before = place.world.escrow.account(node.address).free
    ending = place.finalized(view)
    assert (ending["how"], int(ending["paid"]), receipt.amount > 0) == ("finalized", receipt.amount, True)
    assert place.word(view) == CLOSED_WORD
    bond = place.world.escrow.account(node.address).free - before - receipt.amount
    assert bond > 0
    eventually(lambda: not (place.home.state / "leases" / view.id[2:]).exists(), "forgetting the lease")
    told = json.loads(place.ask("earnings", "--json"))
    lease = next(lease for lease in told["leases"] if lease["lease"] == view.id)
    assert (int(lease["paid"]), int(lease["gasWei"]) > 0) == (receipt.amount, True)
    assert view.id in place.ask("earnings", "--csv")


def test_a_window_too_short_for_a_claim_is_refused_and_costs_the_node_nothing(place: Place) -> None:
    """Its market lets windows of 10 s through; this node asks for 20."""
    market, node = place.serving()
    consumer = place.consumer(market)
    held = place.world.escrow.account(node.address).free
    view = consumer.run(consumer.a_job("echo never"), need=SMALL, window=10)
    receipt, evidence, _ = consumer.receipt(view)
    assert (receipt.amount, evidence.reason, evidence.started_at) == (0, "bad_job", None)
    assert not (place.home.state / "executor" / "runs" / view.id[2:]).exists()
    consumer.countersign(view, receipt)
    eventually(lambda: place.ending(view), "the settlement")
    assert place.world.escrow.account(node.address).free == held


def test_what_is_due_is_told_and_free_money_can_be_withdrawn(place: Place) -> None:
    _, node = place.serving()
    found = place.status()
    assert (found["mode"], found["running"], found["chain"]) == ("selling", True, "")
    free = place.world.escrow.account(node.address).free
    assert found["funds"]["free"] == str(free)
    before = place.world.escrow.token.balance_of(node.address)
    done = json.loads(place.ask("withdraw", "0.1", "--json"))  # through the daemon: it holds the key
    assert done["what"] == "withdraw"
    assert place.world.escrow.token.balance_of(node.address) - before == 100_000
    status, _, problem = place.tried("claim", "99", "--json")
    assert (status, json.loads(problem)["code"]) == (102, "not_found")


def test_an_engine_that_is_killed_and_a_chain_that_is_away_tear_nothing_down(place: Place) -> None:
    market, node = place.serving()
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


def test_a_node_that_was_frozen_sells_again_at_once_what_was_reclaimed(place: Place) -> None:
    """Its offers left the book with the reclaim; half of the new one's validity is far longer than is waited here."""
    market, node = place.serving()

    def mine() -> set[str]:
        return {offer["id"] for offer in json.loads(place.ask("offers", "--json"))}

    consumer = place.consumer(market)
    view = consumer.run(consumer.a_job("echo begun; sleep 60"), need=SMALL, max_seconds=20, window=WINDOW)
    eventually(lambda: "begun" in consumer.text(view), "the first output")
    before = mine()
    os.kill(node.process.pid, signal.SIGSTOP)
    try:
        place.later(20 + WINDOW + 11)
        eventually(lambda: consumer.market.lease(wire.from_hex(view.id)).state == "reclaimed", "the reclaim")
        assert mine() == set()
    finally:
        os.kill(node.process.pid, signal.SIGCONT)
    after = eventually(mine, "a fresh offer", timeout=30)
    assert after.isdisjoint(before)
    eventually(lambda: (place.ending(view) or {}).get("how") == "reclaimed", "the node's word of it")


def test_pause_resume_offers_and_drain(place: Place) -> None:
    market, node = place.serving()

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


def test_a_market_that_dies_after_the_receipts_keeps_nobody_from_being_paid(place: Place) -> None:
    """Of two leases: whose consumer had signed, by settlement; whose had not, by a claim."""
    market, node = place.serving()
    consumer = place.consumer(market)
    views = [consumer.run(consumer.a_job("echo done"), need=SMALL, window=WINDOW) for _ in range(2)]
    (agreed, silent), (first, second) = views, [consumer.receipt(view)[0] for view in views]
    for view in views:
        eventually(partial(posted, place, view), "the record of the receipt")
    node.kill()
    market.process.kill()
    market.process.wait()
    record = posted(place, agreed)
    assert record is not None
    record["countersignature"] = wire.to_hex(consumer.signer.sign(place.world.escrow.domain, first))
    record["countersignedAt"] = record["signedAt"]
    (place.home.state / "leases" / agreed.id[2:] / "record.json").write_text(json.dumps(record))
    assert place.node_alone().ready["offer"] == ""  # it knows its leases without a market
    ending = eventually(lambda: place.ending(agreed), "the settlement")
    assert (ending["how"], int(ending["paid"])) == ("settled", first.amount)
    assert place.word(agreed) == CLOSED_WORD
    ending = place.finalized(silent)
    assert (ending["how"], int(ending["paid"])) == ("finalized", second.amount)
