"""What a chain endpoint answers, read strictly: blocks, events, transactions, receipts.

Every reader raises KeyError, TypeError, ValueError or AttributeError for an answer of another shape.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from suanli_protocol.signing import address_bytes, checksum_address

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")


@dataclass(frozen=True, slots=True)
class Block:
    """A block's number, hash, parent and time (seconds of Unix UTC)."""

    number: int
    hash: bytes
    parent: bytes
    timestamp: int
    base_fee: int


@dataclass(frozen=True, slots=True)
class Log:
    """An event as the chain has it."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    block_hash: bytes
    transaction: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """A mined or pending transaction; `to` is "" for a deployment, `block` None while it is pending."""

    hash: bytes
    sender: str
    to: str
    data: bytes
    block: int | None


@dataclass(frozen=True, slots=True)
class TxReceipt:
    """What became of a transaction; status 1 is success."""

    transaction: bytes
    status: int
    gas_used: int
    effective_gas_price: int
    block: int
    block_hash: bytes
    contract: str
    logs: tuple[Log, ...]

    @property
    def cost_wei(self) -> int:
        """What its sender paid for gas."""
        return self.gas_used * self.effective_gas_price


def read_number(value: Any) -> int:
    """A quantity."""
    if _QUANTITY.fullmatch(value) is None:
        raise ValueError(f"{value!r:.80} is no number")
    return int(value, 16)


def read_data(value: Any) -> bytes:
    """Bytes."""
    if not value.startswith("0x"):
        raise ValueError(f"{value!r:.80} is no hex")
    return bytes.fromhex(value[2:])


def _word(value: Any) -> bytes:
    data = read_data(value)
    if len(data) != 32:
        raise ValueError(f"{value!r:.80} has not 32 bytes")
    return data


def _address(value: Any) -> str:
    return checksum_address(address_bytes(value))


def read_block(answer: dict[str, Any]) -> Block:
    """A block."""
    return Block(
        read_number(answer["number"]),
        _word(answer["hash"]),
        _word(answer["parentHash"]),
        read_number(answer["timestamp"]),
        read_number(answer.get("baseFeePerGas") or "0x0"),
    )


def read_log(answer: dict[str, Any]) -> Log:
    """An event."""
    return Log(
        address=_address(answer["address"]),
        topics=tuple(_word(topic) for topic in answer["topics"]),
        data=read_data(answer["data"]),
        block=read_number(answer["blockNumber"]),
        block_hash=_word(answer["blockHash"]),
        transaction=_word(answer["transactionHash"]),
        log_index=read_number(answer["logIndex"]),
    )


def read_logs(answer: list[dict[str, Any]]) -> list[Log]:
    """A list of events."""
    return [read_log(log) for log in answer]


def read_transaction(answer: dict[str, Any]) -> Transaction:
    """A transaction."""
    block, to = answer.get("blockNumber"), answer.get("to")
    return Transaction(
        _word(answer["hash"]),
        _address(answer["from"]),
        _address(to) if to else "",
        read_data(answer["input"]),
        None if block is None else read_number(block),
    )


def read_receipt(answer: dict[str, Any]) -> TxReceipt:
    """A receipt."""
    contract = answer.get("contractAddress")
    return TxReceipt(
        transaction=_word(answer["transactionHash"]),
        status=read_number(answer["status"]),
        gas_used=read_number(answer["gasUsed"]),
        effective_gas_price=read_number(answer["effectiveGasPrice"]),
        block=read_number(answer["blockNumber"]),
        block_hash=_word(answer["blockHash"]),
        contract=_address(contract) if contract else "",
        logs=tuple(read_log(log) for log in answer["logs"]),
    )
