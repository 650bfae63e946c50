"""Settings of a node: what the operator chose, and where the node keeps its state."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from suanli_protocol import keystore
from suanli_protocol.capacity import Prices
from suanli_protocol.errors import ConfigurationError, UsageError
from suanli_protocol.messages import ZERO_ADDRESS
from suanli_protocol.units import parse_cores, parse_mib, parse_money

OFFER_VALID_S = 600
BOND_BPS = 1000
CACHE_MIB = 32 * 1024  # of prepared environments
KEEP_DAYS = 400  # receipts and what became of them
WINDOW_LEAST_S, WINDOW_LEAST_DEVNET_S = 600, 10  # what clients ask for at least
WINDOW_MIN_S = 5  # below this no claim could be relied on: the closer looks once a second, a block takes its time
ADDRESS = re.compile(r"^0x[0-9a-fA-F]{40}$")
NAME = re.compile(r"^[^\x00-\x1f\x7f]{1,200}$")
REGION = re.compile(r"^([A-Z]{2}(-[A-Z0-9]{1,3})?)?$")


@dataclass(frozen=True)
class PriceList:
    """Prices per hour as the operator writes them: decimal text in the token's currency."""

    core: str = "0.03"
    memory_gib: str = "0.005"
    disk_gib: str = "0.0001"
    accelerator: str = "0.50"

    def in_units(self, decimals: int) -> Prices:
        """The prices in base units; UsageError if one is no amount or finer than the token."""
        return Prices(
            core=parse_money(self.core, decimals, name="--price-core"),
            memory_gib=parse_money(self.memory_gib, decimals, name="--price-memory"),
            disk_gib=parse_money(self.disk_gib, decimals, name="--price-disk"),
            accelerator=parse_money(self.accelerator, decimals, name="--price-accelerator"),
        )


@dataclass(frozen=True)
class Wanted:
    """The part of the machine that is for sale; None: what the inventory finds."""

    cpu_milli: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    accelerators: int | None = None


@dataclass(frozen=True)
class Settings:
    """Everything that the operator chose. Durations in seconds, bond in basis points of the price."""

    market: str
    chain: str
    escrow: str
    keystore: Path
    state: Path
    name: str
    password_file: Path | None = None
    region: str = ""
    wanted: Wanted = Wanted()
    prices: PriceList = PriceList()
    index: str = ""  # where environments get their packages: a URL, a folder of wheels, "default"; empty: none are made
    index_certificates: Path | None = None
    listen: str = ""  # HOST:PORT for deals without a market; empty: the node listens on nothing
    offer_valid_s: int = OFFER_VALID_S
    min_seconds: int = 1
    max_seconds: int = 86_400
    max_window: int = 86_400
    min_window: int | None = None  # None: by the chain, see `least_window`
    bond_bps: int = BOND_BPS
    arbiter: str = ZERO_ADDRESS  # who judges disputes of this node's leases; zero: nobody, a claim stands
    cache_mib: int = CACHE_MIB
    keep_days: int = KEEP_DAYS

    def least_window(self, *, is_devnet: bool) -> int:
        """Seconds; a lease under a shorter window is not run: its consumer could fall silent and outwait the claim."""
        if self.min_window is not None:
            return self.min_window
        return min(self.max_window, WINDOW_LEAST_DEVNET_S if is_devnet else WINDOW_LEAST_S)

    @property
    def secrets(self) -> tuple[Path, ...]:
        """Files that no job may see."""
        found = (self.keystore, self.password_file, keystore.system_credential())
        return tuple(path.resolve() for path in found if path is not None)


