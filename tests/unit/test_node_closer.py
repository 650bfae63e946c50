"""The closer: what is due is done in time, whatever the relay does; nothing is kept of leases that are gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from suanli_node.leases import inquiry
from suanli_node.leases.closer import Closer
from suanli_node.leases.closing import silence_s
from suanli_node.leases.record import LeaseRecord, Step
from suanli_node.leases.standing import Place, Standing
from suanli_node.leases.verification import Assignment, read_assignment
from suanli_protocol import wire
from suanli_protocol.chain_records import TxReceipt
from suanli_protocol.errors import ChainUnavailableError, UnreachableError
from suanli_protocol.messages import Receipt
from support import builders
from support.leases import an_opened_lease
from support.node import eventually

WINDOW = 600
SIGNED = builders.NOW + 60
DUE = SIGNED + silence_s(WINDOW)
MINED = TxReceipt(bytes(32), 1, 40_000, 2, 7, bytes(32), "", ())


@dataclass
class Run:
    """A lease whose receipt is signed."""

    record: LeaseRecord
    assignment: Assignment

    def countersigned(self, signature: str) -> None:
        self.record.countersignature, self.record.countersigned_at = signature, SIGNED + 1


@dataclass
class Relay:
    """Says what the test wants, or keeps one waiting until `free` is set."""

    countersignature: str = ""
    away: bool = False
    free: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)

    def lease(self, lease: bytes) -> Any:
        self.asked.append(wire.to_hex(lease))
        self.free.wait(30)
        if self.away:
            raise UnreachableError("the market is away")
        return type("View", (), {"countersignature": self.countersignature})


@dataclass
class Book:
    """The escrow: every lease is open until something is done about it."""

    clock: int = SIGNED
    done: list[tuple[str, str]] = field(default_factory=list)
    away: bool = False

    def now(self) -> int:
        return self.clock

    def latest(self, assignment: Assignment) -> Standing:
        if self.away:
            raise ChainUnavailableError("gone")
        closed = any(lease == assignment.id.hex() for _, lease in self.done)
        return Standing(Place.CLOSED if closed else Place.OPEN)

    def claim(self, assignment: Assignment, receipt: Receipt, amount: int) -> TxReceipt:
        assert amount == receipt.amount
        self.done.append(("claim", assignment.id.hex()))
        return MINED

    def settle(self, assignment: Assignment, signed: wire.SignedReceipt, countersignature: str) -> TxReceipt:
        assert countersignature
        self.done.append(("settle", assignment.id.hex()))
        return MINED


@dataclass
class Scene:
    """A closer over some leases."""

    relay: Relay
    book: Book
    closer: Closer
    runs: list[Run]

    def look(self) -> None:
        self.closer.look(self.runs)  # type: ignore[arg-type]

    @property
    def moves(self) -> list[str]:
        return [move for move, _ in self.book.done]


def a_run(number: int) -> Run:
    opened = an_opened_lease(window=WINDOW, seat=bytes([number]) * 32)
    assignment = read_assignment(opened.view, builders.provider().address, builders.a_domain())
    receipt = Receipt(opened.id, 5, 1, bytes(32))
    signed = wire.SignedReceipt(receipt=wire.paper_to_json(receipt), signature="0x" + "11" * 64, evidence={})
    return Run(LeaseRecord(opened.view, step=Step.POSTED, reason="ok", signed=signed, signed_at=SIGNED), assignment)


@pytest.fixture
def scene() -> Iterator[Scene]:
    relay, book = Relay(), Book()
    services: Any = type("Services", (), {"relay_of": staticmethod(lambda _: relay)})
    ledger: Any = book
    yield Scene(relay, book, Closer(services, ledger, lambda _: None), [a_run(number) for number in range(1, 21)])
    relay.free.set()


def test_a_relay_that_never_answers_holds_up_no_claim(scene: Scene) -> None:
    """Twenty leases, all due, and before that each was asked about once: no answer ever comes."""
    scene.book.clock = DUE - 30
    scene.look()
    eventually(lambda: scene.relay.asked, "the first question")
    assert scene.moves == []
    scene.book.clock = DUE
    scene.look()
    assert scene.moves == ["claim"] * 20
    assert len(scene.relay.asked) <= inquiry.THREADS


def test_a_lease_that_cannot_be_looked_at_keeps_no_other_from_its_pay(scene: Scene) -> None:
    scene.runs[0].record.signed = None  # as of one that was claimed by a former process, whose claim was taken back
    scene.book.clock = DUE
    scene.look()
    assert scene.moves == ["claim"] * 19
    scene.look()
    assert scene.moves == ["claim"] * 19


def test_the_relays_answer_is_heard_and_settled_in_its_time(scene: Scene) -> None:
    scene.runs = scene.runs[:1]
    scene.relay.countersignature = "0x" + "22" * 64
    scene.relay.free.set()
    scene.book.clock = SIGNED + 30
    scene.look()
    eventually(lambda: scene.runs[0].record.countersignature, "the consumer's signature")
    scene.look()
    assert scene.moves == [], "the market has a while to settle it itself"
    scene.book.clock = DUE
    scene.look()
    assert scene.moves == ["settle"]


def test_a_relay_that_is_away_is_left_alone_for_a_while(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.relay.away = True
    scene.relay.free.set()
    scene.book.clock = SIGNED + 30
    scene.look()
    eventually(lambda: scene.relay.asked, "the first question")
    eventually(lambda: not scene.closer._inquiries._asking, "all of them")
    asked = len(scene.relay.asked)
    assert asked <= inquiry.THREADS
    scene.closer.hurry()
    scene.look()
    eventually(lambda: not scene.closer._inquiries._asking, "the second round")
    assert len(scene.relay.asked) == asked
    later = time.monotonic() + inquiry.AWAY_S
    monkeypatch.setattr(inquiry.time, "monotonic", lambda: later)
    scene.closer.hurry()
    scene.look()
    eventually(lambda: len(scene.relay.asked) > asked, "a question after it")


def test_nothing_is_kept_of_a_lease_that_is_gone(scene: Scene) -> None:
    scene.book.clock = SIGNED + 30
    scene.look()
    assert len(scene.closer._next) == 20
    scene.runs = scene.runs[:1]
    scene.look()
    assert len(scene.closer._next) == 1


def test_a_hurry_from_another_thread_disturbs_no_look(scene: Scene) -> None:
    """The times of leases are the closer's own; others only say that they should be looked at."""
    scene.book.away = True
    halt = threading.Event()

    def hurry() -> None:
        while not halt.is_set():
            scene.closer.hurry()

    hurrying = threading.Thread(target=hurry)
    hurrying.start()
    try:
        for second in range(30):
            scene.book.clock = DUE + second
            scene.look()
    finally:
        halt.set()
        hurrying.join()
    scene.book.away = False
    scene.closer.hurry()
    scene.look()
    assert scene.moves == ["claim"] * 20
