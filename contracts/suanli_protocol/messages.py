"""Every signed message of Suanli, field for field as its EIP-712 type says.

A message's Solidity type stands beside each field; the type string, and the struct hash in `signing`, follow from it.
Papers (Offer, Bid, Receipt, Verdict, Link) are checked by the escrow; the others only off chain, under the same domain.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

ZERO_ADDRESS = "0x" + "00" * 20
ZERO32 = bytes(32)


def to_camel(name: str) -> str:
    """snake_case to camelCase: the one conversion between Python and the wire."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def to_snake(name: str) -> str:
    """camelCase to snake_case."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def typed(solidity: str) -> Any:
    """A dataclass field with its Solidity type beside it."""
    return field(metadata={"solidity": solidity})


def _address() -> Any:
    return typed("address")


def _uint(bits: int) -> Any:
    return typed(f"uint{bits}")


def _bytes32() -> Any:
    return typed("bytes32")


def _string() -> Any:
    return typed("string")


@dataclass(frozen=True, slots=True)
class Struct:
    """A Solidity struct of value types. Addresses are checksummed text, bytes32 are bytes, integers are integers."""


@dataclass(frozen=True, slots=True)
class Message(Struct):
    """A struct that is signed: it has an EIP-712 type."""


_FIELDS: dict[type[Struct], tuple[tuple[str, str], ...]] = {}


def solidity_fields(kind: type[Struct]) -> tuple[tuple[str, str], ...]:
    """(field name in Python, Solidity type) in the order of the struct."""
    found = _FIELDS.get(kind)
    if found is None:
        found = _FIELDS[kind] = tuple((f.name, f.metadata["solidity"]) for f in fields(kind))
    return found


def type_string(kind: type[Message]) -> str:
    """EIP-712 encodeType of a message class, such as "Link(address account,address owner)"."""
    members = ",".join(f"{solidity} {to_camel(name)}" for name, solidity in solidity_fields(kind))
    return f"{kind.__name__}({members})"


@dataclass(frozen=True, slots=True)
class Offer(Message):
    """What a provider sells: one homogeneous pool of capacity (see ILeaseEscrow.sol)."""

    provider: str = _address()
    market: str = _address()
    arbiter: str = _address()
    capacity: int = _uint(128)
    prices: int = _uint(256)
    attributes: bytes = _bytes32()
    traits: int = _uint(64)
    valid_until: int = _uint(40)
    min_seconds: int = _uint(32)
    max_seconds: int = _uint(32)
    bond_bps: int = _uint(16)
    max_window: int = _uint(32)
    counter: int = _uint(32)


@dataclass(frozen=True, slots=True)
class Bid(Message):
    """What a consumer asks for (see ILeaseEscrow.sol)."""

    consumer: str = _address()
    market: str = _address()
    guard: str = _address()
    arbiter: str = _address()
    seat: bytes = _bytes32()
    count: int = _uint(16)
    attempts: int = _uint(8)
    gang: bool = typed("bool")
    need: int = _uint(128)
    needs: int = _uint(64)
    refuses: int = _uint(64)
    max_rate: int = _uint(96)
    budget: int = _uint(96)
    max_seconds: int = _uint(32)
    window: int = _uint(32)
    fee_bps: int = _uint(16)
    documents: bytes = _bytes32()
    valid_until: int = _uint(40)
    counter: int = _uint(32)


@dataclass(frozen=True, slots=True)
class Receipt(Message):
    """Metered usage of one lease; `amount` is cumulative. Kinds: 0 interim, 1 done, 2 failed."""

    lease: bytes = _bytes32()
    amount: int = _uint(96)
    kind: int = _uint(8)
    evidence: bytes = _bytes32()


@dataclass(frozen=True, slots=True)
class Verdict(Message):
    """What an arbiter decides about a disputed claim: the provider's total, and what is taken of its bond."""

    lease: bytes = _bytes32()
    award: int = _uint(96)
    slash: int = _uint(96)
    evidence: bytes = _bytes32()


@dataclass(frozen=True, slots=True)
class Link(Message):
    """An account names its owner, who alone can withdraw from then on."""

    account: str = _address()
    owner: str = _address()


@dataclass(frozen=True, slots=True)
class Request(Message):
    """An HTTP request by a key holder; `target` is path and query, `body` the SHA-256 of the body's bytes."""

    signer: str = _address()
    market: str = _address()
    method: str = _string()
    target: str = _string()
    body: bytes = _bytes32()
    at: int = _uint(40)
    nonce: bytes = _bytes32()


@dataclass(frozen=True, slots=True)
class Entry(Message):
    """One line of the market's admission log; kinds and reasons are codes of `suanli_protocol.log`.

    `paper` is the struct hash of the paper concerned: an offer, a bid, what is withdrawn or refused.
    """

    seq: int = _uint(64)
    kind: int = _uint(8)
    paper: bytes = _bytes32()
    reason: int = _uint(16)
    received_at: int = _uint(64)  # milliseconds of Unix UTC


@dataclass(frozen=True, slots=True)
class Head(Message):
    """The admission log after one group commit: head = keccak256(previous ‖ merkle root of its leaves)."""

    market: str = _address()
    first_seq: int = _uint(64)
    last_seq: int = _uint(64)
    head: bytes = _bytes32()
    at: int = _uint(64)  # milliseconds of Unix UTC


@dataclass(frozen=True, slots=True)
class Round(Message):
    """One clearing of the book. Roots are Merkle roots over leaves in a stated order; 0 where nothing is claimed."""

    market: str = _address()
    number: int = _uint(64)
    previous: bytes = _bytes32()
    engine: bytes = _bytes32()  # SHA-256 of the engine's name and version
    policy: bytes = _bytes32()  # SHA-256 of the policy's name
    first_seq: int = _uint(64)
    last_seq: int = _uint(64)
    block_number: int = _uint(64)
    block_hash: bytes = _bytes32()
    pending_root: bytes = _bytes32()
    released_root: bytes = _bytes32()
    matches_root: bytes = _bytes32()
    prices_root: bytes = _bytes32()
    rejects_root: bytes = _bytes32()
    bound: int = _uint(256)
    surplus: int = _uint(256)
    seed: bytes = _bytes32()


@dataclass(frozen=True, slots=True)
class Match(Message):
    """A proposal of a round: this bid on that offer at this rate (a leaf of matchesRoot)."""

    bid: bytes = _bytes32()
    offer: bytes = _bytes32()
    rate: int = _uint(96)
    index: int = _uint(16)


@dataclass(frozen=True, slots=True)
class Delivered(Message):
    """The relay's word that it holds a blob of a lease: slot, SHA-256 and size of the ciphertext."""

    market: str = _address()
    lease: bytes = _bytes32()
    slot: str = _string()
    digest: bytes = _bytes32()
    size: int = _uint(64)
    at: int = _uint(64)  # milliseconds of Unix UTC
