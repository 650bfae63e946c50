"""Pinning: what the market must find on the chain before it serves, and where it goes on from."""

from __future__ import annotations

import secrets

from suanli_market.chain.indexer import reset_error
from suanli_market.settings import Settings
from suanli_market.store import Store
from suanli_market.tables import CursorRow
from suanli_protocol import wire
from suanli_protocol.errors import ConfigurationError, FundsError
from suanli_protocol.escrow import Chain, Escrow
from suanli_protocol.pinning import check_escrow_code

GAS_WEI_MIN = 10**15


def check_escrow(chain: Chain, escrow: Escrow) -> None:
    """ConfigurationError unless the code at the address is this version's escrow."""
    check_escrow_code(chain, escrow.address)


def check_gas_money(chain: Chain, address: str) -> None:
    """FundsError if the market's key cannot pay for its transactions."""
    held = chain.balance_wei(address)
    if held < GAS_WEI_MIN:
        raise FundsError(
            f"the market's account {address} holds {held} wei, which pays for no transaction",
            hint="send it the chain's native coin (on a devnet: anvil_setBalance)",
        )


def pin(store: Store, chain: Chain, settings: Settings, market: str) -> None:
    """Starts the cursor, or checks that it is about the same chain, escrow and market.

    ChainResetError if the chain is another than the database's; ConfigurationError if the escrow or the key is.
    """
    genesis = chain.block(0)
    with store.write() as session:
        cursor = session.get(CursorRow, 1)
        if cursor is None:
            first = genesis if settings.start_block == 0 else chain.block(settings.start_block)
            session.add(
                CursorRow(
                    chain_id=chain.chain_id(),
                    escrow=settings.escrow,
                    market=market,
                    genesis=wire.to_hex(genesis.hash),
                    block=first.number,
                    block_hash=wire.to_hex(first.hash),
                    history=secrets.token_hex(16),
                )
            )
            return
    if cursor.genesis != wire.to_hex(genesis.hash) or cursor.chain_id != chain.chain_id():
        raise reset_error(f"the chain at {chain.url} is not the one that {store.path} is about (another genesis)")
    for name, kept, given in (("escrow", cursor.escrow, settings.escrow), ("market key", cursor.market, market)):
        if kept != given:
            raise ConfigurationError(
                f"{store.path} is about the {name} {kept}, not {given}", hint="name another --data folder"
            )
