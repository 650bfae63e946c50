"""The audit of every way out on a real chain whose time is moved: each ends as it must, and no altered one passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from suanli.audit import audit_all, audit_lease
from suanli.audit.calls import read_call
from suanli.audit.facts import CancelCall, ClaimCall, DisputeCall, FinalizeCall, ReclaimCall, ResolveCall
from suanli.audit.history import read_history, read_snapshot
from suanli.audit.life import LeaseLife
from suanli.audit.replay import replay
from suanli.audit.view import lines
from suanli.cli import cli
from suanli.terminal.failure import exit_status
from suanli_protocol import billing
from support import builders
from support.devnet import start_anvil
from support.doctored import Doctored, flip
from support.lease_lives import LeaseLives, Live, documents, evidence_for

pytestmark = pytest.mark.e2e
WINDOW = 60
ENDS = [
    ("finalized", "nobody disputed"),
    ("resolved", "the arbiter judged"),
    ("resolved", "the arbiter judged"),
    ("finalized", "the arbiter was silent"),
    ("settled", "both sides signed"),
    ("reclaimed", "the provider vanished"),
    ("finalized", "nobody disputed"),
    ("released", "gave it back"),
    ("settled", "both sides signed"),
    ("open", ""),
    ("open", ""),
    ("claimed", ""),
    ("disputed", ""),
]


@pytest.fixture(scope="module")
def lives() -> Iterator[LeaseLives]:
    """A chain of its own, as its time is moved."""
    with start_anvil() as anvil:
        yield LeaseLives(anvil.url, "ways out")


@pytest.fixture(scope="module", autouse=True)
def kept(lives: LeaseLives, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every way out, gone once; the folder holds the documents of lease 1, claimed as used, and 7, claimed too high."""
    folder = tmp_path_factory.mktemp("kept")
    honest, slashed, awarded, silent, agreed, vanished, _, returned, *_ = made = lives.open(*_papers(lives))
    overbilled = made[6]
    lives.settle(awarded, 50, 0)
    lives.pass_time(120)
    _claim_with_documents(lives, honest, folder / "honest")
    _claim_with_documents(lives, overbilled, folder / "overbilled", more=1)
    for live in (slashed, awarded, agreed):
        lives.claim(live, 300)
    lives.claim(silent, 300, 2)
    lives.dispute(slashed, lives.guard)
    for live in (awarded, silent):
        lives.dispute(live, lives.consumer)
    lives.resolve(slashed, 0, 100, by=lives.market)
    lives.resolve(awarded, 200, 0)
    lives.settle(agreed, 250)
    lives.release(returned)
    again = lives.reopen(returned)
    lives.settle(again, 10, 2)
    lives.stop(vanished, lives.consumer)
    lives.pass_time(WINDOW)
    lives.finalize(honest, lives.guard)
    lives.finalize(overbilled, lives.provider)
    lives.reclaim(vanished, lives.guard)
    assert vanished.state.previous is not None
    seat, proof = vanished.bid.seat, vanished.state.previous.encode()
    lives.escrow.cancel(lives.consumer, lives.consumer.address, seat, 0, proof)
    lives.pass_time(2 * WINDOW)
    lives.finalize(silent, lives.consumer)
    lives.reopen(silent)
    lives.reopen(again)
    claimed, disputed = lives.open(*_papers(lives)[:2])
    for live in (claimed, disputed):
        lives.claim(live, 0)
    lives.dispute(disputed, lives.guard)
    return folder


def _papers(lives: LeaseLives) -> list[tuple[Any, Any]]:
    """Eight pairs under the arbiter, but the seventh under the market as arbiter."""
    _, _, digest = documents()
    fields: dict[str, Any] = {"window": WINDOW, "documents": digest, "attempts": 3}
    fields |= {"valid_until": lives.now + 10**6, "offer_valid_until": lives.now + 10**6}
    fields |= {"need": builders.a_need(cpu_milli=300, memory_mib=256, disk_mib=256).pack()}
    judges = [lives.arbiter.address] * 6 + [lives.market.address, lives.arbiter.address]
    return [lives.papers(**fields, arbiter=judge, offer_arbiter=judge) for judge in judges]


def _claim_with_documents(lives: LeaseLives, live: Live, folder: Path, more: int = 0) -> None:
    job, constraints, _ = documents()
    usage = builders.some_usage()
    bill = billing.due(live.lease, live.clauses, live.offer, "capacity", usage, "ok")
    evidence = evidence_for(live, bill.amount + more, bill.billed_seconds, usage)
    lives.claim(live, bill.amount + more, 1, evidence.digest())
    folder.mkdir()
    record = {"job": job.to_json(), "constraints": constraints.to_json(), "evidence": evidence.to_json()}
    (folder / "record.json").write_text(json.dumps(record))


def test_every_way_out_matches(lives: LeaseLives) -> None:
    """All leases and accounts, the arbiter's among them; each lease says how it ended and which lease is beside it."""
    report = audit_all(lives.chain.url, lives.escrow.address)
    assert report.findings == ()
    told = [lease.to_json() for lease in report.leases]
    assert [lease["status"] for lease in told] == [status for status, _ in ENDS]
    assert all(
        end in lease["end"] and bool(end) == bool(lease["end"]) for lease, (_, end) in zip(told, ENDS, strict=True)
    )
    linked = [(lease["previous"], lease["number"], lease["following"]) for lease in told if lease["attempt"] > 1]
    assert linked == [(8, 9, 11), (4, 10, None), (9, 11, None)]
    assert [lease["attempt"] for lease in told[8:11]] == [2, 2, 3]
    assert int(told[10]["spentBefore"]) == 10
    assert [number for number, _ in report.anomalies] == [7]
    costs = [int(lease["toArbiter"]) for lease in told]
    assert [number for number, cost in enumerate(costs, 1) if cost] == [2, 3]
    assert lives.escrow.account(lives.arbiter.address).free == sum(costs)
    assert int(told[1]["penalty"]) == 100
    assert int(told[5]["penalty"]) == int(told[5]["bond"])


