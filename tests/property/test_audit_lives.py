"""The audit over lives that the compiled escrow really took, at random: all honest ones pass, no altered one does."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from suanli.audit.books import Books
from suanli.audit.facts import History, Snapshot, TermsCall
from suanli.audit.replay import replay
from suanli.audit.report import report_all, report_some
from suanli.audit.view import lines
from suanli_protocol.events import Opened
from suanli_protocol.lease import Status, lease_id
from suanli_protocol.lease_history import fold
from support.altering import alterations
from support.escrow_ledger import Ledger
from support.escrow_steps import step
from support.evm import Evm

CALLS, SAMPLE = 220, 60


@pytest.fixture(scope="module", params=[1, 2, 3])
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """A world after many random calls."""
    random, world = Random(request.param), Ledger.begin(Evm())
    assert isinstance(world, Ledger)
    for _ in range(CALLS):
        step(world, random)
    return world


def found(books: Books) -> set[str]:
    """The codes of what does not match."""
    return {check.code for check in books.checks.made if not check.ok}


def test_every_life_that_the_escrow_took_passes(ledger: Ledger) -> None:
    """Each lease stands where the model and its own events say; attempts are linked; the report says it all."""
    history = ledger.history
    books = replay(history, ledger.snapshot)
    assert [check for check in books.checks.made if not check.ok] == []
    assert [life.state for life in books.lives] == ledger.states
    said = [event for transaction in history.transactions for event in transaction.events]
    for life in books.lives:
        told = fold([event for event in said if getattr(event, "lease_id", None) == life.id])
        assert (told.state, told.paid) == (life.status, life.state.progress.paid)
        assert life.previous is None or life.previous.following is life
        assert life.state.clauses.attempt == (life.previous.state.clauses.attempt + 1 if life.previous else 1)
        assert life.state.is_open or life.split.total == life.state.lease.deposit + life.state.lease.bond
        report = report_some(history, books, [life], {})
        assert report.ok
        assert json.loads(json.dumps(report.leases[0].to_json()))["status"] == life.status
        assert any(life.id.hex() in line for line in lines(report))
    assert report_all(history, books, {}).ok


def test_the_lives_are_many_kinds(ledger: Ledger) -> None:
    """The generator is worth its name: most ways out happened, and a seat was opened again."""
    happened = Counter(state.status for state in ledger.states)
    ends = {Status.SETTLED, Status.RELEASED, Status.FINALIZED, Status.RESOLVED, Status.RECLAIMED}
    assert len(ends & happened.keys()) >= 4, happened
    assert any(state.clauses.attempt > 1 for state in ledger.states)


def test_an_arbiter_that_is_no_third_party_is_named(ledger: Ledger) -> None:
    """Exactly those leases whose arbiter is consumer, provider or market: named, and no finding."""
    books = replay(ledger.history, ledger.snapshot)
    named = {life.id for life in books.lives if life.anomalies}
    bound = {
        lease_id(state.lease)
        for state in ledger.states
        if state.clauses.arbiter in (state.lease.consumer, state.lease.provider, state.lease.market)
    }
    assert named == bound
    assert bound
    assert len(report_all(ledger.history, books, {}).anomalies) >= len(bound)


def test_whatever_is_altered_is_found(ledger: Ledger) -> None:
    """Any value of any event, any argument of a way out, and any word of the state, by itself."""
    random, history, snapshot = Random(7), ledger.history, ledger.snapshot
    every = [(where, changed, snapshot) for where, changed in _altered_facts(history)]
    every += [(where, history, changed) for where, changed in alterations(replace(snapshot, balance=0))]
    tried = [case for case in random.sample(every, min(SAMPLE, len(every))) if case[0] != ".balance"]
    missed = [where for where, facts, state in tried if not found(replay(facts, _with_money(state, snapshot)))]
    assert missed == []


def _with_money(state: Snapshot, honest: Snapshot) -> Snapshot:
    return replace(state, balance=honest.balance)


def _altered_facts(history: History) -> list[tuple[str, History]]:
    """Alterations of events, and of the arguments of the ways out that take the lease's terms."""
    cases = []
    for at, transaction in enumerate(history.transactions):
        said = [(where, replace(transaction, events=events)) for where, events in alterations(transaction.events)]
        if isinstance(transaction.call, TermsCall):
            said += [(where, replace(transaction, call=call)) for where, call in alterations(transaction.call)]
        for where, changed in said:
            if not where.endswith(".log_index"):
                made = (*history.transactions[:at], changed, *history.transactions[at + 1 :])
                cases.append((f"{at}{where}", replace(history, transactions=made)))
    return cases


def test_a_way_out_that_never_happened_is_found(ledger: Ledger) -> None:
    """Leaving any transaction out of the history, but one that opened nothing, makes findings."""
    history, snapshot = ledger.history, ledger.snapshot
    for at, transaction in enumerate(history.transactions):
        kinds = {type(event).__name__ for event in transaction.events}
        if kinds <= {"RoundCommitted", "Refused", "SettlementRefused"} or at % 5:
            continue
        less = history.transactions[:at] + history.transactions[at + 1 :]
        assert found(replay(replace(history, transactions=less), snapshot)), (at, kinds)
    assert any(isinstance(event, Opened) for one in history.transactions for event in one.events)
