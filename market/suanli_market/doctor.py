"""`suanli-market doctor`: each thing that a market needs, looked at one by one, with the fix for what is broken.

Nothing is changed: the database is opened for reading, and no transaction is sent.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from suanli_market.chain.pinning import check_gas_money
from suanli_market.health import Finding
from suanli_market.settings import DEVNET_CHAIN_IDS, Settings
from suanli_market.store import FILE, Store
from suanli_market.tables import CursorRow
from suanli_protocol import wire
from suanli_protocol.chain import Chain
from suanli_protocol.errors import ChainUnavailableError, ConfigurationError, SuanliError
from suanli_protocol.keystore import load, read_password
from suanli_protocol.pinning import check_escrow_code

CHAIN_TIMEOUT_S = 5.0
SKEW_S_MAX = 60
STALE_S_MAX = 600
FREE_BYTES_MIN = 2 * 2**30


@dataclass
class Doctor:
    """The looks at one market's settings, in the order in which one depends on another."""

    settings: Settings
    chain: Chain = field(init=False)
    address: str = ""  # of the key, once it is unlocked

    def __post_init__(self) -> None:
        self.chain = Chain(self.settings.chain_url, timeout_s=CHAIN_TIMEOUT_S)

    def findings(self) -> Iterator[Finding]:
        """What is found; later looks go on where earlier ones failed."""
        looks: tuple[tuple[str, Callable[[], str]], ...] = (
            ("key", self._key),
            ("chain", self._chain),
            ("clock", self._clock),
            ("escrow", self._escrow),
            ("gas", self._gas),
            ("disk", self._disk),
            ("database", self._database),
        )
        with self.chain:
            for name, look in looks:
                yield _look(name, look)

    def _key(self) -> str:
        signer = load(self.settings.keystore, read_password(self.settings.password_file))
        self.address = signer.address
        return f"{self.settings.keystore} holds {signer.address}"

    def _chain(self) -> str:
        return f"chain {self.chain.chain_id()} at {self.chain.url}, block {self.chain.block().number}"

    def _clock(self) -> str:
        """Against the newest block: its time is bounded by the clocks of those who make blocks."""
        ahead = self.chain.block().timestamp - int(time.time())
        devnet = self.chain.chain_id() in DEVNET_CHAIN_IDS
        if ahead > SKEW_S_MAX:
            raise ConfigurationError(
                f"the newest block is {ahead} s ahead of this machine's clock",
                hint="set the clock (timedatectl set-ntp true)",
            )
        if -ahead > STALE_S_MAX and not devnet:
            raise ConfigurationError(
                f"the newest block is {-ahead} s old: the endpoint lags, or this machine's clock is ahead",
                hint="name another --chain, or set the clock (timedatectl set-ntp true)",
            )
        return "a devnet makes blocks when it is asked to" if devnet and -ahead > SKEW_S_MAX else "as the chain's"

    def _escrow(self) -> str:
        digest = check_escrow_code(self.chain, self.settings.escrow)
        return f"{self.settings.escrow} is this version's (code hash {wire.to_hex(digest)})"

    def _gas(self) -> str:
        if not self.address:
            raise ConfigurationError("the key is not unlocked, so its balance is not known", hint="mend the key first")
        check_gas_money(self.chain, self.address)
        return f"{self.address} holds {self.chain.balance_wei(self.address)} wei"

    def _disk(self) -> str:
        folder = self.settings.data
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if free < FREE_BYTES_MIN:
            raise ConfigurationError(
                f"{free // 2**20} MiB are free at {folder}, {FREE_BYTES_MIN // 2**20} are wanted",
                hint="make room, or name a --data folder on another disk",
            )
        return f"{free // 2**30} GiB are free at {folder}"

    def _database(self) -> str:
        path = self.settings.data / FILE
        if not path.exists():
            return f"{path} does not exist yet; `suanli-market serve` makes it"
        store = Store.existing(self.settings.data)
        try:
            revision = store.require_readable()
            with store.read() as session:
                broken = session.connection().execute(text("PRAGMA quick_check(1)")).scalar_one()
                cursor = session.get(CursorRow, 1)
        finally:
            store.close()
        if broken != "ok":
            raise ConfigurationError(f"{path} is damaged: {broken}", hint="restore a backup (docs/operations.md)")
        if cursor is not None:
            self._same_market(path, cursor)
        return f"{path} is whole, at revision {revision}"

    def _same_market(self, path: Path, cursor: CursorRow) -> None:
        for name, kept, given in (
            ("escrow", cursor.escrow, self.settings.escrow),
            ("key", cursor.market, self.address or cursor.market),
            ("genesis", cursor.genesis, self._genesis() or cursor.genesis),
        ):
            if kept != given:
                raise ConfigurationError(
                    f"{path} is about the {name} {kept}, not {given}", hint="name another --data folder"
                )

    def _genesis(self) -> str:
        try:
            return wire.to_hex(self.chain.genesis())
        except ChainUnavailableError:
            return ""  # the chain's own line says so


def _look(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, look())
    except SuanliError as error:
        return Finding(name, False, error.detail, error.hint)
    except OSError as error:
        return Finding(name, False, str(error), "see who owns the file, and that its disk is there")