def test_each_lease_by_itself_exits_with_0(lives: LeaseLives, capsys: pytest.CaptureFixture[str]) -> None:
    """`audit lease N` of every kind, for a person; an odd arbiter is named, and is no finding."""
    place = ("--chain", lives.chain.url, "--escrow", lives.escrow.address)
    for number, (status, end) in enumerate(ENDS, 1):
        assert exit_status(cli, ["audit", "lease", str(number), *place]) == 0
        shown = capsys.readouterr().out
        assert f"✓ lease {number} matches" in shown
        assert status in shown
        assert end in shown
        assert ("arbiter_is_party" in shown) == (number == 7)


def test_a_job_is_audited_with_all_of_its_attempts(lives: LeaseLives, capsys: pytest.CaptureFixture[str]) -> None:
    """One lease was given back, a later one is the next attempt at its seat."""
    where = ("--chain", lives.chain.url, "--escrow", lives.escrow.address)
    everything = audit_all(lives.chain.url, lives.escrow.address).leases
    again = next(found.lease for found in everything if isinstance(found.lease, LeaseLife) and found.lease.previous)
    assert again.previous is not None
    seat, numbers = "0x" + again.bid.seat.hex(), (again.previous.number, again.number)
    assert exit_status(cli, ["audit", "job", seat[:14], *where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(lease["number"], lease["attempt"], lease["status"]) for lease in found["leases"]] == [
        (numbers[0], 1, "released"),
        (numbers[1], 2, "settled"),
        (11, 3, "open"),
    ]
    assert found["leases"][1]["spentBefore"] == "0"
    assert exit_status(cli, ["audit", "job", seat, *where]) == 0
    shown = capsys.readouterr().out
    assert "3 leases match" in shown
    assert "attempts at its seat follow each other" in shown
    assert exit_status(cli, ["audit", "job", "0x77", *where]) == 102
    assert exit_status(cli, ["audit", "job", "nobody", *where]) == 2


def test_a_claim_stands_on_its_evidence(lives: LeaseLives, kept: Path) -> None:
    """With the documents the claimed bill is recomputed: one base unit too much is found, though nobody disputed it."""
    url, escrow = lives.chain.url, lives.escrow.address
    honest = audit_lease(url, escrow, "1", kept)
    assert honest.ok
    assert {"bill", "evidence_digest", "evidence_amount", "documents_digest"} <= {check.code for check in honest.checks}
    overbilled = audit_lease(url, escrow, "7", kept)
    assert [(check.code, check.member) for check in overbilled.findings] == [("bill", "amount")]
    assert any("bill" in line and "✗" in line for line in lines(overbilled))


@pytest.fixture
def doctored(lives: LeaseLives) -> Iterator[Doctored]:
    """A proxy before the chain."""
    proxy = Doctored(lives.chain.url)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("name", ["Claimed", "Disputed", "Resolved", "Finalized", "Reclaimed"])
def test_an_altered_event_is_named(
    lives: LeaseLives, doctored: Doctored, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last word of the first event of each kind, changed on its way: the audit of its lease exits with 104."""
    history = read_history(lives.chain, lives.escrow.address)
    said = [event for transaction in history.transactions for event in transaction.events]
    first = next(event for event in said if type(event).__name__ == name)
    at = (hex(first.block), hex(first.log_index))

    def alter(method: str, result: Any) -> Any:
        if method == "eth_getLogs":
            for log in result:
                if (log["blockNumber"], log["logIndex"]) == at:
                    log["data"] = flip(log["data"], len(log["data"]) // 64 - 1)
        return result

    doctored.alter, lease = alter, first.lease_id  # type: ignore[attr-defined]
    arguments = ["audit", "lease", "0x" + lease.hex(), "--json", "--chain", doctored.url]
    assert exit_status(cli, [*arguments, "--escrow", lives.escrow.address]) == 104
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [finding["code"] for finding in findings] == [f"{name.lower()}_event"]


def test_altered_papers_of_a_way_out_are_found(lives: LeaseLives) -> None:
    """Each word of the calldata of claim, dispute, resolve, finalize, reclaim and of a proven cancel, by itself."""
    escrow, history = lives.escrow.address, read_history(lives.chain, lives.escrow.address)
    snapshot, made = read_snapshot(lives.chain, history), history.transactions
    kinds = (ClaimCall, DisputeCall, ResolveCall, FinalizeCall, ReclaimCall, CancelCall)
    missed, tried = [], 0
    for kind in kinds:
        at = next(number for number, one in enumerate(made) if isinstance(one.call, kind))
        sent = lives.chain.transaction(made[at].hash).data
        for word in range((len(sent) - 4) // 32):
            data = sent[:4] + bytes.fromhex(flip("0x" + sent[4:].hex(), word)[2:])
            altered = replace(made[at], call=read_call(escrow, escrow, data))
            books = replay(replace(history, transactions=(*made[:at], altered, *made[at + 1 :])), snapshot)
            tried += 1
            if all(check.ok for check in books.checks.made):
                missed.append((kind.__name__, word))
    assert missed == [
        ("CancelCall", 4)
    ]  # the proof's length: calldata that nobody can read says no less than the event
    assert tried > 100
