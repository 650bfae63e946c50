"""Reading an escrow's history and state from any chain endpoint: facts for the audit, nothing judged here."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from suanli.audit.facts import (
    AccountCall,
    Call,
    Claim,
    History,
    Holding,
    Indirect,
    LinkCall,
    ReleaseCall,
    SettleCall,
    Snapshot,
    StopCall,
    Transaction,
    Unreadable,
    addresses_of,
)
from suanli_protocol.chain import Block, Chain, Log
from suanli_protocol.chain import Transaction as Sent
from suanli_protocol.contract_abi import contract_abi
from suanli_protocol.errors import ChainError, ConfigurationError, ProtocolError
from suanli_protocol.escrow import Escrow
from suanli_protocol.events import Cancelled, EscrowEvent, decode_event
from suanli_protocol.lease import Clauses, Lease, same_address, seat_key
from suanli_protocol.messages import Link
from suanli_protocol.openings import Openings, decode_open, read_struct
from suanli_protocol.signing import address_bytes, checksum_address

ABI = "LeaseEscrow"


def read_history(chain: Chain, address: str, *, first: int = 0) -> History:
    """All that the escrow did from block `first` to the newest; ConfigurationError if there is no escrow there."""
    if not chain.has_code(address):
        raise ConfigurationError(
            f"there is no escrow at {address} on {chain.url}",
            hint="check --escrow and --chain; a devnet that was reset has lost it",
            code="no_escrow",
        )
    escrow, newest = Escrow(chain, checksum_address(address_bytes(address))), chain.block("latest")
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
            case SettleCall(claims=claims):
                keys |= {claim.lease.seat_key for claim in claims}
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
        call=_call(escrow, sent),
        events=tuple(map(_event, logs)),
    )


def _event(log: Log) -> EscrowEvent:
    try:
        event, why = decode_event(log), "a log that the escrow does not declare"
    except (ProtocolError, ValueError) as error:
        event, why = None, str(error)
    return event or Unreadable(log.block, log.block_hash, log.transaction, log.log_index, why)


def _call(escrow: str, sent: Sent) -> Call:
    """What was called; hostile bytes become `Indirect` with the reason."""
    if not same_address(sent.to, escrow):
        return Indirect(f"the transaction calls {sent.to or 'a new contract'}, not the escrow")
    abi = contract_abi(ABI)
    name = next((name for name, selector in abi.selectors.items() if sent.data[:4] == selector), "")
    try:
        return _decoded(name, sent.data)
    except (ProtocolError, ValueError) as error:
        return Indirect(f"its calldata cannot be read: {error}")


def _decoded(name: str, data: bytes) -> Call:
    if name == "open":
        return decode_open(data)
    if name == "":
        return Indirect("its calldata names no function of the escrow")
    values = contract_abi(ABI).decode(name, data)
    match name:
        case "settle":
            return SettleCall(tuple(_claims(values[0])))
        case "stop" | "release":
            terms = (read_struct(Lease, values[0]), read_struct(Clauses, values[1]), values[2])
            return StopCall(*terms) if name == "stop" else ReleaseCall(*terms)
        case "link":
            account, owner, signature = values
            return LinkCall(read_struct(Link, (account, owner)), b"".join(signature))
        case _:
            return AccountCall(name)


def _claims(settlements: Iterable[tuple[Any, ...]]) -> Iterable[Claim]:
    for lease, progress, amount, kind, evidence, provider, consumer in settlements:
        terms = read_struct(Lease, lease)
        yield Claim(terms, progress, amount, kind, evidence, b"".join(provider), b"".join(consumer))
