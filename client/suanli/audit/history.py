"""Reading an escrow's history and state from any chain endpoint: facts for the audit, nothing judged here."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from suanli.audit.calls import read_call
from suanli.audit.facts import (
    History,
    Holding,
    SettleCall,
    Snapshot,
    Transaction,
    Unreadable,
    addresses_of,
)
from suanli.deployments import first_block
from suanli_protocol.chain import Block, Chain, Log
from suanli_protocol.errors import ChainError, ConfigurationError, ProtocolError
from suanli_protocol.escrow import Escrow
from suanli_protocol.events import Cancelled, EscrowEvent, decode_event
from suanli_protocol.lease import seat_key
from suanli_protocol.openings import Openings
from suanli_protocol.signing import address_bytes, checksum_address


def read_history(chain: Chain, address: str, memory: Path | None = None) -> History:
    """All that the escrow did up to the newest block; ConfigurationError if there is no escrow there.

    `memory` is the file of `deployments.first_block`.
    """
    if not chain.has_code(address):
        raise ConfigurationError(
            f"there is no escrow at {address} on {chain.url}",
            hint="check --escrow and --chain; a devnet that was reset has lost it",
            code="no_escrow",
        )
    escrow, newest = Escrow(chain, checksum_address(address_bytes(address))), chain.block("latest")
    first = first_block(escrow, memory)
    logs = [log for log in chain.logs(escrow.address, first, newest.number) if log.block <= newest.number]
    blocks: dict[int, Block] = {newest.number: newest}
    transactions = tuple(
        _transaction(chain, escrow.address, hash_, list(group), blocks)
        for hash_, group in groupby(logs, key=lambda log: log.transaction)
    )
    token = escrow.token
    return History(escrow.domain, token.symbol, token.decimals, newest.number, newest.hash, transactions)


def read_snapshot(chain: Chain, history: History) -> Snapshot:
    """What the escrow shows at the history's block; ChainError if the chain was reorganised meanwhile."""
    escrow, block = Escrow(chain, history.domain.escrow), history.block
    holdings = {
        address: Holding(escrow.account(address, block=block), escrow.owner_of(address, block=block))
        for address in sorted(addresses_of(history))
    }
    seats = {key: escrow.seat(key, block=block) for key in _seats(history)}
    balance = escrow.token.balance_of(escrow.address, block=block)
    if chain.block(block).hash != history.block_hash:
        raise ChainError("the chain was reorganised during the audit", hint="run it again", code="reorganised")
    return Snapshot(holdings, seats, balance)


def _seats(history: History) -> set[bytes]:
    keys: set[bytes] = set()
    for transaction in history.transactions:
        match transaction.call:
            case Openings(openings=openings):
                keys |= {
                    seat_key(opening.bid.seat, opening.bid.consumer, fill.index)
                    for opening in openings
                    for fill in opening.fills
                }
            case SettleCall(settlements=settlements):
                keys |= {settlement.lease.seat_key for settlement in settlements}
            case _:
                keys |= {
                    seat_key(event.seat, event.consumer, event.index)
                    for event in transaction.events
                    if isinstance(event, Cancelled)
                }
    return keys


def _transaction(chain: Chain, escrow: str, hash_: bytes, logs: list[Log], blocks: dict[int, Block]) -> Transaction:
    sent, number = chain.transaction(hash_), logs[0].block
    if number not in blocks:
        blocks[number] = chain.block(number)
    block = blocks[number]
    return Transaction(
        hash=hash_,
        block=sent.block if sent.block is not None else -1,
        block_hash=block.hash,
        timestamp=block.timestamp,
        sender=sent.sender,
        call=read_call(escrow, sent.to, sent.data),
        events=tuple(map(_event, logs)),
    )


def _event(log: Log) -> EscrowEvent:
    try:
        event, why = decode_event(log), "a log that the escrow does not declare"
    except (ProtocolError, ValueError) as error:
        event, why = None, str(error)
    return event or Unreadable(log.block, log.block_hash, log.transaction, log.log_index, why)
