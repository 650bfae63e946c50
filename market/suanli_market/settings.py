"""What an operator sets, checked once at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from suanli_protocol.errors import ConfigurationError

DEVNET_CHAIN_IDS = (31337, 1337)
WINDOW_DEVNET_S, WINDOW_S = 10, 600  # least windows; a claim needs some blocks, and its answer as well
FINALIZED = -1  # confirmations: only the chain's `finalized` block counts


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one market process."""

    chain_url: str
    escrow: str
    keystore: Path
    password_file: Path
    data: Path
    host: str = "127.0.0.1"
    port: int = 8402
    name: str = "market"
    fee_bps: int = 50
    min_fee: int | None = None  # None: 0 on a devnet; elsewhere it must be said
    min_window: int | None = None  # None: by the chain, see `min_window_on`
    round_ms: int = 500
    confirmations: int | None = None  # None: 0 on a devnet, else FINALIZED
    start_block: int = 0
    poll_ms: int = 100
    rate_per_key: int = 500  # requests a second; 0: no limit
    rate_per_address: int = 500
    relay_gib: int = 50  # sealed data of all leases
    reserve_mib: int = 512  # of the disk, kept free for the database

    def confirmations_on(self, chain_id: int) -> int:
        """How many blocks a fact must be old; FINALIZED for the chain's own word."""
        if self.confirmations is not None:
            return self.confirmations
        return 0 if chain_id in DEVNET_CHAIN_IDS else FINALIZED

    def min_fee_on(self, chain_id: int) -> int:
        """The least fee of a lease in base units; ConfigurationError if it makes no sense, or is not said off a devnet.

        A lease costs the market gas whatever its price: what that is worth depends on chain and token.
        """
        if self.min_fee is None and chain_id not in DEVNET_CHAIN_IDS:
            raise ConfigurationError(
                f"the least fee of a lease is not set, and chain {chain_id} is no devnet: the market pays gas for each",
                hint="--min-fee BASE_UNITS, worth the gas of an open and a settle; 0 if you want to pay it yourself",
            )
        if self.min_fee and not self.fee_bps:
            raise ConfigurationError(
                f"no lease brings the least fee of {self.min_fee} base units: the fee's rate is 0", hint="--fee-bps"
            )
        return self.min_fee or 0

    def min_window_on(self, chain_id: int) -> int:
        """The least window of a paper in seconds: with blocks of some seconds a short one leaves no time to answer."""
        if self.min_window is not None:
            return self.min_window
        return WINDOW_DEVNET_S if chain_id in DEVNET_CHAIN_IDS else WINDOW_S
