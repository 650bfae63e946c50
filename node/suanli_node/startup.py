"""Startup: from settings to a serving node. Everything is wired here, once.

The engine is brought up first, on its own thread and by a process that never sees the key; what market and chain say is
checked meanwhile.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from suanli_node.background import Background
from suanli_node.daemon import Daemon
from suanli_node.engine.environment import EnvironmentStore, PackageIndex
from suanli_node.engine.executor import Executor, HostCapacity
from suanli_node.engine.namespace import StateFolder as EngineFolder
from suanli_node.engine.runs import write_json
from suanli_node.identity import ChainFacts, Identity, identify, pin
from suanli_node.leases.desk import LeaseDesk
from suanli_node.leases.services import Services
from suanli_node.leases.workshop import Workshop
from suanli_node.retry import Halted, persist
from suanli_node.sandbox.selftest import selftest
from suanli_node.settings import Settings, StateFolder
from suanli_node.supply.funds import fund_bonds
from suanli_node.supply.inventory import Inventory, limited, take_inventory
from suanli_node.supply.offers import Terms
from suanli_node.supply.publisher import Publisher
from suanli_protocol import keystore
from suanli_protocol.capacity import Lanes
from suanli_protocol.chain import Chain
from suanli_protocol.documents import Attributes, hex32
from suanli_protocol.errors import SuanliError, UnusableKeyError
from suanli_protocol.escrow import Escrow
from suanli_protocol.market_client import MarketClient
from suanli_protocol.signing import Signer
from suanli_protocol.units import format_money

CLOCK_SKEW_MS = 30_000
if TYPE_CHECKING:
    from suanli_node.direct.counter import Counter

T = TypeVar("T")
log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Run a node until SIGTERM or SIGINT."""
    state = StateFolder(settings.state.resolve())
    state.create()
    halt = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: halt.set())
    with state.locked():
        write_json(state.process, {"pid": _pid(), "startedAt": int(time.time()), "name": settings.name})
        try:
            _serve(settings, state, halt)
        except Halted:
            log.info("ended before the node was ready")
        finally:
            state.process.unlink(missing_ok=True)


def _serve(settings: Settings, state: StateFolder, halt: threading.Event) -> None:
    inventory = limited(
        take_inventory(state.path),
        cpus_milli=settings.wanted.cpu_milli,
        memory_mib=settings.wanted.memory_mib,
        disk_mib=settings.wanted.disk_mib,
    )
    index = PackageIndex.parse(settings.index, settings.index_certificates)
    engine = Later(lambda: bring_up_engine(settings, state, inventory))
    signer = unlock(settings.keystore, settings.password_file)
    with Chain(settings.chain) as chain, MarketClient(settings.market, signer=signer) as market:
        escrow = Escrow(chain, settings.escrow)
        identity = persist(lambda: meet(market, chain, settings.escrow, signer), halt, "meeting the market")
        pin(state.identity, identity)
        terms = persist(lambda: terms_of(settings, escrow), halt, "reading the token")
        capacity = Lanes(inventory.cpus_milli, inventory.memory_mib, 0, inventory.disk_mib)
        persist(lambda: fund(escrow, signer, capacity, terms), halt, "funding the bond")
        executor, held = engine.result(halt)
        attributes = describe(settings, inventory, signer, executor, held, environments=index is not None)
        publisher = Publisher(
            signer, identity.domain, market, lambda: escrow.account(signer.address).counter,
            capacity=capacity, terms=terms, attributes=attributes, valid_s=settings.offer_valid_s, ledger=state.offers,
            prepare=lambda: fund(escrow, signer, capacity, terms),
        )  # fmt: skip
        offer = persist(publisher.publish, halt, "publishing the offer")
        environments = EnvironmentStore(EngineFolder(state.executor).environments, index)
        workshop = Workshop(executor, environments, blob_bytes_max=market.info().blob_bytes_max)
        reports = Background(1, "reports")

        counter = counter_of(settings, state, identity, signer, escrow)

        def services(desk: LeaseDesk) -> Services:
            return Services(
                signer=signer, domain=identity.domain, market=market, direct=counter.relay if counter else None,
                read_seat=lambda key: escrow.seat(key, block=identity.trusted_block),
                runner=executor, workshop=workshop, receipts=state.receipts, reports=reports,
                on_end=desk.ended, on_trouble=desk.wanted.set,
            )  # fmt: skip

        desk = LeaseDesk(state, capacity, services)
        with MarketClient(settings.market, signer=signer) as stream:
            daemon = Daemon(
                identity, state, stream, desk, publisher, halt,
                genesis=lambda: hex32(chain.genesis()),
                keep_engine=lambda: keep_engine(executor, settings, state, inventory),
            )  # fmt: skip
            direct = ""
            if counter is not None:
                direct = counter.open(
                    settings.listen, desk.handle, lambda: publisher.selling, capacity, terms, attributes,
                    valid_s=settings.offer_valid_s,
                )  # fmt: skip
            announce(identity, settings, capacity, attributes, offer.id, direct)
            try:
                daemon.run()
            finally:
                if counter is not None:
                    counter.close()


def counter_of(
    settings: Settings, state: StateFolder, identity: Identity, signer: Signer, escrow: Escrow
) -> Counter | None:
    """The counter for deals without a market, if the operator wants one; else its web server is not even loaded."""
    if not settings.listen:
        return None
    from suanli_node.direct.counter import Counter

    return Counter(state.direct, settings.name, identity, signer, escrow)


