"""A queued bid is taken back on the chain itself when the market is gone: its seat is closed for every market."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from suanli.client import Client
from suanli.jobs.record import Record
from suanli.jobs.store import Store
from suanli.session.agreement import read_agreement
from suanli.session.handover import cancel
from suanli.session.session import Session
from suanli_protocol import wire
from suanli_protocol.chain import Chain
from suanli_protocol.errors import ChainError, ChainUnavailableError, MarketError, NotFoundError, UnreachableError
from suanli_protocol.escrow import Escrow, Settlement
from suanli_protocol.lease import Kind, Progress, seat_key
from suanli_protocol.lease_history import read_history
from suanli_protocol.messages import Receipt
from support.builders import CREDIT, a_bid
from support.consumer_desk import Told, a_desk, a_network, an_open_lease
from support.devnet import Anvil
from support.market import Party, World, a_world
from support.records import a_record

NOWHERE = "http://127.0.0.1:9"
CLOSED = bytes(31) + b"\x01"


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


# A lease that comes, or moves, while the job is taken back


def a_leased_client(world: World, home: Path) -> tuple[Client, wire.LeaseView]:
    """A client whose market is gone, and whose job counts as queued although its lease was opened meanwhile."""
    view, record, signer = an_open_lease(world)
    record.lease = ""
    store = Store(home)
    store.save(record)
    return Client(market=NOWHERE, chain=world.url, escrow=world.escrow.address, signer=signer, store=store), view


def test_a_lease_that_was_opened_meanwhile_is_stopped(world: World, tmp_path: Path) -> None:
    client, view = a_leased_client(world, tmp_path)
    told = Told()
    with client:
        record = client.jobs()[0].cancel(watcher=told)
    assert (record.phase, record.lease) == ("leased", view.id)
    assert told.kinds == ["stopped"]
    assert read_history(world.escrow, wire.from_hex(view.id), 0, world.chain.block().number).state == "stopped"


def test_a_lease_that_is_opened_between_the_look_and_the_call_is_stopped(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, view = a_leased_client(world, tmp_path)
    sees, blind = Escrow.seat, [True]

    def late(escrow: Escrow, key: bytes, **named: Any) -> bytes:
        return bytes(32) if blind and blind.pop() else sees(escrow, key, **named)

    monkeypatch.setattr(Escrow, "seat", late)
    with client:
        record = client.jobs()[0].cancel()
    assert (record.phase, record.lease) == ("leased", view.id)


def test_a_seat_that_waits_for_another_attempt_is_closed(world: World, tmp_path: Path) -> None:
    provider = world.party()
    view, record, signer = an_open_lease(world, provider=provider, attempts=2)
    agreement = read_agreement(view, world.escrow.domain, signer.address)
    world.escrow.release(provider.signer, agreement.lease, agreement.clauses, Progress())
    record.lease = ""
    store = Store(tmp_path)
    store.save(record)
    with Client(market=NOWHERE, chain=world.url, escrow=world.escrow.address, signer=signer, store=store) as client:
        assert client.jobs()[0].cancel().phase == "cancelled"
    assert world.escrow.seat(agreement.lease.seat_key) == CLOSED


class Relay:
    """A market that tells one lease, and of nothing that happened to it since."""

    def __init__(self, view: wire.LeaseView) -> None:
        self._view = view

    def lease(self, _: bytes) -> wire.LeaseView:
        return self._view


@pytest.mark.parametrize(
    ("meanwhile", "kind", "text"),
    [
        ("settle", "notice", "it was settled"),
        ("claim", "notice", "the provider has claimed 0.00"),
        ("interim", "stopped", "nothing later is billable"),
        ("release", "notice", "it was released"),
    ],
)
def test_a_lease_that_moves_while_its_job_is_cancelled_ends_well(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str, kind: str, text: str
) -> None:
    provider, told, stops = world.party(), Told(), Escrow.stop
    view, record, signer = an_open_lease(world, provider=provider)
    agreement = read_agreement(view, world.escrow.domain, signer.address)
    terms, evidence = (agreement.lease, agreement.clauses, Progress()), b"\x05" * 32

    def settle(amount: int, kind: int) -> None:
        paper = Receipt(agreement.id, amount, kind, evidence)
        signatures = [key.sign(world.escrow.domain, paper) for key in (provider.signer, signer)]
        world.escrow.settle(
            provider.signer, [Settlement(agreement.lease, Progress(), amount, kind, evidence, *signatures)]
        )

    happens: list[Callable[[], object]] = [
        {
            "settle": lambda: settle(3, Kind.DONE),
            "interim": lambda: settle(1, Kind.INTERIM),
            "claim": lambda: world.escrow.claim(provider.signer, *terms, 1, Kind.DONE, evidence),
            "release": lambda: world.escrow.release(provider.signer, *terms),
        }[meanwhile]
    ]

    def late(*arguments: Any, **named: Any) -> Any:
        if happens:
            happens.pop()()
        return stops(*arguments, **named)

    monkeypatch.setattr(Escrow, "stop", late)
    cancel(a_desk(world, record, signer, tmp_path, market=Relay(view), watcher=told))
    assert told.kinds == [kind]
    assert text in told.changes[0].text


class Matching(Relay):
    """A market that has matched the bid, and whose lease comes at the second look."""

    def __init__(self, view: wire.LeaseView) -> None:
        super().__init__(view)
        self._looks = 0

    def bid(self, _: bytes) -> wire.BidView:
        self._looks += 1
        lease = self._view.id if self._looks > 1 else None
        return wire.BidView.model_construct(state="matched", lease=lease, rejections=[], reason="")

    def withdraw_bid(self, _: bytes) -> None:
        raise MarketError("the bid is matched already and cannot be withdrawn", code="too_late")


def test_a_bid_that_is_matched_while_it_is_taken_back_has_its_lease_stopped(world: World, tmp_path: Path) -> None:
    view, record, signer = an_open_lease(world)
    record.lease, told = "", Told()
    session = Session(a_network(world, Matching(view)), Store(tmp_path), record, signer, watcher=told)
    assert session.cancel().lease == view.id
    assert told.kinds == ["stopped"]


# A bid whose answer never came


class Answered(Matching):
    """A market that has, or has not, got a bid whose answer was lost."""

    def __init__(self, view: wire.LeaseView, state: str) -> None:
        super().__init__(view)
        self._state, self.withdrawn = state, 0

    def bid(self, asked: bytes) -> wire.BidView:
        if self._state == "unknown":
            raise NotFoundError("no such bid")
        lease = self._view.id if self._state == "leased" else None
        return wire.BidView.model_construct(state=self._state, lease=lease, rejections=[], reason="")

    def withdraw_bid(self, _: bytes) -> None:
        self.withdrawn += 1


@pytest.mark.parametrize(
    ("state", "phase", "withdrawn"), [("unknown", "cancelled", 0), ("queued", "cancelled", 1), ("leased", "leased", 0)]
)
def test_a_bid_whose_answer_was_lost_is_looked_for_before_it_counts_as_cancelled(
    world: World, tmp_path: Path, state: str, phase: str, withdrawn: int
) -> None:
    view, record, signer = an_open_lease(world)
    record.lease, record.phase = "", "new"
    market = Answered(view, state)
    session = Session(a_network(world, market), Store(tmp_path), record, signer)
    assert session.cancel().phase == phase
    assert market.withdrawn == withdrawn
    assert record.is_over == (phase == "cancelled")
    head = world.chain.block().number
    on_chain = read_history(world.escrow, wire.from_hex(view.id), view.block, head).state
    assert (on_chain == "stopped") == (state == "leased")


# A deal without a market


def a_direct_client(world: World, home: Path, *, phase: str = "new", is_open: bool) -> tuple[Client, Record, str]:
    """A client whose node is gone, and whose job's lease was opened or never was."""
    consumer = world.party()
    view, record, _ = an_open_lease(world, consumer=consumer, market=consumer)
    record.lease, record.phase = "", phase
    if not is_open:
        record.id = "0x" + "ab" * 32
    store = Store(home)
    store.save(record)
    client = Client(market=NOWHERE, chain=world.url, escrow=world.escrow.address, signer=consumer.signer, store=store)
    return client, record, view.id