def read_settings(given: dict[str, Any]) -> Settings:
    """Settings from a command's options; UsageError names the one that makes no sense."""
    wanted = Wanted(
        cpu_milli=parse_cores(given["cpus"], name="--cpus") if given.get("cpus") else None,
        memory_mib=parse_mib(given["memory"], name="--memory") if given.get("memory") else None,
        disk_mib=parse_mib(given["disk"], name="--disk") if given.get("disk") else None,
        accelerators=given.get("accelerators"),
    )
    names = {
        "core": "price_core",
        "memory_gib": "price_memory",
        "disk_gib": "price_disk",
        "accelerator": "price_accelerator",
    }
    prices = PriceList(**{field: given[name] for field, name in names.items() if name in given})
    plain = {field.name for field in fields(Settings)} - {"wanted", "prices", "cache_mib"}
    if given.get("cache"):
        given = {**given, "cache_mib": parse_mib(given["cache"], name="--cache")}
        plain |= {"cache_mib"}
    settings = Settings(**{name: given[name] for name in plain if name in given}, wanted=wanted, prices=prices)
    if not NAME.match(settings.name):
        raise UsageError(f"--name: {settings.name!r:.80} is no name", hint="write up to 200 printable characters")
    if not ADDRESS.match(settings.escrow):
        raise UsageError(f"--escrow: {settings.escrow!r} is not an address", hint="write 0x and 40 hex digits")
    if not ADDRESS.match(settings.arbiter):
        raise UsageError(f"--arbiter: {settings.arbiter!r} is not an address", hint="write 0x and 40 hex digits")
    if settings.min_window is not None and not WINDOW_MIN_S <= settings.min_window <= settings.max_window:
        raise UsageError(
            f"--min-window {settings.min_window}: it lies between {WINDOW_MIN_S} and --max-window",
            hint="with blocks of 12 s, ten minutes leave room for a claim",
        )
    if not REGION.match(settings.region):
        raise UsageError(f"--region: {settings.region!r} is no region", hint="write an ISO 3166-2 code such as CN-GD")
    return settings


@dataclass(frozen=True)
class StateFolder:
    """Where a node keeps what must outlive it; closed to other users."""

    path: Path

    def create(self) -> None:
        """Make the folders; ConfigurationError if they cannot be made."""
        try:
            for part in (self.path, self.leases, self.receipts, self.endings, self.requests):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"--state {self.path}: {error.strerror}", hint="name a folder that this user may write"
            ) from error

    @property
    def identity(self) -> Path:
        """Which chain, escrow, market and account this state belongs to."""
        return self.path / "identity.json"

    @property
    def control(self) -> Path:
        """Whether the operator wants the node to sell."""
        return self.path / "control.json"

    @property
    def connections(self) -> Path:
        """Where chain, market and key are, for commands beside the daemon."""
        return self.path / "connections.json"

    @property
    def cursor(self) -> Path:
        """The last event of the market that was handled."""
        return self.path / "events.json"

    @property
    def process(self) -> Path:
        """Which process serves this state, for `status`."""
        return self.path / "node.json"

    @property
    def offers(self) -> Path:
        """Which offers may stand on the book."""
        return self.path / "offers.json"

    @property
    def selftest(self) -> Path:
        """What the sandbox of the present engine held."""
        return self.path / "selftest.json"

    @property
    def leases(self) -> Path:
        """One folder a lease that is not closed."""
        return self.path / "leases"

    @property
    def census(self) -> Path:
        """Up to which block openings of this node's leases were read."""
        return self.path / "census.json"

    @property
    def direct(self) -> Path:
        """What leases that came without a market need kept."""
        return self.path / "direct"

    @property
    def receipts(self) -> Path:
        """Signed receipts with their evidence, kept for `keep_days`."""
        return self.path / "receipts"

    @property
    def endings(self) -> Path:
        """What became of each lease that is closed, as the chain says."""
        return self.path / "endings"

    @property
    def outbox(self) -> Path:
        """The transaction under way."""
        return self.path / "outbox.json"

    @property
    def gas(self) -> Path:
        """One line a transaction that was mined: what for, and what it cost."""
        return self.path / "gas.jsonl"

    @property
    def purse(self) -> Path:
        """What of the wallet was withdrawn, and is not deposited again."""
        return self.path / "purse.json"

    @property
    def requests(self) -> Path:
        """What commands ask of the daemon."""
        return self.path / "requests"

    @property
    def executor(self) -> Path:
        """The executor's own state: runs, environments, the Ray host."""
        return self.path / "executor"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the state for this process alone; ConfigurationError if another has it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise ConfigurationError(
                f"--state {self.path} is in use by another node",
                hint="stop that node first, or name another folder: one account, one node",
            ) from None
        try:
            yield
        finally:
            os.close(descriptor)
