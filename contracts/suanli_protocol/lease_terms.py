"""What a lease is made of: its terms, how far it has come, and the words that stand for them at its seat. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from suanli_protocol.errors import ProtocolError
from suanli_protocol.lease_math import bond_down, deposit_of, lease_seconds, price_up
from suanli_protocol.messages import Bid, Offer, Struct, solidity_fields, typed
from suanli_protocol.signing import address_bytes, checksum_address, keccak256, struct_hash, words

BY_CONSUMER_SIDE = 1  # bit 0 of Progress.flags; bits 1 and 2 are the claim's kind
REOPENABLE = 4  # in the word of a seat, beside the phases of an open lease
PREVIOUS_BYTES = 416  # the words of Clauses, and one of money


@dataclass(frozen=True, slots=True)
class Clauses(Struct):
    """The terms of a lease that only its rarer ways out need (see ILeaseEscrow.sol)."""

    bid: bytes = typed("bytes32")
    offer: bytes = typed("bytes32")
    arbiter: str = typed("address")
    guard: str = typed("address")
    rate: int = typed("uint96")
    spent: int = typed("uint96")
    max_seconds: int = typed("uint32")
    min_seconds: int = typed("uint32")
    window: int = typed("uint32")
    attempt: int = typed("uint8")
    attempts: int = typed("uint8")
    opened_at: int = typed("uint40")

    @property
    def ends_at(self) -> int:
        """The second from which nothing more is billable, unless it is stopped earlier."""
        return self.opened_at + self.max_seconds


@dataclass(frozen=True, slots=True)
class Lease(Struct):
    """The terms of a lease that every settlement needs (see ILeaseEscrow.sol)."""

    clauses: bytes = typed("bytes32")
    seat_key: bytes = typed("bytes32")
    consumer: str = typed("address")
    provider: str = typed("address")
    market: str = typed("address")
    need: int = typed("uint128")
    price: int = typed("uint96")
    bond: int = typed("uint96")
    fee_bps: int = typed("uint16")

    @property
    def deposit(self) -> int:
        """What the consumer locked."""
        return deposit_of(self.price, self.fee_bps)


class Phase(IntEnum):
    """Where an open lease stands."""

    RUNNING = 0
    STOPPED = 1
    CLAIMED = 2
    DISPUTED = 3


class Kind(IntEnum):
    """Kinds of receipts and claims. FAILED: by the provider's fault, so that the seat may be opened again."""

    INTERIM = 0
    DONE = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an open lease has come: paid and claimed totals, the second its phase began, phase, flags."""

    paid: int = 0
    claimed: int = 0
    clock: int = 0
    phase: Phase = Phase.RUNNING
    flags: int = 0

    def pack(self) -> int:
        """The escrow's word."""
        return self.paid << 160 | self.claimed << 64 | self.clock << 24 | self.phase << 16 | self.flags << 8

    @classmethod
    def unpack(cls, word: int) -> Progress:
        """From the escrow's word; ProtocolError if no lease can have come that far."""
        phase, flags = word >> 16 & 0xFF, word >> 8 & 0xFF
        if phase > max(Phase) or flags >> 1 > Kind.FAILED or word & 0xFF or not 0 <= word < 1 << 256:
            raise ProtocolError(f"{word:#x} is no progress of a lease")
        return cls(word >> 160, word >> 64 & (1 << 96) - 1, word >> 24 & (1 << 40) - 1, Phase(phase), flags)

    @property
    def by_consumer_side(self) -> bool:
        """Whether the consumer or its guard stopped the lease."""
        return bool(self.flags & BY_CONSUMER_SIDE)

    @property
    def kind(self) -> Kind:
        """The kind of the claim; INTERIM before there is one."""
        return Kind(self.flags >> 1 & 3)

    @property
    def is_occupying(self) -> bool:
        """Whether the lease still takes its capacity: a claim frees it."""
        return self.phase < Phase.CLAIMED

    def claimed_by(self, amount: int, clock: int, kind: Kind) -> Progress:
        """After a claim; of what was before, `paid` and who stopped it stay."""
        return Progress(self.paid, amount, clock, Phase.CLAIMED, self.flags & BY_CONSUMER_SIDE | kind << 1)


def clauses_hash(clauses: Clauses) -> bytes:
    """keccak256(abi.encode(clauses))."""
    return keccak256(words(clauses))


def lease_id(lease: Lease) -> bytes:
    """keccak256(abi.encode(lease))."""
    return keccak256(words(lease))


