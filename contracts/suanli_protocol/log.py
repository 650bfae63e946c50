"""The market's admission log: entries in Merkle trees, trees in a chain of signed heads, and the proof of one entry.

A leaf is keccak256 of 32 bytes, an inner node of 64, so neither can pass for the other. A node without a sibling moves
up as it is (the tree shape of RFC 9162, section 2.1), so the tree's size is part of each check.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from suanli_protocol import wire
from suanli_protocol.errors import IntegrityError
from suanli_protocol.messages import Entry, Head
from suanli_protocol.signing import Domain, keccak256, struct_hash, verify

EMPTY_ROOT = bytes(32)
GENESIS_HEAD = bytes(32)  # what the first group commit of a log follows


class EntryKind(IntEnum):
    """What a line of the log records."""

    OFFER = 1
    BID = 2
    WITHDRAW = 3
    REFUSE = 4


class ReasonCode(IntEnum):
    """Why a paper was refused or left the book. Below 100: the escrow's own code (lease.Refusal)."""

    NONE = 0
    SIGNATURE = 101
    ATTRIBUTES = 102  # the document is not the one that the paper names
    CONSTRAINTS = 103
    FEE_RATE = 104  # feeBps is not the market's
    FEE_TOO_SMALL = 105  # the budget cannot bring the market's least fee
    WINDOW_TOO_SHORT = 106
    VALIDITY_TOO_LONG = 107
    BOOK_FULL = 108
    COUNTER_RAISED = 111
    SEAT_CLOSED = 112
    REPLACED = 113
    BY_ITS_SIGNER = 114
    OPEN_FAILED = 115


def leaf(entry: Entry) -> bytes:
    """The leaf of an entry."""
    return keccak256(struct_hash(entry))


def _node(left: bytes, right: bytes) -> bytes:
    return keccak256(left + right)


def _above(level: Sequence[bytes]) -> list[bytes]:
    paired = [_node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return paired + list(level[-1:]) if len(level) % 2 else paired


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root over the leaves in their order; 32 zero bytes over none."""
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0] if level else EMPTY_ROOT


def merkle_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings from leaf to root; IndexError if there is no such leaf."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} of {len(leaves)}")
    return _path(_levels(leaves), index)


def merkle_paths(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """The paths of all leaves; the tree is built once."""
    levels = _levels(leaves)
    return [_path(levels, index) for index in range(len(leaves))]


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """The tree from the leaves to the nodes below the root."""
    levels, level = [], list(leaves)
    while len(level) > 1:
        levels.append(level)
        level = _above(level)
    return levels


def _path(levels: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    path = []
    for level in levels:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index //= 2
    return path


def root_of_path(start: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes:
    """The root that a leaf at `index` of `count` and its siblings lead to; IntegrityError if their number is wrong."""
    if not 0 <= index < count:
        raise IntegrityError(f"there is no leaf {index} of {count}")
    node, last, siblings = start, count - 1, iter(path)
    try:
        while last:
            if index % 2:
                node = _node(next(siblings), node)
            elif index < last:
                node = _node(node, next(siblings))
            index, last = index // 2, last // 2
    except StopIteration:
        raise IntegrityError("the inclusion path is too short") from None
    if next(siblings, None) is not None:
        raise IntegrityError("the inclusion path is too long")
    return node


def verify_path(start: bytes, index: int, count: int, path: Sequence[bytes], root: bytes) -> None:
    """IntegrityError unless the leaf stands at `index` of `count` under the root."""
    if root_of_path(start, index, count, path) != root:
        raise IntegrityError("the inclusion path does not lead to the root")


def next_head(previous: bytes, root: bytes) -> bytes:
    """The log's head after a group commit with this Merkle root."""
    return keccak256(previous + root)


def verify_acknowledgement(ack: wire.Acknowledgement, domain: Domain, market: str) -> Entry:
    """The entry that the market proved to have logged; IntegrityError or SignatureError if it proves nothing.

    The caller compares the entry's paper, kind and reason with what it sent.
    """
    entry, head = wire.paper_from_json(Entry, ack.entry), wire.paper_from_json(Head, ack.head)
    if head.market.lower() != market.lower():
        raise IntegrityError(f"the acknowledgement is by market {head.market}, not by {market}")
    verify(domain, head, wire.from_hex(ack.signature, size=64, name="signature"), head.market)
    if entry.paper != wire.from_hex(ack.paper, size=32, name="paper"):
        raise IntegrityError("the acknowledged entry is about another paper")
    if not head.first_seq <= entry.seq <= head.last_seq or ack.index != entry.seq - head.first_seq:
        raise IntegrityError(f"entry {entry.seq} is not at {ack.index} of {head.first_seq}..{head.last_seq}")
    path = [wire.from_hex(sibling, size=32, name="path") for sibling in ack.path]
    root = root_of_path(leaf(entry), ack.index, head.last_seq - head.first_seq + 1, path)
    if next_head(wire.from_hex(ack.previous, size=32, name="previous"), root) != head.head:
        raise IntegrityError("the acknowledged entry is not in the signed log")
    return entry
