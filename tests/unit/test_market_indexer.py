"""Which tips mean another history: one that is lower says nothing, a known block with another hash says all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from suanli_market.chain import journal
from suanli_market.chain.accounts import Accounts
from suanli_market.chain.indexer import ChainResetError, Indexer
from suanli_market.chain.projection import Projection
from suanli_market.clearing.keeper import Keeper
from suanli_market.store import Store
from suanli_market.tables import ChainTransactionRow, CursorRow, EventRow
from suanli_protocol import wire
from suanli_protocol.escrow import Block
from suanli_protocol.rpc_errors import LackingError
from support.builders import market

GENESIS = b"\xee" * 32


def a_hash(number: int, branch: int = 0) -> bytes:
    return bytes([branch]) * 24 + number.to_bytes(8, "big")


@dataclass
class Endpoint:
    """A chain of blocks of which it shows only those up to its head."""

    head: int = 0
    branches: dict[int, int] = field(default_factory=dict)  # from a block on, which branch
    genesis_hash: bytes = GENESIS
    sent: int = 0  # transactions of the market's key
    asked: int = 0  # so often for them

    def nonce(self, _: str, block: str) -> int:
        assert block == "latest"
        self.asked += 1
        return self.sent

    def block(self, block: int | str = "latest") -> Block:
        number = self.head if isinstance(block, str) else block
        if number > self.head:
            raise LackingError(f"no block {number}")
        return Block(number, self._hash(number), self._hash(max(0, number - 1)), 1_000 + number, 0)

    def _hash(self, number: int) -> bytes:
        if number == 0:
            return self.genesis_hash
        return a_hash(number, next((self.branches[n] for n in sorted(self.branches, reverse=True) if n <= number), 0))

    def genesis(self) -> bytes:
        return self.genesis_hash

    def events(self, first: int, last: int) -> list[Any]:
        return []


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    opened.migrate()
    with opened.write() as session:
        session.add(
            CursorRow(
                chain_id=1, escrow="0x", market="0x", genesis=wire.to_hex(GENESIS), block=0,
                block_hash=wire.to_hex(GENESIS),
            )
        )  # fmt: skip
    yield opened
    opened.close()


def an_indexer(store: Store, endpoint: Endpoint) -> tuple[Indexer, list[str]]:
    """One that has followed the endpoint to its head, block by block; and what it told."""
    told: list[str] = []
    chain: Any = endpoint
    keeper = Keeper(Accounts(chain), market().address)
    indexer = Indexer(
        store, keeper, chain, chain, Projection(), confirmations=0, poll_s=1.0,
        on_undone=lambda: told.append("undone"), on_lost=lambda: told.append("lost"),
    )  # fmt: skip
    top, endpoint.head = endpoint.head, 0
    indexer.begin()
    while endpoint.head < top:
        endpoint.head += 1
        indexer.catch_up()
    return indexer, told


def events(store: Store) -> list[str]:
    with store.read() as session:
        return list(session.exec(select(EventRow.kind)))


def known(store: Store) -> int:
    with store.read() as session:
        return session.get_one(CursorRow, 1).block


def test_an_endpoint_behind_its_peers_undoes_nothing(store: Store) -> None:
    endpoint = Endpoint(head=7)
    indexer, told = an_indexer(store, endpoint)
    for head in (6, 3, 8):
        endpoint.head = head
        indexer.catch_up()
    assert (told, events(store), known(store)) == ([], [], 8)


def test_one_that_is_further_behind_than_the_journal_reaches_is_waited_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "STEPS_KEPT", 3)
    endpoint = Endpoint(head=9)
    indexer, told = an_indexer(store, endpoint)
    endpoint.head = 2
    indexer.catch_up()
    endpoint.head = 10
    indexer.catch_up()
    assert (told, known(store)) == ([], 10)


@pytest.mark.parametrize("head", [6, 7, 9])
def test_a_known_block_with_another_hash_is_undone(store: Store, head: int) -> None:
    endpoint = Endpoint(head=7)
    indexer, told = an_indexer(store, endpoint)
    endpoint.branches, endpoint.head = {5: 1}, head
    indexer.catch_up()
    assert told == ["undone"]
    assert events(store) == ["chain.reorganised"]
    assert known(store) == head


def test_another_chain_halts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "STEPS_KEPT", 3)
    endpoint = Endpoint(head=9)
    indexer, _ = an_indexer(store, endpoint)
    endpoint.branches, endpoint.genesis_hash, endpoint.head = {1: 1}, b"\xdd" * 32, 2
    with pytest.raises(ChainResetError):
        indexer.catch_up()


def mined(store: Store, *nonces: int, block: int) -> None:
    with store.write() as session:
        for nonce in nonces:
            session.add(
                ChainTransactionRow(
                    kind="reclaim", nonce=nonce, entries=1, calldata="0x", state="mined", block=block, at=0
                )
            )


def test_what_the_key_never_sent_by_the_newest_block_is_lost_once_two_looks_say_so(store: Store) -> None:
    endpoint = Endpoint(head=7)
    indexer, told = an_indexer(store, endpoint)
    mined(store, 4, 5, block=9)
    for sent, says in ((6, []), (5, []), (6, []), (5, []), (5, ["lost"])):
        endpoint.sent = sent
        indexer.look_for_lost()
        assert told == says


def test_it_is_missed_however_many_blocks_count_meanwhile(store: Store) -> None:
    endpoint = Endpoint(head=7)
    indexer, told = an_indexer(store, endpoint)
    mined(store, 4, block=6)
    endpoint.sent = 4
    indexer.look_for_lost()
    indexer.look_for_lost()
    assert told == ["lost"]


def test_where_nothing_was_mined_nothing_is_asked(store: Store) -> None:
    endpoint = Endpoint(head=7)
    indexer, told = an_indexer(store, endpoint)
    indexer.look_for_lost()
    assert (told, endpoint.asked) == ([], 0)
