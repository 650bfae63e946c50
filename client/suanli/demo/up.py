"""Bringing the demo up: chain, contracts, keys, money, market, two providers. Each step looks first and then acts.

Running it twice does nothing the second time; what died is started again; what was never made is made.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import httpx

from suanli.demo.home import KEYS, MACHINES, DemoHome, Machine, anvil, command
from suanli.demo.ledger import keep_first_genesis
from suanli.demo.process import ProcessRecord
from suanli_protocol.errors import ChainUnavailableError, ConfigurationError, SuanliError
from suanli_protocol.market_client import MarketClient
from suanli_protocol.units import format_money, parse_money

if TYPE_CHECKING:
    from suanli_protocol.escrow import Chain, Escrow
    from suanli_protocol.signing import Signer

CHAIN_ID = 31337
CHAIN_PORT, MARKET_PORT = 8545, 8600
GAS_LOW, GAS_FULL = 10**18, 100 * 10**18  # wei
DEPOSIT = {"consumer": "100", "market": "1", "arbiter": "0"}  # tokens; what the others have stands in DEPOSIT_NODE
DEPOSIT_NODE = "20"
CHAIN_TIMEOUT_S, MARKET_TIMEOUT_S, NODE_TIMEOUT_S, OFFER_TIMEOUT_S = 30.0, 60.0, 180.0, 60.0


class Progress(Protocol):
    """Told of each step."""

    def begin(self, step: str, meanwhile: str) -> None:
        """A step begins; `meanwhile` says what is being done."""

    def done(self, step: str, outcome: str, seconds: float) -> None:
        """The step is over."""


@dataclass(frozen=True)
class Running:
    """A demo that is up."""

    chain: str
    market: str
    escrow: str
    token: str
    addresses: dict[str, str]


def bring_up(home: DemoHome, index: str, progress: Progress) -> Running:
    """Brings everything up that is not; errors say which step failed and what to change."""
    return _Up(home, index, progress).all()


class _Up:
    def __init__(self, home: DemoHome, index: str, progress: Progress) -> None:
        self.home, self.index, self.progress = home, index, progress
        self.memory = home.load()

    @contextmanager
    def _step(self, name: str, meanwhile: str) -> Iterator[list[str]]:
        begin, said = time.monotonic(), [""]
        self.progress.begin(name, meanwhile)
        yield said
        self.progress.done(name, said[0], time.monotonic() - begin)

    def all(self) -> Running:
        """The steps in their order."""
        _check_tools()
        home = self.home
        home.folder()
        with self._step("chain", "starting a local chain") as said:
            url, said[0] = self._chain()
        from suanli_protocol.escrow import Chain, Escrow

        chain = Chain(url)
        self._same_chain(chain)
        with self._step("keys", "making keys") as said:
            signers = self._keys()
            said[0] = f"{len(signers)} encrypted keys in {home.folder('keys')}"
        with self._step("contracts", "deploying token and escrow") as said:
            said[0] = self._contracts(chain, signers["market"])
        escrow = Escrow(chain, self.memory.escrow)
        with self._step("money", "filling accounts") as said:
            said[0] = self._money(url, chain, escrow, signers)
        with self._step("market", "starting the market") as said:
            market = self._market(url)
            said[0] = market
        home.write_context(market, url, self.memory.escrow, signers["arbiter"].address)
        with self._step("providers", "starting two providers with Ray, tens of seconds the first time") as said:
            said[0] = self._nodes(url, market, signers["arbiter"].address)
        addresses = {name: signer.address for name, signer in signers.items()}
        with self._step("offers", "waiting for their offers") as said:
            said[0] = self._offers(market, addresses)
        return Running(url, market, self.memory.escrow, self.memory.token, addresses)

    # The chain

    def _chain(self) -> tuple[str, str]:
        """A running Anvil; its state file outlives it."""
        home, alive = self.home, self.home.processes.alive("chain")
        if alive and _answers(_url(self.memory.chain_port)):
            return _url(self.memory.chain_port), f"{_url(self.memory.chain_port)}, running"
        if alive:
            home.processes.stop("chain")
        program = anvil()
        self._refuse_lost_ledger()
        keep_first_genesis(home.ledger)
        port = _port(self.memory.chain_port or CHAIN_PORT)
        home.folder("chain")
        arguments = [program, "--host", "127.0.0.1", "--port", str(port), "--chain-id", str(CHAIN_ID)]
        arguments += ["--hardfork", "osaka", "--accounts", "1", "--silent", "--state", str(home.ledger)]
        arguments += ["--state-interval", "1", "--cache-path", str(home.root / "chain" / "cache")]
        record = home.processes.start("chain", arguments)
        home.processes.wait(record, "the local chain", lambda: _answers(_url(port)) or None, CHAIN_TIMEOUT_S)
        self.memory.chain_port = port
        home.save(self.memory)
        return _url(port), f"Anvil on {_url(port)}"

    def _refuse_lost_ledger(self) -> None:
        if self.memory.escrow and not self.home.ledger.is_file():
            raise _reset(f"its ledger {self.home.ledger} is gone")

    def _same_chain(self, chain: Chain) -> None:
        """The chain is the one that the demo was made on."""
        genesis = "0x" + chain.genesis().hex()
        if not self.memory.genesis:
            self.memory.genesis = genesis
            self.home.save(self.memory)
        elif self.memory.genesis != genesis:
            raise _reset(f"its first block is {genesis}, it was {self.memory.genesis}")

    # Keys, contracts, money

    def _keys(self) -> dict[str, Signer]:
        from suanli_protocol import keystore

        signers = {}
        for name in KEYS:
            path, secret = self.home.keystore(name), self.home.make_password(name)
            password = keystore.read_password(secret)
            if path.exists():
                signers[name] = keystore.load(path, password)
            else:
                signers[name] = keystore.create(path, password, scrypt_n=keystore.SCRYPT_N_DEVNET)
        return signers

    def _contracts(self, chain: Chain, signer: Signer) -> str:
        from suanli_protocol.escrow import deploy

        _give_gas(chain, _url(self.memory.chain_port), signer.address)
        if self.memory.escrow:
            if chain.code_hash(self.memory.escrow) == chain.code_hash("0x" + "00" * 19 + "01"):
                raise _reset(f"there is no escrow at {self.memory.escrow}")
            return f"escrow {self.memory.escrow}"
        made = deploy(signer, chain)
        self.memory.escrow, self.memory.token, self.memory.block = made.escrow, made.token, made.block
        self.home.save(self.memory)
        return f"escrow {made.escrow}, deployed"

    def _money(self, url: str, chain: Chain, escrow: Escrow, signers: dict[str, Signer]) -> str:
        """Gas, tokens and deposits for each party, topped up when they run low."""
        decimals, symbol = escrow.token.decimals, escrow.token.symbol
        parts = []
        for name, signer in signers.items():
            _give_gas(chain, url, signer.address)
            wanted = parse_money(DEPOSIT.get(name, DEPOSIT_NODE), decimals)
            free = escrow.account(signer.address).free
            if wanted == 0:
                continue
            if free < wanted // 2:
                escrow.faucet(signer, signer.address, wanted - free)
                escrow.deposit(signer, signer.address, wanted - free)
                free = wanted
            parts.append(f"{name} {format_money(free, decimals)}")
        return f"{', '.join(parts)} {symbol}"

    # The market and the nodes

    def _market(self, chain: str) -> str:
        home, port = self.home, self.memory.market_port
        alive = home.processes.alive("market")
        if alive and alive.command == self._market_command(chain, port) and _is_market(_url(port)):
            return _url(port)
        home.processes.stop("market")
        port = _port(port or MARKET_PORT)
        record = home.processes.start("market", self._market_command(chain, port))
        home.processes.wait(record, "the market", lambda: home.processes.ready_line("market"), MARKET_TIMEOUT_S)
        self.memory.market_port = port
        home.save(self.memory)
        return _url(port)

    def _market_command(self, chain: str, port: int) -> list[str]:
        arguments = [command("suanli-market"), "serve", "--chain", chain, "--escrow", self.memory.escrow]
        arguments += self._key_arguments("market")
        arguments += ["--data", str(self.home.root / "market"), "--host", "127.0.0.1", "--port", str(port)]
        return [*arguments, "--name", "demo", "--min-window", "10"]

    def _key_arguments(self, name: str) -> list[str]:
        home = self.home
        return ["--keystore", str(home.keystore(name)), "--password-file", str(home.password_file(name))]

    def _nodes(self, chain: str, market: str, arbiter: str) -> str:
        """Both are started at once and then waited for: most of their start is Ray's."""
        home, started = self.home, []
        for machine in MACHINES:
            wanted, alive = self._node_command(machine, chain, market, arbiter), home.processes.alive(machine.name)
            if alive and alive.command == wanted:
                record = alive
            else:
                home.processes.stop(machine.name)
                home.folder("nodes", machine.name)
                record = home.processes.start(machine.name, wanted)
            started.append((machine, record))
        for machine, record in started:
            self._wait_node(machine, record)
        return ", ".join(machine.name for machine in MACHINES)

    def _wait_node(self, machine: Machine, record: ProcessRecord) -> None:
        processes = self.home.processes
        processes.wait(record, f"the node {machine.name}", lambda: processes.ready_line(machine.name), NODE_TIMEOUT_S)

    def _node_command(self, machine: Machine, chain: str, market: str, arbiter: str) -> list[str]:
        arguments = [command("suanli-node"), "up", "--market", market, "--chain", chain]
        arguments += ["--escrow", self.memory.escrow, *self._key_arguments(machine.name)]
        arguments += ["--state", str(self.home.root / "nodes" / machine.name), "--name", machine.name]
        arguments += ["--region", machine.region, "--cpus", machine.cpus, "--memory", machine.memory]
        arguments += ["--disk", machine.disk, "--price-core", machine.price_core]
        arguments += ["--price-memory", machine.price_memory, "--price-disk", machine.price_disk]
        arguments += ["--arbiter", arbiter, "--listen", "127.0.0.1:0"]
        return [*arguments, "--index", self.index]

    def _offers(self, market: str, addresses: dict[str, str]) -> str:
        wanted = {addresses[machine.name].lower() for machine in MACHINES}
        deadline = time.monotonic() + OFFER_TIMEOUT_S
        with MarketClient(market) as client:
            while time.monotonic() < deadline:
                there = {str(view.offer["provider"]).lower() for view in client.offers()} & wanted
                if there == wanted:
                    return f"{len(there)} machines for rent"
                time.sleep(0.2)
        late = ", ".join(machine.name for machine in MACHINES if addresses[machine.name].lower() not in there)
        raise ConfigurationError(
            f"no offer of {late} reached the market within {OFFER_TIMEOUT_S:g} s; the last lines of its log:\n"
            f"{self.home.processes.tail(late.split(', ')[0])}",
            hint="`suanli demo down`, then `suanli demo up` begins afresh",
            code="demo_no_offer",
        )


