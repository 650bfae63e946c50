"""The admission log: every entry has a proof, and nothing else has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from suanli_protocol import log, wire
from suanli_protocol.errors import IntegrityError, ProtocolError, SignatureError
from suanli_protocol.lease import Refusal
from suanli_protocol.log import EntryKind, ReasonCode, leaf, merkle_path, merkle_root, next_head, verify_path
from suanli_protocol.messages import Entry, Head
from suanli_protocol.signing import keccak256, struct_hash
from support import builders

DOMAIN, MARKET = builders.a_domain(), builders.market()


def an_entry(seq: int) -> Entry:
    return Entry(
        seq, EntryKind.BID, struct_hash(builders.a_bid(seat=builders.a_seat(seq))), ReasonCode.NONE, 1000 + seq
    )


def acknowledged(index: int, count: int, *, first: int = 5, previous: bytes = b"\x09" * 32) -> wire.Acknowledgement:
    """A truthful market's acknowledgement of one of `count` entries."""
    entries = [an_entry(first + i) for i in range(count)]
    leaves = [leaf(entry) for entry in entries]
    head = Head(MARKET.address, first, first + count - 1, next_head(previous, merkle_root(leaves)), 2000)
    return wire.Acknowledgement(
        entry=wire.paper_to_json(entries[index]),
        path=[wire.to_hex(node) for node in merkle_path(leaves, index)],
        index=index,
        previous=wire.to_hex(previous),
        head=wire.paper_to_json(head),
        signature=wire.to_hex(MARKET.sign(DOMAIN, head)),
        paper=wire.to_hex(entries[index].paper),
    )


@pytest.mark.parametrize("count", [*range(1, 18), 31, 32, 33, 100])
def test_every_entry_of_every_size_has_its_proof(count: int) -> None:
    leaves = [keccak256(bytes([i])) for i in range(count)]
    root = merkle_root(leaves)
    for index, node in enumerate(leaves):
        path = merkle_path(leaves, index)
        assert len(path) <= (count - 1).bit_length()
        verify_path(node, index, count, path, root)
        for wrong in range(count):
            if wrong != index:
                with pytest.raises(IntegrityError):
                    verify_path(leaves[wrong], index, count, path, root)


def test_roots_of_small_trees_by_hand() -> None:
    a, b, c = (keccak256(bytes([i])) for i in range(3))
    assert merkle_root([]) == bytes(32)
    assert merkle_root([a]) == a
    assert merkle_root([a, b]) == keccak256(a + b)
    assert merkle_root([a, b, c]) == keccak256(keccak256(a + b) + c)


def test_a_node_is_no_leaf_and_a_leaf_added_changes_the_root() -> None:
    leaves = [leaf(an_entry(i)) for i in range(4)]
    inner = keccak256(leaves[0] + leaves[1])
    with pytest.raises(IntegrityError):
        verify_path(inner, 0, 4, merkle_path(leaves, 0)[1:], merkle_root(leaves))
    assert merkle_root([*leaves[:3], leaves[2]]) != merkle_root(leaves[:3])


def test_paths_of_wrong_length_are_refused() -> None:
    leaves = [keccak256(bytes([i])) for i in range(5)]
    root, path = merkle_root(leaves), merkle_path(leaves, 1)
    for wrong in (path[:-1], [*path, path[0]], []):
        with pytest.raises(IntegrityError):
            verify_path(leaves[1], 1, 5, wrong, root)
    for index, count in ((5, 5), (-1, 5), (0, 0)):
        with pytest.raises(IntegrityError):
            verify_path(leaves[1], index, count, path, root)
    with pytest.raises(IndexError):
        merkle_path(leaves, 5)


@pytest.mark.parametrize(("index", "count"), [(0, 1), (1, 2), (2, 3), (6, 7)])
def test_an_acknowledgement_proves_its_entry(index: int, count: int) -> None:
    ack = acknowledged(index, count)
    assert log.verify_acknowledgement(ack, DOMAIN, MARKET.address.lower()) == an_entry(5 + index)


def test_an_acknowledgement_by_another_market_or_for_another_escrow_proves_nothing() -> None:
    ack = acknowledged(1, 3)
    with pytest.raises(IntegrityError, match="by market"):
        log.verify_acknowledgement(ack, DOMAIN, builders.consumer().address)
    with pytest.raises(SignatureError):
        log.verify_acknowledgement(ack, builders.a_domain(chain_id=1), MARKET.address)


def test_each_altered_member_is_found() -> None:
    ack = acknowledged(1, 3)
    other = acknowledged(2, 3)
    entry, head = an_entry(6), wire.paper_from_json(Head, ack.head)
    altered: list[dict[str, Any]] = [
        {"entry": wire.paper_to_json(replace(entry, received_at=1))},
        {"entry": wire.paper_to_json(replace(entry, reason=7))},
        {"entry": wire.paper_to_json(replace(entry, seq=99))},
        {"entry": other.entry, "paper": other.paper},
        {"paper": other.paper},
        {"index": 0},
        {"index": 2},
        {"path": other.path},
        {"path": []},
        {"previous": wire.to_hex(bytes(32))},
        {"head": wire.paper_to_json(replace(head, at=1))},
        {"head": wire.paper_to_json(replace(head, last_seq=8))},
        {"signature": wire.to_hex(builders.consumer().sign(DOMAIN, head))},
    ]
    for change in altered:
        with pytest.raises((IntegrityError, SignatureError, ProtocolError)):
            log.verify_acknowledgement(ack.model_copy(update=change), DOMAIN, MARKET.address)


def test_an_entry_at_another_place_than_its_number_is_found() -> None:
    """A market that numbers one entry twice signs a tree in which a number stands at the wrong place."""
    entries = [an_entry(seq) for seq in (5, 5, 7)]
    leaves = [leaf(entry) for entry in entries]
    head = Head(MARKET.address, 5, 7, next_head(bytes(32), merkle_root(leaves)), 2000)
    ack = acknowledged(1, 3).model_copy(
        update={
            "entry": wire.paper_to_json(entries[1]),
            "paper": wire.to_hex(entries[1].paper),
            "path": [wire.to_hex(node) for node in merkle_path(leaves, 1)],
            "previous": wire.to_hex(bytes(32)),
            "head": wire.paper_to_json(head),
            "signature": wire.to_hex(MARKET.sign(DOMAIN, head)),
        }
    )
    with pytest.raises(IntegrityError, match="is not at"):
        log.verify_acknowledgement(ack, DOMAIN, MARKET.address)


def test_reasons_leave_the_escrows_codes_alone() -> None:
    assert max(Refusal) < 100
    assert min(code for code in ReasonCode if code) >= 100
