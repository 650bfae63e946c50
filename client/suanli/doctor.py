"""The health of the whole way, from the key to the market: each finding with its fix."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from suanli.client import Client
from suanli.files import data_home, shorten_home
from suanli_protocol import wire
from suanli_protocol.errors import SuanliError
from suanli_protocol.units import format_bytes, format_money

State = Literal["ok", "warning", "failed", "skipped"]
DISK_LEAST_BYTES = 1024**3
SKEW_S = 5


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` is what to do, empty where all is well."""

    name: str
    state: State
    text: str
    fix: str = ""


Check = Callable[[Client], Finding]


def examine(client: Client) -> Iterator[Finding]:
    """All findings, in the order of the way; a check that needs a failed one is skipped."""
    failed: set[str] = set()
    for name, needs, check in CHECKS:
        if broken := needs & failed:
            failed.add(name)
            yield Finding(name, "skipped", f"needs {' and '.join(sorted(broken))}")
            continue
        finding = _guarded(name, check, client)
        if finding.state == "failed":
            failed.add(name)
        yield finding


def _guarded(name: str, check: Check, client: Client) -> Finding:
    try:
        return check(client)
    except SuanliError as error:
        return Finding(name, "failed", error.detail, _fix(error))
    except OSError as error:
        return Finding(name, "failed", str(error))


def _settings(client: Client) -> Finding:
    for name in ("market", "chain", "escrow", "keystore"):
        client.config.require(name)
    return Finding("settings", "ok", "market, chain, escrow and keystore are set")


def _keystore(client: Client) -> Finding:
    from suanli import keys

    path = keys.keystore_path(client.config)
    return Finding("keystore", "ok", f"{shorten_home(path)} holds {keys.address(client.config)}")


def _password(client: Client) -> Finding:
    if not client.config.get("password_file"):
        fix = "set password_file for unattended use (a file with mode 0600)"
        return Finding("password", "warning", "no password file: you are asked each time", fix)
    address = client.signer.address
    if address != client.address:
        return Finding("password", "failed", f"the keystore states {client.address}, its key is {address}'s")
    return Finding("password", "ok", "the password file unlocks the key")


def _chain(client: Client) -> Finding:
    chain = client.network.chain
    block = chain.block("latest")
    kind = " (a devnet)" if client.network.is_devnet else ""
    return Finding("chain", "ok", f"{chain.url}: chain {chain.chain_id()}{kind}, block {block.number}")


def _genesis(client: Client) -> Finding:
    before = client.network.remember()
    if before is not None:
        fix = "fund your account again: suanli wallet fund 5"
        return Finding("genesis", "warning", "this devnet was reset since the last time", fix)
    return Finding("genesis", "ok", f"{wire.to_hex(client.network.chain.genesis())[:18]}…, as it was last time")


def _escrow(client: Client) -> Finding:
    network = client.network
    address = network.escrow.address
    if not network.chain.has_code(address):
        fix = "`suanli config show --origin` says where the address comes from"
        return Finding("escrow", "failed", f"there is no contract at {address}", fix)
    digest = wire.to_hex(network.chain.code_hash(address))
    token = network.escrow.token
    return Finding("escrow", "ok", f"{address}, code {digest[:18]}…, token {token.symbol}")


def _market(client: Client) -> Finding:
    info = client.network.info
    text = f"{info.name} at {client.network.market.url}, {info.address}, fee {info.fee_bps / 100:g} %"
    return Finding("market", "ok", text)


def _domain(client: Client) -> Finding:
    client.network.pin()
    return Finding("domain", "ok", "market and chain agree on chain, genesis, escrow, code and token")


def _clock(client: Client) -> Finding:
    now = time.time()
    to_market = client.network.market.info().time / 1000 - now
    to_chain = max(0.0, client.network.chain.block("latest").timestamp - now)  # an idle devnet's block may be old
    worst = max(abs(to_market), to_chain)
    if worst > SKEW_S:
        return Finding("clock", "failed", f"{worst:.0f} s off", "set the clock (timedatectl set-ntp true)")
    return Finding("clock", "ok", f"{worst:.1f} s off the market's or the chain's")


def _funds(client: Client) -> Finding:
    escrow = client.network.escrow
    account, token = escrow.account(client.address), escrow.token
    gas = client.network.chain.balance_wei(client.address)
    text = f"{format_money(account.free, token.decimals)} {token.symbol} free"
    if account.free == 0:
        return Finding("funds", "warning", text, "suanli wallet fund 5")
    if gas == 0:
        fix = "suanli wallet fund 1" if client.network.is_devnet else "send the chain's own coin to your key"
        return Finding("funds", "warning", f"{text}, but no coin for gas: a lease could not be stopped", fix)
    return Finding("funds", "ok", text)


def _offers(client: Client) -> Finding:
    count = client.network.market.offer_page(limit=1).total
    if not count:
        return Finding("offers", "warning", "the market has no open offer", "wait for a provider")
    return Finding("offers", "ok", f"{count} open")


def _disk(client: Client) -> Finding:  # noqa: ARG001
    folder = data_home()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    state: State = "ok" if free >= DISK_LEAST_BYTES else "failed"
    fix = "" if state == "ok" else "free some space: bundles, logs and outputs are kept there"
    return Finding("disk", state, f"{format_bytes(free)} free in {shorten_home(Path(folder))}", fix)


CHECKS: tuple[tuple[str, set[str], Check], ...] = (
    ("settings", set(), _settings),
    ("keystore", set(), _keystore),
    ("password", {"keystore"}, _password),
    ("chain", set(), _chain),
    ("escrow", {"chain"}, _escrow),
    ("genesis", {"chain", "escrow"}, _genesis),
    ("market", set(), _market),
    ("domain", {"chain", "escrow", "market"}, _domain),
    ("clock", {"chain", "market"}, _clock),
    ("funds", {"keystore", "escrow", "chain"}, _funds),
    ("offers", {"market"}, _offers),
    ("disk", set(), _disk),
)


def to_json(findings: list[Finding]) -> list[dict[str, Any]]:
    """The report for programs."""
    return [{"check": item.name, "state": item.state, "detail": item.text, "fix": item.fix} for item in findings]


def _fix(error: SuanliError) -> str:
    """The error's hint, unless that sends here."""
    if "`suanli doctor`" not in error.hint:
        return error.hint
    return "is it running, and is its address right? a demo's is started again by `suanli demo up`"
