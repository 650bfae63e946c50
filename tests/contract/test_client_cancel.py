"""A queued bid is taken back on the chain itself when the market is gone: its seat is closed for every market."""

from __future__ import annotations

from pathlib import Path

import pytest

from suanli.client import Client
from suanli.jobs.store import Store
from suanli.session.progress import Change, Silent
from suanli_protocol import wire
from suanli_protocol.errors import ChainError, ChainUnavailableError, UnreachableError
from suanli_protocol.lease import seat_key
from support.builders import CREDIT, a_bid
from support.devnet import Anvil
from support.market import Party, World, a_world
from support.records import a_record

NOWHERE = "http://127.0.0.1:9"
CLOSED = bytes(31) + b"\x01"


class Told(Silent):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def changed(self, record: object, change: Change) -> None:
        self.kinds.append(change.kind)


@pytest.fixture(scope="module")
def world(anvil: Anvil) -> World:
    return a_world(anvil)


@pytest.fixture
def party(world: World) -> Party:
    return world.party(CREDIT)


def a_client(world: World, party: Party, home: Path, *, chain: str | None = None) -> Client:
    """A client whose market is gone, and which remembers one queued job with the seat aa…"""
    store = Store(home)
    bid = a_bid(consumer=party.address, seat=bytes.fromhex("aa" * 32))
    store.save(
        a_record(
            "aa" * 32,
            market=NOWHERE,
            escrow=world.escrow.address,
            genesis=wire.to_hex(world.chain.genesis()),
            bid=wire.paper_to_json(bid),
            phase="queued",
        )
    )
    return Client(
        market=NOWHERE, chain=chain or world.url, escrow=world.escrow.address, signer=party.signer, store=store
    )


def test_without_a_market_the_seat_is_closed_on_the_chain(world: World, party: Party, tmp_path: Path) -> None:
    told = Told()
    with a_client(world, party, tmp_path) as client:
        handle = client.job("0xaaaa")
        record = handle.cancel(watcher=told)
        assert (record.phase, record.reason, handle.status) == ("cancelled", "stopped", 103)
        assert world.escrow.seat(seat_key(bytes.fromhex("aa" * 32), party.address, 0)) == CLOSED
        assert told.kinds == ["cancelled"]
        assert client.store.load(record.id).is_over


def test_a_second_try_finds_it_closed_and_spends_nothing(world: World, party: Party, tmp_path: Path) -> None:
    with a_client(world, party, tmp_path) as client:
        client.job("0xaaaa").cancel()
    before = world.chain.balance_wei(party.address)
    with a_client(world, party, tmp_path) as client:  # the record was lost and says queued again
        assert client.job("0xaaaa").cancel().phase == "cancelled"
    assert world.chain.balance_wei(party.address) == before


def test_without_chain_and_market_nothing_is_claimed(world: World, party: Party, tmp_path: Path) -> None:
    with a_client(world, party, tmp_path, chain=NOWHERE) as client:
        handle = client.job("0xaaaa")
        with pytest.raises((ChainUnavailableError, UnreachableError)):
            handle.cancel()
        assert client.store.load(handle.id).phase == "queued"


def test_a_seat_of_another_chain_is_left_alone(world: World, party: Party, tmp_path: Path) -> None:
    with a_client(world, party, tmp_path) as client:
        handle = client.job("0xaaaa")
        handle.record.genesis = "0x" + "99" * 32
        with pytest.raises(ChainError) as caught:
            handle.cancel(on_chain=True)
        assert caught.value.code == "chain_reset"
