"""What the error of a JSON-RPC answer means: the escrow's refusal, data that the endpoint lacks, or a final no. Pure.

Endpoints do not agree on codes, and proxies rewrite them: an error means lacking data if its code or its words say so.
"""

from __future__ import annotations

from typing import Any

from suanli_protocol.chain_records import read_data
from suanli_protocol.errors import ChainError, ChainUnavailableError, NotFoundError
from suanli_protocol.reverts import reverted

METHOD_NOT_FOUND = -32601
LACKS_CODES = {
    -32001,  # resource not found: Anvil, Nethermind, Reth, Hyperledger Besu
    -32002,  # resource unavailable: Nethermind, of a state that was pruned
    -39001,  # unknown block: Geth, Reth (of `finalized` before there is one)
    4444,  # pruned history (EIP-4444): Geth, Reth, Nethermind, Erigon
}
LACKS_WORDS = (
    # the block is not there (yet)
    "blockoutofrange",  # Anvil
    "header not found",  # Geth and its kin, Reth, Ganache
    "header for hash not found",  # Geth
    "unknown block",  # Geth (logs)
    "block not found",  # Erigon, Reth, Besu, Geth ("finalized block not found")
    "could not be found",  # Nethermind
    "could not find block",  # Erigon and Tendermint chains
    "block range extends beyond",  # Geth, Reth, Nethermind, Besu (logs)
    "invalid block range",  # Geth, Reth (logs from beyond their head)
    "beyond head block",  # Geth
    "is not yet available",  # chains with their own consensus behind
    "block number out of range",  # Hardhat, Besu
    "invalid block tag",  # Hardhat, with "latest block number is …"
    # the block is there, its state or its history is not (any more)
    "missing trie node",  # Geth, and what was made from it
    "is not available",  # Geth: "historical state … is not available", "state … is not available"
    "not available due to pruning",  # Erigon
    "no state available",  # Nethermind
    "state unavailable",  # Besu: "World state unavailable"
    "pruned",  # Reth: "state at block #… is pruned"; "pruned history unavailable"
    "required data unavailable",  # Anvil
    "haven't been fully indexed",  # Geth, just started
    "indexing is in progress",  # Geth: transactions
)


class LackingError(ChainUnavailableError, NotFoundError):
    """The endpoint lacks a block, a state or a transaction: it is behind its peers, has pruned it, or lost it."""

    title = "The chain endpoint lacks this"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, hint="the endpoint may be behind its peers, or keeps too little: ask again or another")


def refused(method: str, error: Any) -> ChainError:
    """The error of an RPC answer; a revert carries its data at `data`, or one level deeper."""
    if not isinstance(error, dict):
        return ChainError(f"{method}: {error!r:.300}")
    message, data = str(error.get("message", "")), error.get("data")
    if isinstance(data, dict):
        data = data.get("data", data.get("result"))
    try:
        raw = read_data(data)
    except (TypeError, ValueError, AttributeError):
        raw = b""
    if raw or "revert" in message.lower():
        return reverted(raw, message)
    kind = LackingError if lacks(error.get("code"), message) else ChainError
    return kind(f"{method}: {message:.300}")


def lacks(code: object, message: str) -> bool:
    """Whether an endpoint says that it has no such block, state or transaction."""
    if code == METHOD_NOT_FOUND:  # Geth: "the method … does not exist/is not available"
        return False
    if isinstance(code, int) and code in LACKS_CODES:
        return True
    text = message.lower()
    return any(words in text for words in LACKS_WORDS)