def _reset(why: str) -> SuanliError:
    return ConfigurationError(
        f"the demo's chain was reset: {why}. Leases, deposits and papers of before are no more",
        hint="`suanli demo down` clears the rest away, `suanli demo up` begins afresh",
        code="devnet_reset",
    )


def _check_tools() -> None:
    """What the nodes need of the system, asked before anything is started."""
    command("suanli-market")
    command("suanli-node")
    if shutil.which("bwrap") is None:
        raise ConfigurationError(
            "jobs run in a sandbox made by bubblewrap, which is not installed",
            hint="Debian, Ubuntu: apt-get install bubblewrap; Fedora: dnf install bubblewrap",
            code="bubblewrap_missing",
        )


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _port(wanted: int) -> int:
    """The wanted port of this machine, or a free one if somebody listens there."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ConfigurationError("no free port on 127.0.0.1", hint="end some programs that listen on it")


def _rpc(url: str, method: str, *parameters: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(parameters)}
    try:
        answer = httpx.post(url, json=body, timeout=10.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError) as error:
        raise ChainUnavailableError(f"the chain at {url} does not answer: {error}") from None
    if "result" not in answer:
        raise ChainUnavailableError(f"the chain at {url} refused {method}: {answer.get('error')}")
    return answer["result"]


def _answers(url: str) -> bool:
    try:
        return bool(_rpc(url, "eth_chainId") == hex(CHAIN_ID))
    except ChainUnavailableError:
        return False


def _is_market(url: str) -> bool:
    try:
        with MarketClient(url) as client:
            return bool(client.info().address)
    except SuanliError:
        return False


def _give_gas(chain: Chain, url: str, address: str) -> None:
    if chain.balance_wei(address) < GAS_LOW:
        _rpc(url, "anvil_setBalance", address, hex(GAS_FULL))
