"""Pinning: what the market must find on the chain before it serves, and where it goes on from."""

from __future__ import annotations

from suanli_market.chain.indexer import reset_error
from suanli_market.settings import Settings
from suanli_market.store import Store
from suanli_market.tables import CursorRow
from suanli_protocol import wire
from suanli_protocol.abi import artifact
from suanli_protocol.errors import ConfigurationError, FundsError, NotFoundError
from suanli_protocol.escrow import Chain, Escrow

_PUSH32 = b"\x7f"
_HOLE = bytes(32)  # where the compiler leaves room for an immutable
GAS_WEI_MIN = 10**15


def check_escrow(chain: Chain, escrow: Escrow) -> None:
    """ConfigurationError unless the code at the address is this version's escrow."""
    answer = chain.rpc("eth_getCode", escrow.address, "latest")
    code = bytes.fromhex(str(answer).removeprefix("0x"))
    if not code:
        raise ConfigurationError(
            f"there is no contract at {escrow.address} on the chain at {chain.url}",
            hint="check --escrow and --chain; a devnet that was reset has lost it",
        )
    if not is_code_of(code, bytes.fromhex(artifact("LeaseEscrow")["deployedBytecode"].removeprefix("0x"))):
        raise ConfigurationError(
            f"the contract at {escrow.address} is not the escrow of this version",
            hint="name the escrow that this version deployed, or install the version that fits it",
        )


def is_code_of(code: bytes, compiled: bytes) -> bool:
    """Whether runtime code is the compiled one with its immutables filled in."""
    if len(code) != len(compiled):
        return False
    filled, at = bytearray(compiled), 0
    while (at := compiled.find(_PUSH32 + _HOLE, at)) >= 0:
        filled[at + 1 : at + 33] = code[at + 1 : at + 33]
        at += 33
    return bytes(filled) == code


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
                )
            )
            return
    if cursor.genesis != wire.to_hex(genesis.hash) or cursor.chain_id != chain.chain_id():
        raise reset_error(f"the chain at {chain.url} is not the one that {store.path} is about (another genesis)")
    try:
        same = wire.to_hex(chain.block(cursor.block).hash) == cursor.block_hash
    except NotFoundError:
        same = False
    if not same:
        raise reset_error(f"the chain at {chain.url} lacks block {cursor.block}, which {store.path} has seen")
    for name, kept, given in (("escrow", cursor.escrow, settings.escrow), ("market key", cursor.market, market)):
        if kept != given:
            raise ConfigurationError(
                f"{store.path} is about the {name} {kept}, not {given}", hint="name another --data folder"
            )
