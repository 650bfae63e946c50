"""The market and the chain that this client is set to, pinned against each other before anything is signed.

Both are asked who they are; chain id, genesis, escrow, code and token, with its symbol and decimals, must be the same
on both sides, and the chain the same as last time on this machine. A devnet that was reset is told as such, never as
nonsense further on.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from suanli.config import Config
from suanli.files import data_home, write_json
from suanli_protocol import wire
from suanli_protocol.errors import ChainError, ConfigurationError, IntegrityError, SuanliError, UsageError
from suanli_protocol.market_client import MarketClient
from suanli_protocol.pinning import check_escrow_code
from suanli_protocol.signing import Domain, Signer
from suanli_protocol.units import format_duration

if TYPE_CHECKING:
    from suanli_protocol.escrow import Chain, Escrow

DEVNETS = frozenset({1337, 31337})
WINDOW_S = 3600
DEVNET_WINDOW_S = 10
WINDOW_MIN_S = 600  # off a devnet: less leaves no time to object
WINDOW_MAX_S = 30 * 86_400
AWAY_S = 15.0  # so long a market or chain that is away is waited for at a command's start
PAUSE_S = 0.5
DECIMALS_MAX = 36  # of a token; more make no amount that a person could read
MEMORY_FILE = "networks.json"


class Network:
    """Lazy connections of one invocation. `signer` is set once the key is unlocked."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.signer: Signer | None = None
        self._public: MarketClient | None = None
        self._private: MarketClient | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the connections to the market."""
        for client in (self._public, self._private):
            if client is not None:
                client.close()

    # The market

    @property
    def market(self) -> MarketClient:
        """The market, with the key if it is unlocked."""
        url = self.config.require("market")
        with self._lock:
            if self.signer is not None:
                self._private = self._private or MarketClient(url, signer=self.signer)
                return self._private
            self._public = self._public or MarketClient(url)
            return self._public

    @property
    def info(self) -> wire.MarketInfo:
        """What the market says of itself, checked against the configured escrow."""
        info = self.market.info()
        wanted = self.config.get("escrow")
        if wanted and info.escrow.lower() != wanted.lower():
            raise wrong_network(f"the market works with the escrow {info.escrow}, you are set to {wanted}")
        if not 0 <= info.decimals <= DECIMALS_MAX:
            raise IntegrityError(f"the market's token has {info.decimals} decimals", hint="use another market")
        return info

    # The chain

    @cached_property
    def chain(self) -> Chain:
        """The own endpoint of the chain."""
        from suanli_protocol.escrow import Chain

        return Chain(self.config.require("chain"))

    @cached_property
    def escrow(self) -> Escrow:
        """The escrow by the own endpoint; ConfigurationError if there is no contract at its address."""
        from suanli_protocol.escrow import Escrow

        address = self.config.require("escrow")
        return Escrow(self.chain, wire.read_address(address, name="escrow"))

    @property
    def domain(self) -> Domain:
        """The domain that papers are signed under, by the own endpoint and configuration alone."""
        return self.escrow.domain

    @property
    def is_devnet(self) -> bool:
        """Whether the chain is a devnet, by its id."""
        return self.chain.chain_id() in DEVNETS

    def pin(self) -> wire.MarketInfo:
        """The market's info, once market and chain agree on everything; ConfigurationError `wrong_network` if not.

        ConfigurationError `wrong_escrow` if they agree on a contract that is not this version's escrow.
        """
        info, chain, token = self.info, self.chain, self.escrow.token
        pairs = (
            ("chain id", info.chain_id, chain.chain_id()),
            ("genesis", info.genesis, wire.to_hex(chain.genesis())),
            ("escrow", info.escrow.lower(), self.escrow.address.lower()),
            ("escrow's code", info.code_hash, wire.to_hex(check_escrow_code(chain, self.escrow.address))),
            ("token", info.token.lower(), token.address.lower()),
            ("token's decimals", info.decimals, token.decimals),
            ("token's symbol", info.symbol, token.symbol),
        )
        for name, told, found in pairs:
            if told != found:
                raise wrong_network(f"{name}: the market says {told}, your chain endpoint {found}")
        return info

    def pin_patiently(self, say: Callable[[str], None], *, within_s: float | None = None) -> wire.MarketInfo:
        """The same, waiting AWAY_S (or `within_s`, if that is less) for a market or chain that is away; says so once.

        Then the error of the last try: UnreachableError, ChainUnavailableError.
        """
        patience_s = AWAY_S if within_s is None else min(AWAY_S, within_s)
        ends, is_said = time.monotonic() + patience_s, False
        while True:
            try:
                return self.pin()
            except SuanliError as error:
                if not error.retryable or time.monotonic() >= ends:
                    raise
                if not is_said:
                    say(f"{error.detail}; waiting for it, {format_duration(max(1, round(patience_s)))} at most")
                is_said = True
            time.sleep(min(PAUSE_S, max(0.0, ends - time.monotonic())))

    def check_clock(self, window: int) -> None:
        """ConfigurationError if this machine's clock and the chain's or market's are a tenth of the window apart."""
        now = time.time()
        apart = max(self.chain.block("latest").timestamp - now, abs(self.market.clock() - time.time()))
        if apart > max(2, window / 10):
            raise ConfigurationError(
                f"this machine's clock is {apart:.0f} s off the chain or market, more than a tenth of the window",
                hint="set the clock (timedatectl set-ntp true)",
                code="clock",
            )

    # What was seen last time

    def remember(self) -> str | None:
        """Notes the chain's genesis; the earlier one if a devnet was reset since, ConfigurationError off a devnet."""
        path = data_home() / MEMORY_FILE
        try:
            known = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            known = {}
        key, genesis = f"{self.chain.chain_id()}:{self.escrow.address.lower()}", wire.to_hex(self.chain.genesis())
        before = known.get(key)
        if before == genesis:
            return None
        if before is not None and not self.is_devnet:
            raise wrong_network(f"genesis: it was {before} last time, now it is {genesis}")
        write_json(path, {**known, key: genesis})
        return before if isinstance(before, str) else None

    def check_genesis(self, genesis: str) -> None:
        """ChainError `chain_reset` if a job's chain is gone."""
        found = wire.to_hex(self.chain.genesis())
        if genesis and genesis != found:
            raise ChainError(
                "this job was on a devnet that was reset since: its leases and money are gone with it",
                hint="run the job again; `suanli show` still has its papers",
                code="chain_reset",
            )


