"""Startup: from settings to a serving node. Everything is wired here, once.

The engine is brought up first, on its own thread and by a process that never sees the key; what market and chain say is
checked meanwhile.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Generic, TypeVar

from suanli_node.background import Background
from suanli_node.clocks import chain_skew_s, check_skew, market_skew_s
from suanli_node.connections import Connections
from suanli_node.control import Mode, read_mode
from suanli_node.daemon import Daemon
from suanli_node.engine.environment import EnvironmentStore, PackageIndex, empty_name
from suanli_node.engine.namespace import StateFolder as EngineFolder
from suanli_node.engine.runs import write_json
from suanli_node.engine_keeper import Engine, bring_up_engine, keep_engine
from suanli_node.identity import ChainFacts, Identity, identify, pin, remembered
from suanli_node.leases.census import Census
from suanli_node.leases.closer import Closer
from suanli_node.leases.desk import LeaseDesk
from suanli_node.leases.ending import ending_of
from suanli_node.leases.hands import Hands
from suanli_node.leases.ledger import Ledger
from suanli_node.leases.services import Services
from suanli_node.leases.workshop import Workshop
from suanli_node.outbox import Outbox, OutboxEscrow
from suanli_node.retry import Halted, persist
from suanli_node.settings import Settings, StateFolder
from suanli_node.shutdown import process_record
from suanli_node.supply.funds import fund_bonds
from suanli_node.supply.inventory import Inventory, limited, take_inventory
from suanli_node.supply.offers import Terms
from suanli_node.supply.publisher import Publisher
from suanli_node.supply.purse import Purse
from suanli_node.unlocking import unlock
from suanli_node.upkeep import FREE_MIB_MIN, drop_drafts, drop_old, free_mib, trim_environments
from suanli_protocol import wire
from suanli_protocol.capacity import Lanes
from suanli_protocol.chain import Chain
from suanli_protocol.devnet import DEVNET_CHAIN_IDS
from suanli_protocol.documents import Attributes, hex32
from suanli_protocol.errors import ConfigurationError, SuanliError, UnreachableError
from suanli_protocol.escrow import Escrow
from suanli_protocol.market_client import MarketClient
from suanli_protocol.signing import Signer
from suanli_protocol.units import format_money

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
        write_json(state.process, {**process_record(), "startedAt": int(time.time()), "name": settings.name})
        try:
            _serve(settings, state, halt)
        except Halted:
            log.info("ended before the node was ready")
        finally:
            state.process.unlink(missing_ok=True)


def _serve(settings: Settings, state: StateFolder, halt: threading.Event) -> None:
    inventory = limited(
        take_inventory(state.path, EngineFolder(state.executor).runs),
        cpus_milli=settings.wanted.cpu_milli,
        memory_mib=settings.wanted.memory_mib,
        disk_mib=settings.wanted.disk_mib,
        accelerators=settings.wanted.accelerators,
    )
    index = PackageIndex.parse(settings.index, settings.index_certificates)
    engine_up = Later(lambda: bring_up_engine(settings, state, inventory))
    signer = unlock(settings.keystore, settings.password_file)
    with Chain(settings.chain) as chain, MarketClient(settings.market, signer=signer) as market:
        outbox = Outbox(chain, signer, state.outbox, state.gas)
        escrow = OutboxEscrow(chain, settings.escrow, outbox)
        has_sold, purse = state.identity.exists(), Purse(state.purse)
        acquaintance = Acquaintance(settings, state, chain, signer)
        identity = persist(acquaintance.made, halt, "meeting the market")
        terms = persist(lambda: terms_of(settings, escrow), halt, "reading the token")
        engine = engine_up.result(halt)
        executor, capacity = engine.executor, engine.capacity(inventory)

        def prepare() -> None:
            acquaintance.renew()
            fund(escrow, signer, capacity, terms, purse)

        attributes = describe(settings, inventory, signer, engine, environments=index is not None)
        publisher = Publisher(
            signer, identity.domain, market, lambda: escrow.account(signer.address).counter,
            capacity=capacity, terms=terms, attributes=attributes, valid_s=settings.offer_valid_s, ledger=state.offers,
            prepare=prepare,
        )  # fmt: skip
        publisher.sell(read_mode(state) is Mode.SELLING)
        offer = first_offer(publisher, prepare, halt, has_sold=has_sold)
        environments = EnvironmentStore(EngineFolder(state.executor).environments, index)
        workshop = Workshop(executor, environments, blob_bytes_max=Connections.read(state).blob_bytes_max)
        reports = Background(1, "reports")
        ledger = Ledger(escrow, signer, identity.trusted_block)

        least_window = settings.least_window(is_devnet=identity.chain_id in DEVNET_CHAIN_IDS)
        counter = counter_of(settings, state, identity, signer, escrow, least_window)

        census = Census(escrow, signer.address, state.census, lookback_s=settings.max_seconds + settings.max_window)
        newest = ledger.latest if identity.trusted_block != "latest" else None

        def services(desk: LeaseDesk) -> Services:
            return Services(
                signer=signer, domain=identity.domain, market=market, direct=counter.relay if counter else None,
                read_seat=ledger.read_seat, read_history=ledger.read_history,
                runner=executor, workshop=workshop, receipts=state.receipts, reports=reports,
                census=census, stand_newest=newest, is_void=ledger.is_void,
                endings=state.endings, ending=lambda record, history: ending_of(record, history, chain),
                on_end=desk.ended, on_trouble=desk.wanted.set, least_window=least_window,
            )  # fmt: skip

        desk = LeaseDesk(state, capacity, services)
        closer = Closer(desk.services, ledger, desk.look_at)

        def upkeep() -> None:
            keep_up(settings, state, desk)
            if counter is not None:
                counter.trim({run.record.view.id for run in desk.runs()}, state.endings)
            acquaintance.check_clocks()

        with MarketClient(settings.market, signer=signer) as stream:
            daemon = Daemon(
                identity, state, stream, desk, publisher, halt,
                genesis=lambda: hex32(chain.genesis()),
                keep_engine=lambda: keep_engine(settings, state, inventory, executor),
                closer=closer, hands=Hands(closer, ledger, desk.runs, purse), upkeep=upkeep,
            )  # fmt: skip
            direct = ""
            if counter is not None:
                direct = counter.open(
                    settings.listen, desk.handle, lambda: publisher.selling, capacity, terms, attributes,
                    valid_s=settings.offer_valid_s,
                )  # fmt: skip
            announce(identity, settings, capacity, attributes, offer, direct)
            try:
                daemon.run()
            finally:
                if counter is not None:
                    counter.close()


class Acquaintance:
    """Market and chain as this node knows them, and looks at again."""

    def __init__(self, settings: Settings, state: StateFolder, chain: Chain, signer: Signer) -> None:
        self._settings, self._state, self._chain, self._signer = settings, state, chain, signer
        self._window = 0  # the shortest that the market takes, once it is known

    def made(self) -> Identity:
        """Whom this node deals with. A market that it met before may be away: leases go on without it."""
        try:
            return self.renew()
        except UnreachableError as error:
            if not self._state.identity.exists():
                raise
            log.warning("%s; leases go on, and nothing is sold until it is back", error.detail)
            known = remembered(self._state.identity)
            facts = ChainFacts.read(self._chain, self._settings.escrow)
            escrow = wire.read_address(self._settings.escrow)
            now = Identity(facts.chain_id, facts.genesis, escrow, facts.code_hash, known.market, self._signer.address)
            pin(self._state.identity, now)
            return now

    def renew(self) -> Identity:
        """Ask the market anew; ConfigurationError if it, the chain or the clocks are not as they must be."""
        with MarketClient(self._settings.market) as market:
            skew = market_skew_s(lambda: market.info().time)  # its first request: made while the clock is compared
            info = market.info()
        identity = identify(
            info, ChainFacts.read(self._chain, self._settings.escrow), self._settings.escrow, self._signer.address
        )
        pin(self._state.identity, identity)
        Connections.of(self._settings, info).write(self._state)
        self._window = info.min_window
        check_skew(skew, info.min_window, f"the market's ({info.name})")
        check_skew(chain_skew_s(self._chain), info.min_window, "the chain's newest block")
        return identity

    def check_clocks(self) -> None:
        """The same for the clocks alone; a market that is away says nothing of ours."""
        if not self._window:
            return
        check_skew(chain_skew_s(self._chain), self._window, "the chain's newest block")
        with MarketClient(self._settings.market) as market:
            check_skew(market_skew_s(lambda: market.info().time), self._window, "the market's")


def first_offer(publisher: Publisher, prepare: Callable[[], None], halt: threading.Event, *, has_sold: bool) -> bytes:
    """The id of the first offer; empty if nothing is to be sold, or cannot be yet by a node that may have leases."""
    if not publisher.selling:
        log.info("nothing is sold; `suanli-node resume` sells again")
        return b""
    if not has_sold:
        persist(prepare, halt, "funding the bond")
        return persist(publisher.publish, halt, "publishing the offer").id
    try:
        prepare()
        return publisher.publish().id
    except SuanliError as error:
        if isinstance(error, ConfigurationError):
            raise
        log.warning("nothing is sold yet: %s %s", error.detail, error.hint)
        return b""


def keep_up(settings: Settings, state: StateFolder, desk: LeaseDesk) -> None:
    """Bound what leases leave; ConfigurationError if the disk has no room for new ones."""
    environments = EngineFolder(state.executor).environments
    needed = [run.record.spec.environment for run in desk.runs() if run.record.spec is not None]
    trim_environments(environments, settings.cache_mib, [empty_name(), *needed])
    drop_drafts(environments)
    drop_old((state.receipts, state.endings), settings.keep_days)
    free = free_mib(state.path)
    if free < FREE_MIB_MIN:
        raise ConfigurationError(
            f"{free} MiB are free at {state.path}, {FREE_MIB_MIN} are wanted",
            hint="make room on that disk",
            code="disk",
        )


def counter_of(
    settings: Settings, state: StateFolder, identity: Identity, signer: Signer, escrow: Escrow, least_window: int
) -> Counter | None:
    """The counter for deals without a market, if the operator wants one; else its web server is not even loaded."""
    if not settings.listen:
        return None
    from suanli_node.direct.counter import Counter

    return Counter(state.direct, settings.name, identity, signer, escrow, least_window)


def terms_of(settings: Settings, escrow: Escrow) -> Terms:
    """The operator's terms in the units of the escrow's token."""
    return Terms(
        prices=settings.prices.in_units(escrow.token.decimals),
        min_seconds=settings.min_seconds,
        max_seconds=settings.max_seconds,
        bond_bps=settings.bond_bps,
        max_window=settings.max_window,
        arbiter=wire.read_address(settings.arbiter, name="--arbiter"),
    )


def fund(escrow: OutboxEscrow, signer: Signer, capacity: Lanes, terms: Terms, purse: Purse) -> None:
    """Deposit what the bonds need, as far as the wallet goes."""
    with escrow.outbox.alone(), escrow.purpose("deposit"):
        funding = fund_bonds(escrow, signer, capacity, terms, purse)
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
    engine: Engine,
    *,
    environments: bool,
) -> Attributes:
    """What the offer says of this machine."""
    return Attributes(
        name=settings.name,
        encryption_key=hex32(signer.encryption_public),
        region=settings.region,
        arch=inventory.arch,
        os=inventory.os,
        cpu_model=inventory.cpu_model,
        pythons=(inventory.python,),
        environments=environments,
        sandbox=engine.facts["sandbox"],
        contained=engine.held,
        accelerators=tuple(accelerator.label for accelerator in inventory.accelerators),
        software=f"suanli-node {metadata.version('suanli')}, ray {engine.facts['ray']}",
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
        "offer": hex32(offer) if offer else "",
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
