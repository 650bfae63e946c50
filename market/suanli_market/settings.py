"""What an operator sets, checked once at start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEVNET_CHAIN_IDS = (31337, 1337)
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
    min_fee: int = 0
    min_window: int = 10
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
