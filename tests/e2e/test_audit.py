"""The audit against a real chain: honest lives pass; whatever is altered, in facts or on the wire, is found by name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suanli.audit import audit_all, audit_lease
from suanli.audit.books import Books
from suanli.audit.facts import History, LinkCall, SettleCall, Snapshot, StopCall
from suanli.audit.history import read_history, read_snapshot
from suanli.audit.replay import replay
from suanli.audit.view import lines
from suanli_protocol import billing
from suanli_protocol.errors import ChainUnavailableError, ConfigurationError, NotFoundError, UsageError
from suanli_protocol.events import Refused, RoundCommitted, Settled, SettlementRefused
from suanli_protocol.lease import Refusal
from suanli_protocol.openings import Fill, Openings
from support import builders
from support.altering import alterations
from support.devnet import Anvil
from support.doctored import Doctored, flip
from support.lease_lives import LeaseLives, documents, evidence_for

pytestmark = pytest.mark.e2e
SUANLI = str(Path(sys.executable).with_name("suanli"))


@pytest.fixture(scope="module")
def lives(anvil: Anvil) -> LeaseLives:
    """An escrow on which every way of a lease, and of an account, was gone once."""
    lives = LeaseLives(anvil.url, "whole")
    (settled,) = lives.open()
    lives.settle(settled, 500)
    (interim,) = lives.open()
    lives.settle(interim, 100, 0)
    lives.stop(interim, lives.guard)
    lives.settle(interim, 400, 2)
    (released,) = lives.open()
    lives.stop(released, lives.provider)
    lives.release(released)
    first, second = lives.open(lives.papers(), lives.papers())
    lives.stop(first, lives.consumer)
    expired, offer = lives.papers(valid_until=1)
    lives.escrow.open(lives.market, bytes(32), [lives.opening(expired, offer)])
    tampered = replace(lives.settlement(second, 700), amount=701)
    lives.escrow.settle(lives.market, [tampered])
    lives.escrow.withdraw(lives.provider, lives.provider.address, 1000)
    lives.escrow.link(lives.provider, lives.provider.address, lives.guard.address)
    lives.escrow.cancel(lives.consumer, lives.consumer.address, builders.a_seat(999))
    lives.escrow.bump(lives.market, lives.market.address)
    return lives


@pytest.fixture(scope="module")
def facts(lives: LeaseLives) -> tuple[History, Snapshot]:
    """History and state as any endpoint gives them."""
    history = read_history(lives.chain, lives.escrow.address)
    return history, read_snapshot(lives.chain, history)


def found(books: Books) -> set[str]:
    """The codes of what does not match."""
    return {check.code for check in books.checks.made if not check.ok}


def test_an_honest_escrow_matches_and_every_lease_has_its_status(lives: LeaseLives) -> None:
    """All ways of a lease pass, numbered in the order of their opening."""
    report = audit_all(lives.chain.url, lives.escrow.address)
    assert report.findings == ()
    assert [lease.status for lease in report.leases] == ["settled", "settled", "released", "stopped", "open"]
    assert [lease.lease.number for lease in report.leases] == [1, 2, 3, 4, 5]
    assert len(report.checks) > 300
    assert json.loads(json.dumps(report.to_json()))["ok"] is True


def test_one_lease_by_number_and_by_prefix(lives: LeaseLives) -> None:
    """Both name the same lease; its money is split to the last unit."""
    by_number = audit_lease(lives.chain.url, lives.escrow.address, "2")
    lease = by_number.leases[0].to_json()
    by_prefix = audit_lease(lives.chain.url, lives.escrow.address, lease["id"][:12])
    assert by_prefix.to_json() == by_number.to_json()
    assert by_number.ok
    assert lease["toProvider"] == "400"
    parts = ("toProvider", "toMarket", "toConsumer", "bondBack", "penalty")
    assert sum(int(lease[part]) for part in parts) == int(lease["deposit"]) + int(lease["bond"])
    assert any(line.endswith(lease["id"]) for line in lines(by_number))


def test_what_cannot_be_audited_is_said(lives: LeaseLives) -> None:
    """Unknown leases, a wrong escrow, no chain, nonsense: each has its own error."""
    url, escrow = lives.chain.url, lives.escrow.address
    with pytest.raises(NotFoundError, match="the leases 1 to 5"):
        audit_lease(url, escrow, "6")
    with pytest.raises(NotFoundError):
        audit_lease(url, escrow, "0x00000000000000")
    with pytest.raises(UsageError):
        audit_lease(url, escrow, "first")
    with pytest.raises(ConfigurationError, match="no escrow"):
        audit_lease(url, lives.guard.address, "1")
    with pytest.raises(ChainUnavailableError):
        audit_lease("http://127.0.0.1:9", escrow, "1")


def test_the_escrow_refuses_a_tampered_receipt_and_the_audit_agrees(lives: LeaseLives) -> None:
    """One unit more than was signed: SettlementRefused by the provider's signature, and nothing was paid."""
    history = read_history(lives.chain, lives.escrow.address)
    refused = [e for t in history.transactions for e in t.events if isinstance(e, SettlementRefused)]
    assert [event.refusal for event in refused] == [Refusal.PROVIDER_SIGNATURE]
    assert audit_lease(lives.chain.url, lives.escrow.address, "5").leases[0].to_json()["toProvider"] == "0"


