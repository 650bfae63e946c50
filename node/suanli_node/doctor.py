"""The doctor: looks at everything that a node needs, one line each, with the fix for what is missing."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from suanli_node.clocks import chain_skew_s, check_skew, market_skew_s
from suanli_node.engine.environment import PackageIndex
from suanli_node.engine.executor import Executor, HostCapacity
from suanli_node.engine.namespace import StateFolder as EngineFolder
from suanli_node.identity import ChainFacts, identify
from suanli_node.sandbox.bubblewrap import Bubblewrap
from suanli_node.sandbox.selftest import selftest
from suanli_node.settings import Settings, StateFolder
from suanli_node.shutdown import ended_by_signals
from suanli_node.supply.inventory import take_inventory
from suanli_node.unlocking import unlock
from suanli_protocol import keystore
from suanli_protocol.chain import Chain
from suanli_protocol.errors import ConfigurationError, SuanliError
from suanli_protocol.escrow import Escrow
from suanli_protocol.finding_lines import finding_lines, screen_cells
from suanli_protocol.market_client import MarketClient
from suanli_protocol.units import format_mib, format_money

DISK_MIB_MIN = 2048
ENGINE_MEMORY_MIB = 1024
_LIMITS = {"cpu": "CPU time", "memory": "memory", "pids": "processes"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return asdict(self)


def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order of the way that a job takes."""
    return list(_findings(settings))


def render_findings(findings: list[Finding]) -> str:
    """A line each, and the fix below; folded to the terminal if there is one."""
    lines: list[str] = []
    for finding in findings:
        mark, fix = ("ok", "") if finding.ok else ("FAIL", finding.hint)
        lines += finding_lines(mark, finding.name, finding.detail, fix, cells=screen_cells())
    return "\n".join(lines)


def _findings(settings: Settings) -> Iterator[Finding]:
    yield _look("sandbox", _bubblewrap)
    yield _look("disk", lambda: _disk(settings.state))
    yield _look("index", lambda: _index(settings))
    yield _look("key", lambda: _key(settings))
    with Chain(settings.chain) as chain:
        yield _look("chain", lambda: f"chain {chain.chain_id()}, block {chain.block().number} at {chain.url}")
        yield _look("escrow", lambda: _escrow(chain, settings))
        yield _look("market", lambda: _market(chain, settings))
        yield _look("clock", lambda: _clock(chain, settings))
        yield _look("funds", lambda: _funds(chain, settings))
    facts: dict[str, Any] = {}
    yield _look("engine", lambda: _engine(settings, facts))
    if facts:
        yield _look("limits", lambda: limits_in_words(facts.get("limits", ())))


def _look(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except SuanliError as error:
        return Finding(name, False, error.detail, error.hint)
    except (ImportError, OSError) as error:
        return Finding(name, False, str(error), "install the extra: pip install 'suanli[node]'")


def _bubblewrap() -> str:
    Bubblewrap().require()
    return "bubblewrap and its call filter are here"


def _disk(state: Path) -> str:
    free = take_inventory(state).disk_mib
    if free < DISK_MIB_MIN:
        raise ConfigurationError(
            f"{format_mib(free)} are free at {state}", hint=f"make room, at least {format_mib(DISK_MIB_MIN)}"
        )
    return f"{format_mib(free)} free at {state}"


def _index(settings: Settings) -> str:
    index = PackageIndex.parse(settings.index, settings.index_certificates)
    return "environments are prepared" if index else "none set: jobs get no Python packages (--index)"


def _key(settings: Settings) -> str:
    """By the same ways as `up`, in the same order; a person is asked by `up` alone."""
    is_named, is_handed_over = settings.password_file is not None, keystore.system_credential() is not None
    if not is_named and not is_handed_over and sys.stdin.isatty():
        return f"{keystore.address(settings.keystore)}; its password will be asked for"
    signer = unlock(settings.keystore, settings.password_file)
    return f"{signer.address} can be unlocked{'' if is_named else ' by the credential of the service manager'}"


def _escrow(chain: Chain, settings: Settings) -> str:
    facts = ChainFacts.read(chain, settings.escrow)
    return f"{settings.escrow}, settles in {Escrow(chain, settings.escrow).token.symbol}, genesis {facts.genesis[:18]}…"


def _market(chain: Chain, settings: Settings) -> str:
    with MarketClient(settings.market) as market:
        info = market.info()
        identify(info, ChainFacts.read(chain, settings.escrow), settings.escrow, keystore.address(settings.keystore))
        return f"{info.name} ({info.address}), fee {info.fee_bps / 100:g} %"


def _clock(chain: Chain, settings: Settings) -> str:
    """Against market and chain, by the windows that this market lets through."""
    with MarketClient(settings.market) as market:
        skew = market_skew_s(lambda: market.info().time)
        window = market.info().min_window
    check_skew(skew, window, "the market's")
    check_skew(chain_skew_s(chain), window, "the chain's newest block")
    return f"within {abs(skew):.1f} s of the market's, not behind the chain's"


def _funds(chain: Chain, settings: Settings) -> str:
    escrow, account = Escrow(chain, settings.escrow), keystore.address(settings.keystore)
    free, held = escrow.account(account).free, escrow.token.balance_of(account)
    money = [format_money(amount, escrow.token.decimals) for amount in (free, held)]
    if not free and not held:
        raise ConfigurationError(
            f"{account} has no {escrow.token.symbol}, so no bond can be locked",
            hint=f"send it {escrow.token.symbol} (a devnet: suanli wallet fund) and a little coin for gas",
        )
    if not free and not chain.balance_wei(account):
        raise ConfigurationError(f"{account} has no coin for the gas of a deposit", hint="send it some")
    return f"{money[0]} {escrow.token.symbol} free for bonds, {money[1]} in the wallet"


def _engine(settings: Settings, facts: dict[str, Any]) -> str:
    """Through the node's own engine if it runs, else through one that lives only for this check. Fills in its facts."""
    state = StateFolder(settings.state.resolve())
    running = Executor(EngineFolder(state.executor)) if state.selftest.exists() else None
    if running is not None and running.host_lives():
        facts |= running.health()
        return "the engine runs; its sandbox was tested when it started"
    with ended_by_signals(), tempfile.TemporaryDirectory(prefix="suanli-doctor-") as folder:
        try:
            executor = Executor.start_or_attach(Path(folder), HostCapacity(1000, ENGINE_MEMORY_MIB))
            facts |= executor.health()
            held = selftest(executor, settings.secrets, say=lambda _: None)
        finally:
            Executor(EngineFolder(Path(folder))).shutdown()
    return f"Ray starts; the sandbox holds all canaries: {', '.join(held)}"


def limits_in_words(controllers: Sequence[str]) -> str:
    """Which limits of a run the kernel enforces, by these controllers of its control groups, and which are polled."""
    by_kernel = [words for name, words in _LIMITS.items() if name in controllers]
    polled = [words for name, words in _LIMITS.items() if name not in controllers and name != "cpu"]
    said = [f"by the kernel: {', '.join(by_kernel) or 'per process only'}"]
    if polled:
        said.append(f"polled ten times a second: {', '.join(polled)}")
    if "cpu" not in controllers:
        said.append(
            "CPU time is not limited: a small lease can use every core, and the offer does not name the canary cpu"
        )
    return "; ".join(said)
