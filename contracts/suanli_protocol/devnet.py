"""What only a development chain (Anvil, Hardhat) lets one do."""

from __future__ import annotations

from suanli_protocol.chain import Chain
from suanli_protocol.errors import ChainError, ChainRevertedError, ChainUnavailableError

DEVNET_CHAIN_IDS = (31337, 1337)


def is_devnet(chain: Chain) -> bool:
    """Whether the chain's id is one of a development chain."""
    return chain.chain_id() in DEVNET_CHAIN_IDS


def set_balance(chain: Chain, address: str, wei: int) -> None:
    """Gives an address native coin for gas; ChainError if this is no development chain."""
    _call(chain, "setBalance", address, hex(wei))


def mine(chain: Chain, blocks: int = 1) -> None:
    """Mines empty blocks."""
    _call(chain, "mine", hex(blocks))


def _call(chain: Chain, method: str, *params: object) -> None:
    try:
        chain.rpc(f"anvil_{method}", *params)
    except (ChainUnavailableError, ChainRevertedError):
        raise
    except ChainError:
        chain.rpc(f"hardhat_{method}", *params)