def seat_key(seat: bytes, consumer: str, index: int = 0) -> bytes:
    """Where the escrow keeps the lease of a seat."""
    return keccak256(seat + address_bytes(consumer) + index.to_bytes(12, "big"))


def seat_word(lease: bytes, progress: Progress) -> bytes:
    """What a seat holds while its lease (by id) is open."""
    return keccak256(lease + progress.pack().to_bytes(32, "big"))


def reopenable_word(clauses: bytes, spent: int) -> bytes:
    """What a seat holds whose last attempt (by the hash of its clauses) ended so that it may be opened again.

    `spent` is what that attempt paid, with its fee.
    """
    return keccak256(clauses + REOPENABLE.to_bytes(32, "big") + spent.to_bytes(32, "big"))


@dataclass(frozen=True, slots=True)
class Previous:
    """The proof of a seat's last attempt: its clauses, and what it paid with its fee."""

    clauses: Clauses
    spent: int

    def encode(self) -> bytes:
        """abi.encode(clauses, spent), as a Fill carries it."""
        return words(self.clauses) + self.spent.to_bytes(32, "big")

    @classmethod
    def decode(cls, proof: bytes) -> Previous:
        """From hostile bytes; ProtocolError if they are no such proof."""
        if len(proof) != PREVIOUS_BYTES:
            raise ProtocolError(f"the proof of a previous attempt has {PREVIOUS_BYTES} bytes, not {len(proof)}")
        *clauses, spent = (proof[at : at + 32] for at in range(0, PREVIOUS_BYTES, 32))
        members = {
            name: _read_word(word, solidity)
            for word, (name, solidity) in zip(clauses, solidity_fields(Clauses), strict=True)
        }
        return cls(Clauses(**members), _read_word(spent, "uint96"))

    @property
    def word(self) -> bytes:
        """What the seat must hold."""
        return reopenable_word(clauses_hash(self.clauses), self.spent)

    @property
    def next_attempt(self) -> int:
        """The number of the attempt that follows."""
        return self.clauses.attempt + 1

    @property
    def total(self) -> int:
        """What all attempts so far cost."""
        return self.clauses.spent + self.spent


def _read_word(word: bytes, solidity: str) -> Any:
    if solidity == "bytes32":
        return word
    value, bits = int.from_bytes(word, "big"), 160 if solidity == "address" else int(solidity.removeprefix("uint"))
    if value >> bits:
        raise ProtocolError(f"{value:#x} is no {solidity}")
    return checksum_address(word[12:]) if solidity == "address" else value


def proves(previous: bytes, word: bytes) -> bool:
    """Whether a seat with this word is free for the attempt that follows `previous` (empty: for the first one)."""
    if not previous:
        return word == bytes(32)
    if len(previous) != PREVIOUS_BYTES:
        return False
    clauses = keccak256(previous[:-32])
    return word == reopenable_word(clauses, int.from_bytes(previous[-32:], "big"))


def attempt_after(previous: bytes) -> tuple[int, int]:
    """Number and earlier cost of the attempt that follows `previous`, which must be empty or proven."""
    if not previous:
        return 1, 0
    proof = Previous.decode(previous)
    return proof.next_attempt, proof.total


def terms(
    bid: Bid, offer: Offer, *, rate: int, index: int = 0, attempt: int = 1, spent: int = 0, opened_at: int
) -> tuple[Lease, Clauses]:
    """What `open` creates from two papers at the block time `opened_at`; ValueError if a term does not fit its type.

    `spent` is what earlier attempts cost.
    """
    seconds = lease_seconds(bid, offer)
    price = price_up(rate, seconds)
    clauses = Clauses(
        bid=struct_hash(bid),
        offer=struct_hash(offer),
        arbiter=bid.arbiter,
        guard=bid.guard,
        rate=rate,
        spent=spent,
        max_seconds=seconds,
        min_seconds=offer.min_seconds,
        window=bid.window,
        attempt=attempt,
        attempts=bid.attempts,
        opened_at=opened_at,
    )
    lease = Lease(
        clauses=clauses_hash(clauses),
        seat_key=seat_key(bid.seat, bid.consumer, index),
        consumer=bid.consumer,
        provider=offer.provider,
        market=bid.market,
        need=bid.need,
        price=price,
        bond=bond_down(price, offer.bond_bps),
        fee_bps=bid.fee_bps,
    )
    return lease, clauses
