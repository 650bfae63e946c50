"""An audit for a person to read: parties, papers, terms, money, each check, the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from suanli.audit.check import Check
from suanli.audit.lease_view import clock_time, course, parties, row, split, terms
from suanli.audit.life import LeaseLife
from suanli.audit.report import AuditReport, LeaseReport
from suanli.terminal.console import style
from suanli_protocol.documents import hex32
from suanli_protocol.units import format_money

SENTENCES = {
    "bid_signature": "the bid is signed by the consumer",
    "offer_signature": "the offer is signed by the provider",
    "bounds": "every bound of both papers held when the lease was opened",
    "opened_event": "the lease's id and terms follow from the two papers",
    "stop_authority": "it was stopped by somebody who may",
    "stopped_event": "the clock stopped at the block's time",
    "provider_signature": "each receipt is signed by the provider",
    "consumer_signature": "each receipt is signed by the consumer",
    "amount_bounds": "each amount lies between what was paid and the price",
    "settled_event": "each payment and its fee are what the receipt says",
    "terms": "each way out was taken under the lease's own terms",
    "release_authority": "it was given back by the provider",
    "released_event": "the penalty is what the clauses say",
    "claim_authority": "it was claimed by the provider",
    "claimed_event": "the claim is what the provider asked for, within the time that was used",
    "dispute_authority": "it was disputed by the consumer or its guard",
    "disputed_event": "the arbiter was called in time",
    "arbiter_signature": "the verdict is the arbiter's",
    "resolved_event": "award, slash and the arbiter's cost are what the verdict and the rules say",
    "finalized_event": "it was finalized after its time, and what was paid is what the claim allows",
    "reclaimed_event": "it was reclaimed after its time, with the whole bond",
    "attempt": "the attempts at its seat follow each other, and each bears what the earlier ones cost",
    "split": "deposit and bond are split to the last unit",
    "seat_word": "the escrow holds exactly this state at the lease's seat",
    "account": "the parties' accounts replay from their first deposit to the state on chain",
    "token_balance": "the escrow's tokens cover all that is free or locked",
    "attributes_digest": "the provider's attributes are those that the offer names",
    "documents_digest": "job and constraints are those that the bid names",
    "evidence_digest": "the evidence is the one that the receipt or the claim names",
    "evidence_amount": "the evidence is about the amount that was asked for",
    "evidence_billing": "it was billed in the mode that the job asks for",
    "evidence_time": "no more time was billed than there was",
    "bill": "the bill, recomputed from the metered usage, is the amount that was asked for",
    "output_digest": "the output files here are those that were delivered",
}


def lines(report: AuditReport) -> Iterator[str]:
    """The whole report; a single lease in full, several in a table."""
    if len(report.leases) == 1:
        yield from _lease(report, report.leases[0])
    else:
        yield from _table(report)
    for number, anomaly in report.anomalies:
        yield f"{style('!', 'yellow')} {style(anomaly.code, 'yellow', bold=True)}  lease {number}: {anomaly.text}"
    yield ""
    yield from _verdict(report)


def _lease(report: AuditReport, found: LeaseReport) -> Iterator[str]:
    yield row(f"Lease {found.lease.number}", found.status)
    yield row("", hex32(found.lease.id))
    if isinstance(found.lease, LeaseLife):
        yield from parties(found.lease)
        yield from terms(report, found.lease)
        yield from course(report, found.lease)
        yield from split(report, found.lease)
    yield ""
    yield from _checks(found.checks)
    for number, text in enumerate(found.unchecked):
        yield row("" if number else "Unchecked", style(f"– {text}", dim=True))


def _checks(checks: Iterable[Check]) -> Iterator[str]:
    """One line for each rule that holds, three for each finding."""
    by_code: dict[str, list[Check]] = {}
    for check in checks:
        by_code.setdefault(check.code, []).append(check)
    for code in (*SENTENCES, *(code for code in by_code if code not in SENTENCES)):
        made = by_code.get(code, [])
        failed = [check for check in made if not check.ok]
        if made and not failed and code in SENTENCES:
            yield f"{style('✓', 'green')} {SENTENCES[code]}"
        for check in failed:
            yield from _finding(check)


def _finding(check: Check) -> Iterator[str]:
    where = f" of {check.subject.account}" if check.subject.account else ""
    yield f"{style('✗', 'red')} {style(check.code, 'red', bold=True)}  {check.member}{where}"
    yield f"    the rules say  {check.expected}"
    yield f"    the ledger has {check.found}"
    if check.subject.transaction is not None:
        yield style(f"    in transaction {hex32(check.subject.transaction)}", dim=True)


def _table(report: AuditReport) -> Iterator[str]:
    history = report.history
    yield style(f"{'Lease':>5}  {'Status':9}  {'Attempt':>7}  {'Opened':23}  {'Paid':>12}  {'Fee':>12}  Id", bold=True)
    for found in report.leases:
        mark = style("✓", "green") if found.ok else style("✗", "red")
        life, id_ = found.lease, hex32(found.lease.id)[:18]
        paid = fee = opened = attempt = ""
        if isinstance(life, LeaseLife):
            paid = format_money(life.split.to_provider, history.decimals, places=history.decimals)
            fee = format_money(life.split.to_market, history.decimals, places=history.decimals)
            opened = clock_time(life.opened.timestamp)
            attempt = str(life.state.clauses.attempt)
        yield f"{life.number:>5}  {found.status:9}  {attempt:>7}  {opened:23}  {paid:>12}  {fee:>12}  {id_} {mark}"
    yield ""
    yield from _checks(report.checks)
    if report.unchecked:
        yield style(f"– {len(report.unchecked)} documents are not here and were not checked", dim=True)


def _verdict(report: AuditReport) -> Iterator[str]:
    history, count = report.history, len(report.checks)
    about = f"lease {report.leases[0].lease.number}" if len(report.leases) == 1 else _count(len(report.leases), "lease")
    where = f"read from chain {history.domain.chain_id}, escrow {history.domain.escrow}, up to block {history.block}"
    if report.ok:
        said = f"Verdict   ✓ {about} {_match(report)} in all {count} checks"
        yield style(said, "green", bold=True)
    else:
        findings = _count(len(report.findings), "finding")
        yield style(f"Verdict   ✗ {about}: {findings} in {count} checks", "red", bold=True)
    yield style(f"          {where}", dim=True)


def _match(report: AuditReport) -> str:
    return "matches" if len(report.leases) == 1 else "match"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