def test_a_direct_lease_that_is_open_is_stopped_although_the_record_knows_of_none(world: World, tmp_path: Path) -> None:
    client, _, lease = a_direct_client(world, tmp_path, is_open=True)
    with client:
        record = client.jobs()[0].cancel()
    assert (record.phase, record.lease) == ("leased", lease)
    assert read_history(world.escrow, wire.from_hex(lease), 0, world.chain.block().number).state == "stopped"


def test_a_direct_lease_that_was_never_opened_is_dropped_for_nothing(world: World, tmp_path: Path) -> None:
    client, record, _ = a_direct_client(world, tmp_path, is_open=False)
    address = client.address
    before = world.chain.balance_wei(address)
    with client:
        assert client.jobs()[0].cancel().phase == "cancelled"
    assert world.chain.balance_wei(address) == before
    assert world.escrow.seat(seat_key(wire.from_hex(record.id), address, 0)) == bytes(32)


def test_a_direct_lease_whose_opening_may_be_on_its_way_has_its_seat_closed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, record, _ = a_direct_client(world, tmp_path, is_open=False)
    address, counts = client.address, Chain.nonce
    ahead = [1]

    def pending(chain: Chain, of: str, block: Any = "pending") -> int:
        return counts(chain, of, block) + (ahead.pop() if ahead and block == "pending" else 0)

    monkeypatch.setattr(Chain, "nonce", pending)
    with client:
        assert client.jobs()[0].cancel().phase == "cancelled"
    assert world.escrow.seat(seat_key(wire.from_hex(record.id), address, 0)) == CLOSED
