"""The world of a deep run: a devnet, a market, a node, and consumers at work, each of which may die at any time."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deep.chain import Devnet
from deep.services import Service
from suanli.jobs.record import Record
from suanli.jobs.store import Store
from suanli_protocol.devnet import set_balance
from suanli_protocol.escrow import Chain, Escrow, deploy
from suanli_protocol.keystore import SCRYPT_N_DEVNET, create
from suanli_protocol.signing import Signer
from support.builders import CREDIT
from support.devnet import free_port
from support.market import GAS_WEI, PASSWORD, World, market_key, serve_command
from support.node import NodeHome, a_node_home

CONFIRMATIONS = 3
CONSUMERS = 3
AWAY_S = 2.0  # a dead process comes back after at most so long
ENDS_MAX = 4
TESTS = Path(__file__).resolve().parents[1]


@dataclass
class Person:
    """One consumer: a folder, a key, and the process that works through errands."""

    name: str
    folder: Path
    signer: Signer
    service: Service

    @property
    def records(self) -> list[Record]:
        """What its machine knows of its jobs."""
        return self.store.all()

    @property
    def store(self) -> Store:
        """Its jobs."""
        return Store(self.folder / "data" / "suanli")


@dataclass
class Deep:
    """All of it. `strikes` is the folder in which points are armed."""

    folder: Path
    devnet: Devnet
    world: World
    market: Service
    market_address: str
    market_data: Path
    node: Service
    home: NodeHome
    people: list[Person]
    strikes: Path
    confirmations: int
    chance: random.Random = field(default_factory=random.Random)
    _due: dict[str, float] = field(default_factory=dict)

    @property
    def services(self) -> list[Service]:
        """Those that are started again when they die."""
        return [self.market, self.node, *(person.service for person in self.people)]

    # Dying

    def arm(self, point: str) -> None:
        """The next process that comes to the point dies there."""
        (self.strikes / point).touch()

    def disarm(self, point: str) -> bool:
        """Takes it back; False if it has struck."""
        try:
            (self.strikes / point).unlink()
        except FileNotFoundError:
            return False
        return True

    def kill_engine(self) -> bool:
        """Kills the Ray host, and with it all that runs in it."""
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            told = json.loads((self.home.state / "executor" / "ray_host.json").read_bytes())
            if psutil.Process(told["pid"]).create_time() == told["began"]:
                os.kill(told["pid"], signal.SIGKILL)
                return True
        return False

    def revive(self) -> None:
        """Starts again what has died, each after a while. A consumer that ended well stays so."""
        now = time.monotonic()
        for service in self.services:
            if service.noticed_dead():
                done = service.name.startswith("consumer") and service.last_status == 0
                if not done:
                    self._due[service.name] = now + self.chance.uniform(0, AWAY_S)
            if service.name in self._due and now >= self._due[service.name]:
                del self._due[service.name]
                service.start()

    # Working

    def begin(self, seed: int) -> None:
        """Has every consumer begin the errands of a round."""
        for person in self.people:
            (person.folder / "stop").unlink(missing_ok=True)
            (person.folder / "order.json").write_text(json.dumps({"seed": seed}))
            person.service.start()

    def finish(self, timeout: float) -> list[str]:
        """Nothing new begins; waits until every consumer has seen its jobs to the end. Those that have not."""
        for person in self.people:
            (person.folder / "stop").touch()
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and not self.hopeless:
            self.revive()
            if not self._due and not any(person.service.alive for person in self.people):
                return []
            time.sleep(0.1)
        if self.hopeless:
            return ["a process ends again and again"]
        late = [person for person in self.people if person.service.alive]
        return [f"{person.name} still waits: {person.service.last_words()}" for person in late]

    @property
    def hopeless(self) -> bool:
        """Whether a process ends of its own again and again."""
        return any(len(service.ends) >= ENDS_MAX for service in self.services)

    def ends(self) -> list[str]:
        """Ends of processes that nobody asked for, once each."""
        found = [end for service in self.services for end in service.ends]
        for service in self.services:
            service.ends.clear()
        return found


@contextmanager
def a_deep_world(
    folder: Path,
    *,
    confirmations: int = CONFIRMATIONS,
    block_s: int = 1,
    consumers: int = CONSUMERS,
) -> Iterator[Deep]:
    """Brings everything up, and down again by the ids of the processes that were started."""
    folder.mkdir(parents=True, exist_ok=True)
    strikes = folder / "strikes"
    strikes.mkdir()
    devnet = Devnet(folder, block_s=block_s)
    devnet.start()
    made: Deep | None = None
    try:
        made = _furnish(folder, devnet, strikes, confirmations, consumers)
        yield made
    finally:
        if made is not None:
            for service in made.services:
                service.end()
            with suppress(Exception):
                made.home.down()
        devnet.service.end()


def _furnish(
    folder: Path,
    devnet: Devnet,
    strikes: Path,
    confirmations: int,
    consumers: int,
) -> Deep:
    chain = Chain(devnet.url)
    deployer = Signer(os.urandom(32))
    set_balance(chain, deployer.address, GAS_WEI)
    deployment = deploy(deployer, chain)
    world = World(devnet.url, chain, Escrow(chain, deployment.escrow), deployer)
    people = [_a_person(world, folder, f"consumer{number}", strikes) for number in range(consumers)]
    key, password, _ = market_key(world, folder / "market")
    home = a_node_home(world, folder / "node", money=0)
    world.escrow.faucet(deployer, home.signer.address, 1000 * CREDIT)
    world.escrow.deposit(home.signer, home.signer.address, 1000 * CREDIT)
    devnet.rpc("anvil_mine", hex(confirmations + 1))
    devnet.keep_time()
    settings = {"SUANLI_FAULT": str(strikes), "PYTHONPATH": str(TESTS)}
    port = free_port()
    options = ("--port", str(port), "--confirmations", str(confirmations), "--round-ms", "100")
    command = serve_command(world, key, password, folder / "market" / "data", *options)
    market = Service("market", command, settings, folder)
    market.start()
    address = str(market.ready()["address"])
    url = f"http://127.0.0.1:{port}"
    node = Service("node", home.command(url), settings, folder)
    node.start()
    for person in people:
        person.service.settings = {**person.service.settings, "SUANLI_MARKET": url}
    node.ready()
    devnet.wait_dumped()
    return Deep(
        folder, devnet, world, market, address, folder / "market" / "data", node, home, people, strikes, confirmations
    )  # fmt: skip


def break_memory(service: Service, role: str) -> None:
    """From its next life on the service forgets what it wrote down (`deep.broken`)."""
    at = service.command.index("-m")
    service.command = [*service.command[: at + 1], "deep.broken", role, *service.command[at + 2 :]]


def _a_person(world: World, folder: Path, name: str, strikes: Path) -> Person:
    home = folder / name
    home.mkdir()
    password = home / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    signer = create(home / "key.json", PASSWORD, scrypt_n=SCRYPT_N_DEVNET)
    set_balance(world.chain, signer.address, GAS_WEI)
    world.escrow.faucet(world.deployer, signer.address, 1000 * CREDIT)
    world.escrow.deposit(signer, signer.address, 1000 * CREDIT)
    settings = {
        "SUANLI_CHAIN": world.url,
        "SUANLI_ESCROW": world.escrow.address,
        "SUANLI_KEYSTORE": str(home / "key.json"),
        "SUANLI_PASSWORD_FILE": str(password),
        "SUANLI_HOME": str(home / "data"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "SUANLI_FAULT": str(strikes),
        "PYTHONPATH": str(TESTS),
    }
    service = Service(name, [sys.executable, "-m", "deep.consumer", name], settings, home)
    return Person(name, home, signer, service)


def discard(folder: Path) -> None:
    """Removes a world that nobody wants to look into."""
    shutil.rmtree(folder, ignore_errors=True)
