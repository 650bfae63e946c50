"""The sections of one lease's audit for a person: parties, terms, course, money. Lines of text, nothing judged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from suanli.audit.facts import Transaction
from suanli.audit.life import LeaseLife, Step
from suanli.audit.report import AuditReport, end_of
from suanli.terminal.console import style
from suanli_protocol.capacity import Lanes
from suanli_protocol.documents import hex32
from suanli_protocol.lease import Claim, Kind, Resolve, Settle, stake_down
from suanli_protocol.messages import ZERO_ADDRESS
from suanli_protocol.units import format_cores, format_duration, format_mib, format_money

LABEL = 10


def row(label: str, *cells: str) -> str:
    """A line under a label."""
    return style(label.ljust(LABEL), bold=True) + "  ".join(cells)


def _money(report: AuditReport, amount: int) -> str:
    """An amount, all decimals, in a column."""
    return format_money(amount, report.history.decimals, places=report.history.decimals).rjust(16)


def clock_time(seconds: int) -> str:
    """A block's time in this machine's zone."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def parties(life: LeaseLife) -> Iterator[str]:
    """Who they are, and the papers that bind them."""
    lease, clauses = life.state.lease, life.state.clauses
    yield ""
    yield row("Parties", "consumer ", lease.consumer)
    yield row("", "provider ", lease.provider)
    yield row("", "market   ", lease.market)
    if clauses.arbiter != ZERO_ADDRESS:
        yield row("", "arbiter  ", clauses.arbiter)
    yield row("Papers", "bid      ", hex32(clauses.bid))
    yield row("", "offer    ", hex32(clauses.offer))
    for step in life.steps:
        if step.evidence:
            yield row("", "verdict  " if isinstance(step.change, Resolve) else "evidence ", hex32(step.evidence))


def terms(report: AuditReport, life: LeaseLife) -> Iterator[str]:
    """What was agreed, and which attempt of its seat it is."""
    lease, clauses, history = life.state.lease, life.state.clauses, report.history
    rate = format_money(clauses.rate, history.decimals)
    yield ""
    yield row("Terms", f"{_need(Lanes.unpack(lease.need))}, for at most {format_duration(clauses.max_seconds)}")
    yield row("", f"{rate} {history.symbol} per hour, at least {format_duration(clauses.min_seconds)} are billed")
    yield row("", f"market fee {lease.fee_bps / 100:g} % of what is paid")
    if clauses.attempts > 1:
        yield row("", _attempt(report, life))


def _attempt(report: AuditReport, life: LeaseLife) -> str:
    """Which attempt of its seat the lease is, and the leases beside it."""
    clauses, parts = life.state.clauses, []
    parts += [f"after lease {life.previous.number}"] if life.previous else []
    parts += [f"followed by lease {life.following.number}"] if life.following else []
    parts += [f"{format_money(clauses.spent, report.history.decimals)} spent before"] if clauses.spent else []
    return ", ".join([f"attempt {clauses.attempt} of at most {clauses.attempts}", *parts])


def _need(need: Lanes) -> str:
    cores = format_cores(need.cpu_milli)
    parts = [f"{cores} core" if cores == "1" else f"{cores} cores", f"{format_mib(need.memory_mib)} memory"]
    parts += [f"{format_cores(need.accelerator_milli)} accelerators"] if need.accelerator_milli else []
    parts += [f"{format_mib(need.disk_mib)} disk"] if need.disk_mib else []
    return ", ".join(parts)


def course(report: AuditReport, life: LeaseLife) -> Iterator[str]:
    """What happened to the lease, in the order of the chain."""
    yield ""
    yield from _happened("Opened", life.opened)
    for step in life.steps:
        asked = _asked(report, step)
        yield from _happened(_named(step), step.transaction, *([asked] if asked else []))
    if not life.state.is_open:
        yield row("", end_of(life))


def _happened(label: str, made: Transaction, *more: str) -> Iterator[str]:
    yield row(label, clock_time(made.timestamp), f"block {made.block}", *more)
    yield row("", style(hex32(made.hash), dim=True))


def _named(step: Step) -> str:
    """A step in one word."""
    match step.change:
        case Settle(kind=Kind.INTERIM):
            return "Paid"
        case _:
            return str(step.after.status).capitalize()


def _asked(report: AuditReport, step: Step) -> str:
    """The amounts that a step was about."""

    def money(amount: int) -> str:
        return f"{format_money(amount, report.history.decimals)} {report.history.symbol}"

    match step.change:
        case Settle(amount) | Claim(amount):
            return money(amount)
        case Resolve(award, slash):
            return f"{money(award)} awarded" + (f", {money(slash)} of the bond to be taken" if slash else "")
        case _:
            return ""


def split(report: AuditReport, life: LeaseLife) -> Iterator[str]:
    """Where deposit and bond came from and went to, to the last unit."""
    lease, split = life.state.lease, life.split
    rows = [
        ("Locked", "price, the most it can cost", lease.price),
        ("", "fee on the price", lease.deposit - lease.price - stake_down(lease.price)),
        ("", "consumer's stake", stake_down(lease.price)),
        ("", "provider's bond", lease.bond),
        ("Paid", "provider, for what was used", split.to_provider),
        ("", "market fee", split.to_market),
        ("Returned", "to the consumer", split.to_consumer + split.penalty),
        ("", "to the provider (bond)", split.bond_back),
    ]
    rows += [("Arbiter", "cost of the dispute", split.to_arbiter)] if split.to_arbiter else []
    rows += [("Held", "still locked", life.state.locked)] if life.state.is_open else []
    first = rows[0][1]
    yield ""
    for label, what, amount in rows:
        yield row(
            label, what.ljust(28), _money(report, amount) + (f" {report.history.symbol}" if what == first else "")
        )
    if split.penalty:
        yield row("", f"{format_money(split.penalty, report.history.decimals)} went from the bond to the consumer")
