"""The escrow's events as typed values, each with its place on the chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from suanli_protocol.chain_records import Log
from suanli_protocol.contract_abi import contract_abi
from suanli_protocol.errors import ProtocolError
from suanli_protocol.lease import Kind, Refusal
from suanli_protocol.signing import address_bytes, checksum_address


@dataclass(frozen=True, slots=True)
class EscrowEvent:
    """Base of all events: block, its hash, the transaction, the place within the block."""

    block: int
    block_hash: bytes
    transaction: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class Deposited(EscrowEvent):
    """`sender` credited money to an account."""

    account: str
    sender: str
    amount: int


@dataclass(frozen=True, slots=True)
class Withdrawn(EscrowEvent):
    """Free money left the escrow."""

    account: str
    to: str
    amount: int


@dataclass(frozen=True, slots=True)
class Linked(EscrowEvent):
    """An account has an owner."""

    account: str
    owner: str


@dataclass(frozen=True, slots=True)
class Bumped(EscrowEvent):
    """Papers of the account with another counter are dead."""

    account: str
    counter: int


@dataclass(frozen=True, slots=True)
class Cancelled(EscrowEvent):
    """A seat that was unused or reopenable is closed for ever."""

    seat_key: bytes
    consumer: str
    seat: bytes
    index: int


@dataclass(frozen=True, slots=True)
class RoundCommitted(EscrowEvent):
    """A market committed the hash of its newest round; the openings of the same transaction follow from it."""

    market: str
    head: bytes


@dataclass(frozen=True, slots=True)
class Opened(EscrowEvent):
    """A lease is open. Its terms follow from the papers in the calldata and the block's time."""

    lease_id: bytes
    provider: str
    consumer: str
    bid_hash: bytes
    offer_hash: bytes
    rate: int
    index: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Refused(EscrowEvent):
    """A fill was left out of a batch."""

    seat: bytes
    index: int
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Settled(EscrowEvent):
    """A receipt was paid; `paid` and `fee` are the lease's totals. Kind INTERIM leaves it open."""

    lease_id: bytes
    paid: int
    fee: int
    kind: Kind
    evidence: bytes


@dataclass(frozen=True, slots=True)
class SettlementRefused(EscrowEvent):
    """A settlement was left out of a batch."""

    lease_id: bytes
    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Stopped(EscrowEvent):
    """Nothing after `clock` is billable."""

    lease_id: bytes
    by: str
    clock: int
    by_consumer_side: bool


@dataclass(frozen=True, slots=True)
class Released(EscrowEvent):
    """The provider gave the lease back; `penalty` went from its bond to the consumer."""

    lease_id: bytes
    paid: int
    penalty: int


@dataclass(frozen=True, slots=True)
class Claimed(EscrowEvent):
    """The provider asked for its due without the consumer; `amount` is its total."""

    lease_id: bytes
    amount: int
    kind: Kind
    evidence: bytes
    clock: int


@dataclass(frozen=True, slots=True)
class Disputed(EscrowEvent):
    """The consumer's side called the arbiter."""

    lease_id: bytes
    by: str
    clock: int


@dataclass(frozen=True, slots=True)
class Resolved(EscrowEvent):
    """The arbiter decided: totals of the lease, what was taken of the bond, and who bore what of the cost."""

    lease_id: bytes
    paid: int
    fee: int
    slash: int
    cost_consumer: int
    cost_provider: int
    evidence: bytes


@dataclass(frozen=True, slots=True)
class Finalized(EscrowEvent):
    """A claim was paid, or half of a disputed one; `paid` and `fee` are the lease's totals."""

    lease_id: bytes
    paid: int
    fee: int
    kind: Kind
    disputed: bool


@dataclass(frozen=True, slots=True)
class Reclaimed(EscrowEvent):
    """The provider vanished: the deposit's rest and the whole `bond` went to the consumer."""

    lease_id: bytes
    paid: int
    fee: int
    bond: int


def decode_event(log: Log) -> EscrowEvent | None:
    """The event of a log of the escrow; None for one that it does not declare; ProtocolError for a malformed one."""
    found = contract_abi("LeaseEscrow").event(log.topics, log.data)
    if found is None:
        return None
    name, members = found
    try:
        return _event(name, (log.block, log.block_hash, log.transaction, log.log_index), members)
    except ValueError as error:
        raise ProtocolError(f"an event {name} of the escrow is none: {error}") from None


def _event(name: str, place: tuple[int, bytes, bytes, int], members: dict[str, Any]) -> EscrowEvent | None:
    def address(key: str) -> str:
        return checksum_address(address_bytes(members[key]))

    match name:
        case "Deposited":
            return Deposited(*place, address("account"), address("from"), members["amount"])
        case "Withdrawn":
            return Withdrawn(*place, address("account"), address("to"), members["amount"])
        case "Linked":
            return Linked(*place, address("account"), address("owner"))
        case "Bumped":
            return Bumped(*place, address("account"), members["counter"])
        case "Cancelled":
            return Cancelled(*place, members["seatKey"], address("consumer"), members["seat"], members["index"])
        case "Round":
            return RoundCommitted(*place, address("market"), members["head"])
        case "Opened":
            terms = members["terms"]
            parties = (address("provider"), address("consumer"))
            papers = (members["bidHash"], members["offerHash"])
            return Opened(
                *place, members["leaseId"], *parties, *papers, terms >> 160, terms >> 8 & 0xFFFF, terms & 0xFF
            )
        case "Refused":
            return Refused(*place, members["seat"], members["index"], Refusal(members["code"]))
        case "Settled":
            totals = (members["paid"], members["fee"])
            return Settled(*place, members["leaseId"], *totals, Kind(members["kind"]), members["evidence"])
        case "SettlementRefused":
            return SettlementRefused(*place, members["leaseId"], Refusal(members["code"]))
        case "Stopped":
            clock, by_consumer_side = members["clock"], members["byConsumerSide"]
            return Stopped(*place, members["leaseId"], address("by"), clock, by_consumer_side)
        case "Released":
            return Released(*place, members["leaseId"], members["paid"], members["penalty"])
        case "Claimed":
            what = (members["amount"], Kind(members["kind"]), members["evidence"])
            return Claimed(*place, members["leaseId"], *what, members["clock"])
        case "Disputed":
            return Disputed(*place, members["leaseId"], address("by"), members["clock"])
        case "Resolved":
            totals = (members["paid"], members["fee"])
            moved = (members["slash"], members["costConsumer"], members["costProvider"])
            return Resolved(*place, members["leaseId"], *totals, *moved, members["evidence"])
        case "Finalized":
            totals = (members["paid"], members["fee"])
            return Finalized(*place, members["leaseId"], *totals, Kind(members["kind"]), members["disputed"])
        case "Reclaimed":
            totals = (members["paid"], members["fee"])
            return Reclaimed(*place, members["leaseId"], *totals, members["bond"])
        case _:
            return None