def wrong_network(detail: str) -> ConfigurationError:
    """The error that market, chain and configuration do not belong together."""
    return ConfigurationError(
        detail, hint="`suanli config show --origin` says where each setting comes from", code="wrong_network"
    )


def window_of(info: wire.MarketInfo, *, is_devnet: bool, wanted: int | None = None) -> int:
    """The window W for a bid, in seconds: what is wanted, else the default or what the market asks for.

    UsageError if less is wanted than the market (or node) takes, ConfigurationError under ten minutes off a devnet,
    IntegrityError if it is absurd.
    """
    least, default = info.min_window, DEVNET_WINDOW_S if is_devnet else WINDOW_S
    if wanted is not None and wanted < least:
        short, needed = format_duration(wanted), format_duration(least)
        raise UsageError(
            f"a window of {short} is under the {needed} that {info.name} takes at least",
            hint=f"--window {least}s",
            code="window",
        )
    window = wanted if wanted is not None else max(default, least)
    if window < WINDOW_MIN_S and not is_devnet:
        raise ConfigurationError(
            f"a window of {format_duration(window)} leaves no time to object: it is refused off a devnet",
            hint=f"--window {WINDOW_MIN_S // 60}m, or longer",
            code="window",
        )
    if window > WINDOW_MAX_S and wanted is not None:
        raise UsageError(
            f"a window of {format_duration(window)} is longer than any offer allows", hint="--window 1h", code="window"
        )
    if window > WINDOW_MAX_S:
        raise IntegrityError(f"the market asks for a window of {window} s", hint="use another market")
    return window
