"""What was called, from a transaction's bytes: hostile calldata becomes papers, or the reason why it has none. Pure."""

from __future__ import annotations

from typing import Any

from suanli.audit.facts import (
    AccountCall,
    Call,
    CancelCall,
    ClaimCall,
    DisputeCall,
    FinalizeCall,
    Indirect,
    LinkCall,
    ReclaimCall,
    ReleaseCall,
    ResolveCall,
    SentSettlement,
    SettleCall,
    StopCall,
    WayOutCall,
)
from suanli_protocol.contract_abi import contract_abi
from suanli_protocol.errors import ProtocolError
from suanli_protocol.lease import Clauses, Lease, same_address
from suanli_protocol.messages import Link
from suanli_protocol.openings import decode_open, read_struct
from suanli_protocol.signing import address_bytes, checksum_address

ABI = "LeaseEscrow"
_WAYS_OUT: dict[str, type[WayOutCall]] = {
    "stop": StopCall,
    "release": ReleaseCall,
    "claim": ClaimCall,
    "dispute": DisputeCall,
    "resolve": ResolveCall,
    "finalize": FinalizeCall,
    "reclaim": ReclaimCall,
}


def read_call(escrow: str, to: str, data: bytes) -> Call:
    """The call of a transaction to `to`; `Indirect`, with the reason, where there are no papers to read."""
    if not same_address(to, escrow):
        return Indirect(f"the transaction calls {to or 'a new contract'}, not the escrow")
    abi = contract_abi(ABI)
    name = next((name for name, selector in abi.selectors.items() if data[:4] == selector), "")
    try:
        return _decoded(name, data)
    except (ProtocolError, ValueError) as error:
        return Indirect(f"its calldata cannot be read: {error}")


def _decoded(name: str, data: bytes) -> Call:
    if name == "open":
        return decode_open(data)
    if name == "":
        return Indirect("its calldata names no function of the escrow")
    values = contract_abi(ABI).decode(name, data)
    if name in _WAYS_OUT:
        return _way_out(_WAYS_OUT[name], *values)
    match name:
        case "settle":
            return SettleCall(tuple(_settlement(*settlement) for settlement in values[0]))
        case "link":
            account, owner, signature = values
            return LinkCall(read_struct(Link, (account, owner)), b"".join(signature))
        case "cancel":
            consumer, seat, index, previous = values
            return CancelCall(checksum_address(address_bytes(consumer)), seat, index, previous)
        case _:
            return AccountCall(name)


def _way_out(kind: type[WayOutCall], lease: Any, clauses: Any, progress: int, *rest: Any) -> WayOutCall:
    """A call with the lease's terms; a signature comes as its two halves."""
    plain: list[Any] = [b"".join(value) if isinstance(value, tuple | list) else value for value in rest]
    return kind(read_struct(Lease, lease), read_struct(Clauses, clauses), progress, *plain)


def _settlement(
    lease: Any, progress: int, amount: int, kind: int, evidence: bytes, provider: Any, consumer: Any
) -> SentSettlement:
    terms = read_struct(Lease, lease)
    return SentSettlement(terms, progress, amount, kind, evidence, b"".join(provider), b"".join(consumer))