def unlock(path: Path, password_file: Path | None) -> Signer:
    """The node's key. Its password comes from a 0600 file, or from a person at a terminal."""
    if password_file is not None:
        return keystore.load(path, keystore.read_password(password_file))
    if not sys.stdin.isatty():
        raise UnusableKeyError(
            f"{path} is locked and there is no terminal to ask for its password",
            hint="name a file of mode 0600 by --password-file (SUANLI_PASSWORD_FILE)",
        )
    import click

    return keystore.load(path, click.prompt(f"Password of {path}", hide_input=True, err=True))


def bring_up_engine(settings: Settings, state: StateFolder, inventory: Inventory) -> tuple[Executor, tuple[str, ...]]:
    """The executor, and the names of the canaries that its sandbox held."""
    hidden = tuple(path.resolve() for path in (settings.keystore, settings.password_file) if path is not None)
    host = HostCapacity(inventory.cpus_milli, inventory.memory_mib)
    executor = Executor.start_or_attach(state.executor, host, mask=hidden)
    return executor, tested(executor, state, hidden)


def tested(executor: Executor, state: StateFolder, hidden: tuple[Path, ...]) -> tuple[str, ...]:
    """The result of the self-test, which is made once for each engine: a busy one has no room for canaries."""
    engine = json.loads(EngineFolder(state.executor).process.read_bytes())
    if state.selftest.exists():
        known = json.loads(state.selftest.read_bytes())
        if known["engine"] == engine:
            return tuple(known["held"])
    held = selftest(executor, hidden, say=log.debug)
    write_json(state.selftest, {"engine": engine, "held": list(held)})
    return held


def keep_engine(executor: Executor, settings: Settings, state: StateFolder, inventory: Inventory) -> None:
    """Bring the engine up again if it has ended; its runs are lost, and are reported so."""
    if not executor.host_lives():
        log.error("the engine has ended and is started again")
        bring_up_engine(settings, state, inventory)


def meet(market: MarketClient, chain: Chain, escrow: str, signer: Signer) -> Identity:
    """Whom this node deals with, once market and chain agree on it."""
    info = market.info()
    skew = info.time - time.time_ns() // 1_000_000
    if abs(skew) > CLOCK_SKEW_MS:
        log.warning("the clocks of this node and of the market differ by %.0f s", skew / 1000)
    return identify(info, ChainFacts.read(chain, escrow), escrow, signer.address)


def terms_of(settings: Settings, escrow: Escrow) -> Terms:
    """The operator's terms in the units of the escrow's token."""
    return Terms(
        prices=settings.prices.in_units(escrow.token.decimals),
        min_seconds=settings.min_seconds,
        max_seconds=settings.max_seconds,
        bond_bps=settings.bond_bps,
        max_window=settings.max_window,
    )


def fund(escrow: Escrow, signer: Signer, capacity: Lanes, terms: Terms) -> None:
    """Deposit what the bonds need, as far as the wallet goes."""
    funding = fund_bonds(escrow, signer, capacity, terms)
    decimals, symbol = escrow.token.decimals, escrow.token.symbol
    if funding.deposited:
        log.info("deposited %s %s for bonds", format_money(funding.deposited, decimals), symbol)
    if not funding.enough:
        free, needed = (format_money(amount, decimals) for amount in (funding.free, funding.needed))
        log.warning("%s %s are free for bonds; all capacity for the longest time would need %s", free, symbol, needed)


def describe(
    settings: Settings,
    inventory: Inventory,
    signer: Signer,
    executor: Executor,
    held: tuple[str, ...],
    *,
    environments: bool,
) -> Attributes:
    """What the offer says of this machine."""
    facts = executor.health()
    return Attributes(
        name=settings.name,
        encryption_key=hex32(signer.encryption_public),
        region=settings.region,
        arch=inventory.arch,
        os=inventory.os,
        cpu_model=inventory.cpu_model,
        pythons=(inventory.python,),
        environments=environments,
        sandbox=facts["sandbox"],
        contained=held,
        software=f"suanli-node {metadata.version('suanli')}, ray {facts['ray']}",
    )


def announce(
    identity: Identity, settings: Settings, capacity: Lanes, attributes: Attributes, offer: bytes, direct: str
) -> None:
    """The one line on stdout that says that the node serves."""
    facts = {
        "name": settings.name,
        "address": identity.account,
        "market": identity.market,
        "escrow": identity.escrow,
        "chainId": identity.chain_id,
        "capacity": asdict(capacity),
        "sandbox": attributes.sandbox,
        "contained": list(attributes.contained),
        "offer": hex32(offer),
        "direct": direct,
        "state": str(settings.state),
        "pid": _pid(),
    }
    print(f"ready {json.dumps(facts)}", flush=True)


@dataclass
class Outcome(Generic[T]):
    """A result or an error."""

    value: T | None = None
    error: BaseException | None = None


class Later(Generic[T]):
    """A result that is made on its own thread from now on."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._outcome: Outcome[T] | None = None
        self._thread = threading.Thread(target=self._make, args=(make,), name="engine", daemon=True)
        self._thread.start()

    def result(self, halt: threading.Event) -> T:
        """The result once it is there; its error if there was one; Halted if `halt` is set before."""
        while self._thread.is_alive():
            if halt.is_set():
                raise Halted("waiting for the engine")
            self._thread.join(0.1)
        outcome = self._outcome
        if outcome is None or outcome.value is None:
            raise outcome.error if outcome and outcome.error else SuanliError("the engine gave no answer")
        return outcome.value

    def _make(self, make: Callable[[], T]) -> None:
        try:
            self._outcome = Outcome(value=make())
        except BaseException as error:
            self._outcome = Outcome(error=error)


def _pid() -> int:
    import os

    return os.getpid()