def _changes_nothing(history: History, where: str) -> bool:
    """Values that no rule is about: names for a person, the time of a call without a clock, refused papers."""
    if where in (".symbol", ".decimals", ".block", ".block_hash") or where.endswith(".log_index"):
        return True
    at = re.match(r"\.transactions\[(\d+):", where)
    if not at:
        return False
    transaction = history.transactions[int(at[1])]
    call = transaction.call
    if where.endswith(".timestamp"):
        refused = any(isinstance(event, Refused) for event in transaction.events)
        return refused or not isinstance(call, Openings | StopCall)
    if where.endswith("].sender") and isinstance(call, SettleCall):
        return True  # anybody may bring a receipt that both signed
    if isinstance(call, LinkCall) and where.endswith(".call.signature"):
        return True  # the account itself called
    if isinstance(call, SettleCall | Openings) and ".call." in where:
        return any(isinstance(event, Refused | SettlementRefused) for event in transaction.events)
    return False


def test_every_altered_fact_is_found(facts: tuple[History, Snapshot]) -> None:
    """Each value of the history and of the state, changed by itself, makes at least one finding."""
    history, snapshot = facts
    assert found(replay(history, snapshot)) == set()
    missed, tried = [], 0
    for where, changed in alterations(history):
        if not _changes_nothing(history, where):
            tried += 1
            if not found(replay(changed, snapshot)):
                missed.append(where)
    for where, changed in alterations(replace(snapshot, balance=0)):
        tried += 1
        if where != ".balance" and not found(replay(history, replace(changed, balance=snapshot.balance))):
            missed.append(where)
    assert not missed, "\n".join(missed)
    assert tried > 500


def test_missing_doubled_and_swapped_facts_are_found(facts: tuple[History, Snapshot]) -> None:
    """Dropping, repeating or swapping transactions or events never passes."""
    history, snapshot = facts
    made = history.transactions
    for index, transaction in enumerate(made):
        if not all(isinstance(event, RoundCommitted | Refused | SettlementRefused) for event in transaction.events):
            dropped = replace(history, transactions=made[:index] + made[index + 1 :])
            assert found(replay(dropped, snapshot)), f"transaction {index} dropped"
            doubled = replace(history, transactions=(*made[: index + 1], *made[index:]))
            assert found(replay(doubled, snapshot)), f"transaction {index} doubled"
        for place in range(len(transaction.events)):
            events = transaction.events[:place] + transaction.events[place + 1 :]
            less = replace(transaction, events=events)
            without = replace(history, transactions=(*made[:index], less, *made[index + 1 :]))
            assert found(replay(without, snapshot)), f"event {place} of transaction {index} dropped"
    assert found(replay(history, replace(snapshot, balance=snapshot.balance - 1))) == {"token_balance"}


def with_offer(fill: Fill, **fields: Any) -> Fill:
    """The same fill with another offer under the old signature."""
    return replace(fill, offer=replace(fill.offer, **fields))


