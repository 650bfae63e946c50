"""What `open` and `settle` take, as Python and as calldata; reading calldata back is how an audit gets the papers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from suanli_protocol.contract_abi import contract_abi
from suanli_protocol.errors import ProtocolError
from suanli_protocol.lease import Clauses, Lease, Previous, Progress, lease_id
from suanli_protocol.messages import Bid, Offer, Receipt, Struct, solidity_fields
from suanli_protocol.signing import address_bytes, checksum_address

__all__ = [
    "CALLDATA_BYTES_MAX",
    "NO_SIGNATURE",
    "Fill",
    "Opening",
    "Openings",
    "Previous",
    "Settlement",
    "decode_open",
    "decode_settle",
    "encode_open",
    "encode_settle",
    "read_struct",
    "struct_values",
    "term_values",
]

S = TypeVar("S", bound=Struct)
NO_SIGNATURE = bytes(64)  # good enough where the signer itself, or its owner, sends the transaction
CALLDATA_BYTES_MAX = 1 << 20
_WORD = 32
_FILL_WORDS = len(solidity_fields(Offer)) + 7  # signature, rate, index, and offset and length of `previous`; its place


@dataclass(frozen=True, slots=True)
class Fill:
    """One offer for a bid, at a rate per hour. `previous` is a Previous, encoded; empty for the first attempt."""

    offer: Offer
    signature: bytes
    rate: int
    index: int = 0
    previous: bytes = b""


@dataclass(frozen=True, slots=True)
class Opening:
    """A bid with its fills."""

    bid: Bid
    signature: bytes
    fills: tuple[Fill, ...]


@dataclass(frozen=True, slots=True)
class Openings:
    """A whole call of `open`: the newest round's hash and the openings."""

    head: bytes
    openings: tuple[Opening, ...]


@dataclass(frozen=True, slots=True)
class Settlement:
    """A receipt with both signatures, and the terms and progress that prove its lease."""

    lease: Lease
    progress: Progress
    amount: int
    kind: int
    evidence: bytes
    provider: bytes
    consumer: bytes

    @property
    def receipt(self) -> Receipt:
        """What both sides signed."""
        return Receipt(lease_id(self.lease), self.amount, self.kind, self.evidence)


def encode_open(head: bytes, openings: Sequence[Opening]) -> bytes:
    """Calldata of `open`."""
    return contract_abi("LeaseEscrow").encode("open", head, [_opening(opening) for opening in openings])


def encode_settle(settlements: Sequence[Settlement]) -> bytes:
    """Calldata of `settle`."""
    return contract_abi("LeaseEscrow").encode("settle", [_settlement(settlement) for settlement in settlements])


def decode_open(calldata: bytes) -> Openings:
    """The openings in hostile calldata; ProtocolError if it is no call of `open`."""
    _refuse_oversize(calldata)
    _refuse_aliases(calldata[4:])
    head, openings = contract_abi("LeaseEscrow").decode("open", calldata)
    return Openings(
        head,
        tuple(
            Opening(
                read_struct(Bid, bid),
                b"".join(signature),
                tuple(
                    Fill(read_struct(Offer, offer), b"".join(proof), rate, index, previous)
                    for offer, proof, rate, index, previous in fills
                ),
            )
            for bid, signature, fills in openings
        ),
    )


def decode_settle(calldata: bytes) -> tuple[Settlement, ...]:
    """The settlements in hostile calldata; ProtocolError if it is no call of `settle`."""
    _refuse_oversize(calldata)
    (settlements,) = contract_abi("LeaseEscrow").decode("settle", calldata)
    return tuple(
        Settlement(
            read_struct(Lease, lease),
            Progress.unpack(progress),
            amount,
            kind,
            evidence,
            b"".join(provider),
            b"".join(consumer),
        )
        for lease, progress, amount, kind, evidence, provider, consumer in settlements
    )


def struct_values(struct: Struct) -> tuple[Any, ...]:
    """A struct as the ABI encoder takes it."""
    return tuple(
        address_bytes(getattr(struct, name)) if solidity == "address" else getattr(struct, name)
        for name, solidity in solidity_fields(type(struct))
    )


def term_values(lease: Lease, clauses: Clauses, progress: Progress) -> tuple[Any, ...]:
    """What every way out but settle takes first."""
    return struct_values(lease), struct_values(clauses), progress.pack()


def read_struct(kind: type[S], values: Sequence[Any]) -> S:
    """A struct from what the ABI decoder gives."""
    typed = zip(solidity_fields(kind), values, strict=True)
    return kind(
        **{
            name: checksum_address(address_bytes(value)) if solidity == "address" else value
            for (name, solidity), value in typed
        }
    )


def _signature(signature: bytes) -> tuple[bytes, bytes]:
    if len(signature) != 64:
        raise ValueError(f"a signature has 64 bytes, not {len(signature)}")
    return signature[:32], signature[32:]


def _opening(opening: Opening) -> tuple[Any, ...]:
    fills = [
        (struct_values(fill.offer), _signature(fill.signature), fill.rate, fill.index, fill.previous)
        for fill in opening.fills
    ]
    return (struct_values(opening.bid), _signature(opening.signature), fills)


def _settlement(settlement: Settlement) -> tuple[Any, ...]:
    return (
        struct_values(settlement.lease),
        settlement.progress.pack(),
        settlement.amount,
        settlement.kind,
        settlement.evidence,
        _signature(settlement.provider),
        _signature(settlement.consumer),
    )


def _refuse_oversize(calldata: bytes) -> None:
    if len(calldata) > CALLDATA_BYTES_MAX:
        raise ProtocolError(f"calldata of {len(calldata)} bytes, at most {CALLDATA_BYTES_MAX} are read")


def _refuse_aliases(data: bytes) -> None:
    """Offsets may point to one place many times, and a few bytes unfold to gigabytes: count before decoding."""
    openings = _offset(data, _WORD)
    count, fills = _number(data, openings), 0
    if count * _WORD > len(data):
        raise ProtocolError("open: more openings than calldata")
    start = openings + _WORD
    bid_words = len(solidity_fields(Bid)) + 2  # with its signature
    for i in range(count):
        opening = start + _offset(data, start + i * _WORD)
        fills += _number(data, opening + _offset(data, opening + bid_words * _WORD))
        if (fills * _FILL_WORDS + (i + 1) * bid_words) * _WORD > len(data):
            raise ProtocolError("open: more fills than calldata")


def _number(data: bytes, at: int) -> int:
    if at + _WORD > len(data):
        raise ProtocolError("open: an offset points past the calldata")
    return int.from_bytes(data[at : at + _WORD], "big")


def _offset(data: bytes, at: int) -> int:
    return _number(data, at)
