"""Job and inputs are sealed for a lease that the chain has and that runs; whatever the market still says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from suanli.session import standing
from suanli.session.agreement import Agreement, NotYetOnChainError, read_agreement
from suanli.session.handover import hand_over
from suanli_protocol.errors import IntegrityError
from suanli_protocol.lease import Kind, Progress, lease_id
from support.consumer_desk import Told, a_desk, an_open_lease
from support.devnet import Anvil
from support.market import Party, World, a_world

Change = Callable[[World, Party, Agreement], object]
CHANGES: dict[str, Change] = {
    "stopped": lambda world, provider, it: world.escrow.stop(provider.signer, it.lease, it.clauses, Progress()),
    "released": lambda world, provider, it: world.escrow.release(provider.signer, it.lease, it.clauses, Progress()),
    "claimed": lambda world, provider, it: world.escrow.claim(
        provider.signer, it.lease, it.clauses, Progress(), 0, Kind.FAILED, bytes(32)
    ),
}


@pytest.fixture(scope="module")
def world(anvil: Anvil) -> World:
    return a_world(anvil)


@pytest.mark.parametrize("state", CHANGES)
def test_nothing_is_sent_for_a_lease_that_moved_before_the_market_knows(
    world: World, tmp_path: Path, state: str
) -> None:
    provider, told = world.party(), Told()
    view, record, signer = an_open_lease(world, provider=provider)
    agreement = read_agreement(view, world.escrow.domain, signer.address)
    CHANGES[state](world, provider, agreement)
    desk = a_desk(world, record, signer, tmp_path, watcher=told)  # its market must not be asked for anything
    for _ in range(2):
        hand_over(desk, agreement)
    assert [change.text for change in told.changes] == [f"nothing is sent: by the chain the lease is {state}"]
    assert desk.record.delivered == []


def test_a_lease_whose_seat_holds_another_is_waited_for(world: World, tmp_path: Path) -> None:
    """As after a reorganisation: the same papers were opened at another time."""
    view, record, signer = an_open_lease(world)
    true = read_agreement(view, world.escrow.domain, signer.address)
    other = replace(true.lease, clauses=b"\x01" * 32)
    with pytest.raises(NotYetOnChainError):
        hand_over(a_desk(world, record, signer, tmp_path), replace(true, id=lease_id(other), lease=other))


def test_an_endpoint_whose_events_and_word_disagree_is_not_believed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "PAUSE_S", 0.01)
    view, record, signer = an_open_lease(world)
    agreement = read_agreement(view, world.escrow.domain, signer.address)
    monkeypatch.setattr(type(world.escrow), "seat", lambda *_, **__: b"\x07" * 32)
    with pytest.raises(IntegrityError, match="events make"):
        hand_over(a_desk(world, record, signer, tmp_path), agreement)


def test_word_and_events_that_disagree_for_a_moment_are_read_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "PAUSE_S", 0.01)
    provider, told = world.party(), Told()
    view, record, signer = an_open_lease(world, provider=provider)
    agreement = read_agreement(view, world.escrow.domain, signer.address)
    CHANGES["claimed"](world, provider, agreement)
    true, words = world.escrow.seat, [b"\x07" * 32, b"\x07" * 32]
    monkeypatch.setattr(type(world.escrow), "seat", lambda _, key, **at: words.pop() if words else true(key, **at))
    hand_over(a_desk(world, record, signer, tmp_path, watcher=told), agreement)
    assert [change.kind for change in told.changes] == ["notice"]