@pytest.mark.parametrize(
    ("code", "alter"),
    [
        ("bid_signature", lambda o: replace(o, signature=bytes([o.signature[0] ^ 1]) + o.signature[1:])),
        ("bid_signature", lambda o: replace(o, bid=replace(o.bid, guard=o.bid.market))),
        ("rate_above_bid", lambda o: replace(o, bid=replace(o.bid, max_rate=1))),
        ("budget", lambda o: replace(o, bid=replace(o.bid, budget=1))),
        ("bid_expired", lambda o: replace(o, bid=replace(o.bid, valid_until=1))),
        ("traits", lambda o: replace(o, bid=replace(o.bid, needs=1 << 63))),
        ("offer_signature", lambda o: replace(o, fills=(with_offer(o.fills[0], capacity=o.bid.need),))),
        ("capacity", lambda o: replace(o, fills=(with_offer(o.fills[0], capacity=o.bid.need - 1),))),
        ("window", lambda o: replace(o, fills=(with_offer(o.fills[0], max_window=1),))),
    ],
)
def test_a_finding_names_the_rule(facts: tuple[History, Snapshot], code: str, alter: Callable[[Any], Any]) -> None:
    """An altered bid is found under the name of the rule that it breaks."""
    history, snapshot = facts
    index = next(i for i, t in enumerate(history.transactions) if isinstance(t.call, Openings))
    transaction = history.transactions[index]
    assert isinstance(transaction.call, Openings)
    changed = replace(transaction, call=replace(transaction.call, openings=(alter(transaction.call.openings[0]),)))
    made = (*history.transactions[:index], changed, *history.transactions[index + 1 :])
    assert code in found(replay(replace(history, transactions=made), snapshot))


@pytest.fixture
def doctored(anvil: Anvil) -> Iterator[Doctored]:
    """A proxy before the devnet."""
    proxy = Doctored(anvil.url)
    yield proxy
    proxy.close()


