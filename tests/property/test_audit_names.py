"""The name under which the audit reports each breach of a way out, on lives that the compiled escrow really took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from suanli.audit.books import Books
from suanli.audit.facts import (
    ClaimCall,
    DisputeCall,
    FinalizeCall,
    History,
    ReclaimCall,
    ReleaseCall,
    ResolveCall,
    Snapshot,
    TermsCall,
    Transaction,
)
from suanli.audit.replay import replay
from suanli_protocol.lease import Change, Claim, Dispute, Finalize, Kind, Reclaim, Release, Resolve
from suanli_protocol.messages import Bid, Offer
from suanli_protocol.openings import NO_SIGNATURE, Openings
from support import builders
from support.escrow_ledger import Ledger
from support.evm import Evm

WINDOW, SECONDS, RATE = 50, 100, 360_000


@pytest.fixture(scope="module")
def facts() -> tuple[History, Snapshot]:
    """Six leases: judged, paid as claimed, half paid in silence and opened again, reclaimed, given back."""
    world = Ledger.begin(Evm())
    assert isinstance(world, Ledger)
    consumer, provider, market, arbiter, stranger = (person.address for person in world.people)
    papers = [_papers(number, consumer, provider, market, arbiter) for number in range(5)]
    for bid, offer in papers:
        assert world.open(bid, offer, RATE) is not None
    world.pass_time(20)

    def took(index: int, change: Change, by: str, *, signed: bool = False) -> None:
        assert world.change(index, change, by, signed=signed) is not None

    for index in (0, 1, 2):
        took(index, Claim(1500, Kind.FAILED if index == 2 else Kind.DONE), provider)
    for index in (0, 2):
        took(index, Dispute(), consumer)
    took(0, Resolve(500, 100), stranger, signed=True)
    took(4, Release(), provider)
    world.pass_time(3 * WINDOW)
    took(1, Finalize(), stranger)
    took(2, Finalize(), stranger)
    took(3, Reclaim(), stranger)
    silent = world.states[2].previous
    assert silent is not None
    assert world.open(*papers[2], RATE, silent.encode()) is not None
    return world.history, world.snapshot


def _papers(number: int, consumer: str, provider: str, market: str, arbiter: str) -> tuple[Bid, Offer]:
    bid = builders.a_bid(
        consumer=consumer,
        market=market,
        arbiter=arbiter,
        seat=builders.a_seat(number),
        attempts=2,
        need=builders.a_need(cpu_milli=100, memory_mib=64, disk_mib=64).pack(),
        max_rate=RATE,
        max_seconds=SECONDS,
        window=WINDOW,
        valid_until=2**40 - 1,
    )
    return bid, builders.an_offer(provider=provider, arbiter=arbiter, valid_until=2**40 - 1)


def findings(books: Books) -> set[tuple[str, str]]:
    """Code and member of what does not match."""
    return {(check.code, check.member) for check in books.checks.made if not check.ok}


def of_first(
    facts: tuple[History, Snapshot], kind: type[object], alter: Callable[[Any], Transaction]
) -> set[tuple[str, str]]:
    """The findings once the first transaction of a call of this kind is altered."""
    history, snapshot = facts
    made = history.transactions
    at = next(number for number, one in enumerate(made) if isinstance(one.call, kind))
    changed = replace(history, transactions=(*made[:at], alter(made[at]), *made[at + 1 :]))
    return findings(replay(changed, snapshot))


def test_the_lives_as_they_were_pass(facts: tuple[History, Snapshot]) -> None:
    """Nothing altered, nothing found: the last lease is the second attempt after the third."""
    books = replay(*facts)
    assert findings(books) == set()
    assert [life.status for life in books.lives] == [
        "resolved",
        "finalized",
        "finalized",
        "reclaimed",
        "released",
        "open",
    ]
    assert books.lives[5].previous is books.lives[2]
    assert books.lives[5].state.clauses.spent == books.lives[2].state.spent == 753  # half of 1500, and the fee


def _with(**fields: Any) -> Callable[[Transaction], Transaction]:
    return lambda made: replace(made, call=replace(made.call, **fields))


def _by(sender: str) -> Callable[[Transaction], Transaction]:
    return lambda made: replace(made, sender=sender)


def _at(seconds: int) -> Callable[[Transaction], Transaction]:
    return lambda made: replace(made, timestamp=made.timestamp + seconds)


STRANGER = builders.a_signer(99).address


@pytest.mark.parametrize(
    ("kind", "alter", "code"),
    [
        (ClaimCall, _by(STRANGER), ("claim_authority", "sender")),
        (ClaimCall, _at(SECONDS + WINDOW), ("lease_too_late", "claim")),
        (ClaimCall, _with(amount=10_000), ("lease_amount", "claim")),
        (ClaimCall, _with(kind=0), ("lease_kind", "claim")),
        (ClaimCall, _with(kind=9), ("lease_kind", "claim")),
        (ClaimCall, _with(evidence=bytes(32)), ("claimed_event", "evidence")),
        (ClaimCall, _with(amount=1499), ("claimed_event", "amount")),
        (DisputeCall, _by(STRANGER), ("dispute_authority", "sender")),
        (DisputeCall, _at(WINDOW), ("lease_too_late", "dispute")),
        (ResolveCall, _with(arbiter=NO_SIGNATURE), ("arbiter_signature", "arbiter.signature")),
        (ResolveCall, _with(award=501), ("arbiter_signature", "arbiter.signature")),
        (ResolveCall, _with(award=1501), ("lease_amount", "resolve")),
        (ResolveCall, _at(3 * WINDOW), ("lease_too_late", "resolve")),
        (FinalizeCall, _at(-3 * WINDOW), ("lease_too_early", "finalize")),
        (ReclaimCall, _at(-2 * WINDOW), ("lease_too_early", "reclaim")),
        (ReleaseCall, _by(STRANGER), ("release_authority", "sender")),
        (TermsCall, _with(progress=1), ("terms", "progress")),
    ],
)
def test_a_breach_has_its_name(
    facts: tuple[History, Snapshot],
    kind: type[object],
    alter: Callable[[Transaction], Transaction],
    code: tuple[str, str],
) -> None:
    """Who may not, too early, too late, too much, another kind, another verdict."""
    assert code in of_first(facts, kind, alter)


@pytest.mark.parametrize(
    ("event", "member", "named"),
    [
        ("Claimed", "clock", "clock"),
        ("Disputed", "by", "by"),
        ("Resolved", "cost_consumer", "costConsumer"),
        ("Resolved", "cost_provider", "costProvider"),
        ("Resolved", "slash", "slash"),
        ("Finalized", "fee", "fee"),
        ("Finalized", "disputed", "disputed"),
        ("Reclaimed", "bond", "bond"),
    ],
)
def test_an_event_that_says_something_else_has_its_member(
    facts: tuple[History, Snapshot], event: str, member: str, named: str
) -> None:
    """Each member by its name on the chain."""
    history, snapshot = facts
    made = []
    for one in history.transactions:
        if type(one.events[0]).__name__ == event:
            value = getattr(one.events[0], member)
            other = STRANGER if isinstance(value, str) else not value if isinstance(value, bool) else value + 1
            told: dict[str, Any] = {member: other}
            one = replace(one, events=(replace(one.events[0], **told),))
        made.append(one)
    found = findings(replay(replace(history, transactions=tuple(made)), snapshot))
    assert found == {(f"{event.lower()}_event", named)}


def test_an_attempt_must_follow_the_one_before_it(facts: tuple[History, Snapshot]) -> None:
    """Another proof than the seat's, or none, is a taken seat; what it says of attempts and costs is compared."""
    history, snapshot = facts
    last = history.transactions[-1]
    assert isinstance(last.call, Openings)
    opening = last.call.openings[0]
    for previous in (b"", opening.fills[0].previous[:-1] + b"\x00"):
        fill = replace(opening.fills[0], previous=previous)
        call = replace(last.call, openings=(replace(opening, fills=(fill,)),))
        made = (*history.transactions[:-1], replace(last, call=call))
        codes = findings(replay(replace(history, transactions=made), snapshot))
        assert ("seat_taken", "open") in codes
        assert ("attempt", "clauses.spent") in codes
