"""A command that moves money: by the daemon if one serves the state, else in this process, under the same lock."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from suanli_node.background import Background
from suanli_node.connections import Connections
from suanli_node.engine.environment import EnvironmentStore
from suanli_node.engine.executor import Executor
from suanli_node.engine.namespace import StateFolder as EngineFolder
from suanli_node.identity import ChainFacts, Identity, pin, remembered
from suanli_node.leases.closer import Closer
from suanli_node.leases.ending import ending_of
from suanli_node.leases.hands import Hands
from suanli_node.leases.ledger import Ledger
from suanli_node.leases.record import UnreadableError, stored_leases
from suanli_node.leases.run import LeaseRun
from suanli_node.leases.services import Services
from suanli_node.leases.workshop import Workshop
from suanli_node.outbox import Outbox, OutboxEscrow
from suanli_node.requests import ask
from suanli_node.settings import StateFolder
from suanli_node.shutdown import daemon_pid
from suanli_node.supply.purse import Purse
from suanli_node.unlocking import unlock
from suanli_protocol.chain import Chain
from suanli_protocol.errors import NotFoundError
from suanli_protocol.market_client import MarketClient
from suanli_protocol.signing import Signer


def do(state: StateFolder, request: dict[str, Any]) -> dict[str, Any]:
    """What came of a request; see `hands`."""
    if not state.identity.exists():
        raise NotFoundError(f"{state.path} holds no node's state", hint="name the folder that `up` was given")
    if daemon_pid(state) is not None:
        return ask(state, request)
    with state.locked(), ExitStack() as stack:
        known = Connections.read(state)
        signer = unlock(Path(known.keystore), known.password)
        chain = stack.enter_context(Chain(known.chain))
        market = stack.enter_context(MarketClient(known.market, signer=signer))
        identity = _identity(state, chain, known, signer)
        return _hands(state, chain, market, identity, signer).handle(request)


def _identity(state: StateFolder, chain: Chain, known: Connections, signer: Signer) -> Identity:
    """The one that is pinned, if chain, escrow and key are still those."""
    facts, former = ChainFacts.read(chain, known.escrow), remembered(state.identity)
    found = Identity(facts.chain_id, facts.genesis, former.escrow, facts.code_hash, former.market, signer.address)
    pin(state.identity, found)
    return found


def _hands(state: StateFolder, chain: Chain, market: MarketClient, identity: Identity, signer: Signer) -> Hands:
    escrow = OutboxEscrow(chain, identity.escrow, Outbox(chain, signer, state.outbox, state.gas))
    ledger = Ledger(escrow, signer, identity.trusted_block)
    engine = EngineFolder(state.executor)
    executor = Executor(engine)
    services = Services(
        signer=signer, domain=identity.domain, market=market, read_seat=ledger.read_seat,
        read_history=ledger.read_history, runner=executor,
        workshop=Workshop(executor, EnvironmentStore(engine.environments), blob_bytes_max=0),
        receipts=state.receipts, endings=state.endings,
        ending=lambda record, history: ending_of(record, history, chain), reports=Background(0, "reports"),
        on_end=lambda _: None, on_trouble=lambda: None, is_void=ledger.is_void,
    )  # fmt: skip
    runs = []
    for folder in stored_leases(state.leases):
        with suppress(UnreadableError):
            record = folder.load()
            runs.append(
                LeaseRun(record, record.assignment(signer.address, identity.domain), folder, services)
            )  # never started: the daemon's work
    return Hands(Closer(services, ledger, lambda _: None), ledger, lambda: runs, Purse(state.purse))