def test_an_endpoint_that_alters_one_word_is_found_out(anvil: Anvil, doctored: Doctored) -> None:
    """Each word of the calldata of open and settle, and of every log, altered by itself."""
    lives = LeaseLives(anvil.url, "doctored")
    (lease,) = lives.open()
    lives.settle(lease, 500)
    escrow = lives.escrow.address
    assert audit_all(doctored.url, escrow).ok
    history = read_history(lives.chain, escrow)
    papers = [t.hash.hex() for t in history.transactions if isinstance(t.call, Openings | SettleCall)]
    sizes = {h: len(lives.chain.transaction(bytes.fromhex(h)).data) for h in papers}
    missed = []
    for hash_, size in sizes.items():
        for word in range((size - 4) // 32):

            def alter(method: str, result: Any, hash_: str = hash_, word: int = word) -> Any:
                if method == "eth_getTransactionByHash" and result["hash"] == "0x" + hash_:
                    data = result["input"]
                    return result | {"input": data[:10] + flip("0x" + data[10:], word)[2:]}
                return result

            doctored.alter = alter
            if audit_all(doctored.url, escrow).ok:
                missed.append((hash_[:6], word))
    assert missed == []
    doctored.alter = lambda _, result: result
    logs = lives.chain.logs(escrow, 0, history.block)
    for index, log in enumerate(logs):
        for topic in range(len(log.topics)):

            def alter_topic(method: str, result: Any, index: int = index, topic: int = topic) -> Any:
                if method == "eth_getLogs" and len(result) > index:
                    result[index]["topics"][topic] = flip(result[index]["topics"][topic], 0)
                return result

            doctored.alter = alter_topic
            assert not audit_all(doctored.url, escrow).ok, f"topic {topic} of log {index}"
        for word in range(len(log.data) // 32):

            def alter_data(method: str, result: Any, index: int = index, word: int = word) -> Any:
                if method == "eth_getLogs" and len(result) > index:
                    result[index]["data"] = flip(result[index]["data"], word)
                return result

            doctored.alter = alter_data
            assert not audit_all(doctored.url, escrow).ok, f"word {word} of log {index}"


def test_the_command_exits_as_it_says(lives: LeaseLives, doctored: Doctored, tmp_path: Path) -> None:
    """0 if all matches, 104 with the finding's name if not, 102 for an unknown lease, 6 without a chain."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SUANLI_HOME": str(tmp_path)}
        return subprocess.run(
            [SUANLI, "audit", *arguments], capture_output=True, text=True, env=environment, timeout=60
        )

    escrow = ("--escrow", lives.escrow.address)
    good = run("lease", "1", "--chain", lives.chain.url, *escrow)
    assert good.returncode == 0, good.stderr
    assert "✓ lease 1 matches" in good.stdout
    whole = run("all", "--json", "--chain", lives.chain.url, *escrow)
    assert whole.returncode == 0
    assert len(json.loads(whole.stdout)["leases"]) == 5

    def alter(method: str, result: Any) -> Any:
        if method == "eth_getLogs":
            settled = next(log for log in result if len(log["data"]) == 2 + 64 * 4)
            settled["data"] = flip(settled["data"], 0)
        return result

    doctored.alter = alter
    bad = run("lease", "1", "--json", "--chain", doctored.url, *escrow)
    assert bad.returncode == 104
    finding = json.loads(bad.stdout)["findings"][0]
    assert (finding["code"], finding["member"], finding["expected"]) == ("settled_event", "paid", "500")
    assert json.loads(bad.stderr)["code"] == "audit"
    assert run("lease", "99", "--chain", lives.chain.url, *escrow).returncode == 102
    assert run("lease", "1", "--chain", "http://127.0.0.1:9", *escrow).returncode == 6


def test_documents_prove_the_bill(anvil: Anvil, tmp_path: Path) -> None:
    """Kept documents are found by digest and the bill is recomputed; altered ones are named, absent ones listed."""
    lives = LeaseLives(anvil.url, "documents")
    job, constraints, digest = documents()
    (lease,) = lives.open(lives.papers(documents=digest))
    usage = builders.some_usage()
    bill = billing.due(lease.lease, lease.clauses, lease.offer, "capacity", usage, "ok")
    output = tmp_path / "results" / "out.txt"
    output.parent.mkdir()
    output.write_text("42\n")
    evidence = evidence_for(lease, bill.amount, bill.billed_seconds, usage)
    lives.settle(lease, bill.amount, 1, evidence.digest())
    url, escrow, kept = lives.chain.url, lives.escrow.address, tmp_path / "kept"
    bare = audit_lease(url, escrow, "1")
    assert bare.ok
    assert len(bare.unchecked) == 3
    kept.mkdir()
    record = {"job": job.to_json(), "constraints": constraints.to_json(), "evidence": evidence.to_json()}
    (kept / "record.json").write_text(json.dumps(record))
    (kept / "attributes.json").write_bytes(builders.some_attributes().canonical())
    full = audit_lease(url, escrow, "1", kept)
    assert full.ok
    assert full.unchecked == ()
    assert {"bill", "evidence_digest", "documents_digest", "attributes_digest"} <= {check.code for check in full.checks}
    cheaper = evidence.model_copy(update={"usage": builders.some_usage(wall_ms=1000)})
    (kept / "record.json").write_text(json.dumps(record | {"evidence": cheaper.to_json()}))
    altered = audit_lease(url, escrow, "1", kept)
    assert {check.code for check in altered.findings} == {"evidence_digest"}


def test_a_bill_that_both_signed_and_is_wrong_is_named(anvil: Anvil, tmp_path: Path) -> None:
    """The chain takes what both signed; the documents show that it was more than what was used."""
    lives = LeaseLives(anvil.url, "overbilled")
    job, constraints, digest = documents()
    (lease,) = lives.open(lives.papers(documents=digest))
    usage = builders.some_usage()
    bill = billing.due(lease.lease, lease.clauses, lease.offer, "capacity", usage, "ok")
    evidence = evidence_for(lease, bill.amount + 1, bill.billed_seconds, usage)
    lives.settle(lease, bill.amount + 1, 1, evidence.digest())
    record = {"job": job.to_json(), "constraints": constraints.to_json(), "evidence": evidence.to_json()}
    (tmp_path / "record.json").write_text(json.dumps(record))
    report = audit_lease(lives.chain.url, lives.escrow.address, "1", tmp_path)
    assert [(check.code, check.member) for check in report.findings] == [("bill", "amount")]


def test_settled_events_are_all_there(facts: tuple[History, Snapshot]) -> None:
    """The fixture really settles: three receipts were paid."""
    history, _ = facts
    assert sum(isinstance(event, Settled) for t in history.transactions for event in t.events) == 3
