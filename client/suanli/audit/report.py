"""What an audit found, as data: the leases, every check, what could not be checked, the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from suanli.audit.books import Books
from suanli.audit.check import Check
from suanli.audit.facts import History
from suanli.audit.life import Anomaly, LeaseLife, Step, UnreadLease
from suanli_protocol.documents import hex32
from suanli_protocol.errors import NotFoundError, UsageError
from suanli_protocol.lease import Claim, Reclaim, Release, Resolve, Settle, Status


@dataclass(frozen=True)
class LeaseReport:
    """One lease with all checks that are about it."""

    lease: LeaseLife | UnreadLease
    checks: tuple[Check, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything that was checked matches."""
        return all(check.ok for check in self.checks)

    @property
    def status(self) -> str:
        """As the escrow's rules name it; unread if its papers are not to be had."""
        return str(self.lease.status) if isinstance(self.lease, LeaseLife) else "unread"

    @property
    def anomalies(self) -> tuple[Anomaly, ...]:
        """What is odd about it, though allowed."""
        return tuple(self.lease.anomalies) if isinstance(self.lease, LeaseLife) else ()

    def to_json(self) -> dict[str, Any]:
        """The lease as JSON values; money in base units as decimal text."""
        head: dict[str, Any] = {
            "number": self.lease.number,
            "id": hex32(self.lease.id),
            "status": self.status,
            "ok": self.ok,
            "checks": len(self.checks),
            "findings": [check.to_json() for check in self.checks if not check.ok],
            "anomalies": [{"code": one.code, "text": one.text} for one in self.anomalies],
            "notChecked": list(self.unchecked),
        }
        return head | (_life_json(self.lease) if isinstance(self.lease, LeaseLife) else {})


def _life_json(life: LeaseLife) -> dict[str, Any]:
    lease, clauses, split = life.state.lease, life.state.clauses, life.split
    return {
        "consumer": lease.consumer,
        "provider": lease.provider,
        "market": lease.market,
        "bid": hex32(clauses.bid),
        "offer": hex32(clauses.offer),
        "documents": hex32(life.bid.documents),
        "attributes": hex32(life.offer.attributes),
        "guard": clauses.guard,
        "arbiter": clauses.arbiter,
        "attempt": clauses.attempt,
        "attempts": clauses.attempts,
        "spentBefore": str(clauses.spent),
        "previous": life.previous.number if life.previous else None,
        "following": life.following.number if life.following else None,
        "rate": str(clauses.rate),
        "seconds": clauses.max_seconds,
        "window": clauses.window,
        "openedAt": clauses.opened_at,
        "price": str(lease.price),
        "deposit": str(lease.deposit),
        "bond": str(lease.bond),
        "feeBps": lease.fee_bps,
        "opened": {"block": life.opened.block, "transaction": hex32(life.opened.hash)},
        "receipts": [
            {
                "amount": str(payment.amount),
                "kind": int(payment.kind),
                "evidence": hex32(payment.evidence),
                "block": payment.transaction.block,
                "transaction": hex32(payment.transaction.hash),
            }
            for payment in life.payments
        ],
        "steps": [_step_json(step) for step in life.steps],
        "end": end_of(life),
        "toProvider": str(split.to_provider),
        "toMarket": str(split.to_market),
        "toConsumer": str(split.to_consumer),
        "bondBack": str(split.bond_back),
        "penalty": str(split.penalty),
        "toArbiter": str(split.to_arbiter),
        "locked": str(life.state.locked),
    }


def _step_json(step: Step) -> dict[str, Any]:
    """A step with what it asked for; money in base units as decimal text."""
    change = step.change
    asked = {name: getattr(change, name) for name in ("amount", "award", "slash") if hasattr(change, name)}
    return {
        "change": type(change).__name__.lower(),
        "status": str(step.after.status),
        **{name: str(amount) for name, amount in asked.items()},
        **({"kind": int(change.kind)} if isinstance(change, Settle | Claim) else {}),
        **({"evidence": hex32(step.evidence)} if step.evidence else {}),
        "time": step.transaction.timestamp,
        "block": step.transaction.block,
        "transaction": hex32(step.transaction.hash),
    }


def end_of(life: LeaseLife) -> str:
    """How the lease ended, in words; empty while it is open."""
    if life.state.is_open or not life.steps:
        return ""
    last = life.steps[-1]
    match last.change:
        case Settle():
            return "both sides signed the final receipt"
        case Release():
            return "the provider gave it back"
        case Resolve():
            return "the arbiter judged the dispute"
        case Reclaim():
            return "the provider vanished: everything not yet paid, and its bond, went back to the consumer"
        case _ if last.before.status is Status.DISPUTED:
            return "the arbiter was silent: the provider was paid half of what was disputed"
        case _:
            return "nobody disputed the provider's claim: it was paid as claimed"


@dataclass(frozen=True)
class AuditReport:
    """An audit of some or all leases of one escrow."""

    history: History
    leases: tuple[LeaseReport, ...]
    checks: tuple[Check, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Check, ...]:
        """Everything that does not match, in the order of the chain."""
        return tuple(check for check in self.checks if not check.ok)

    @property
    def ok(self) -> bool:
        """Whether everything that was checked matches."""
        return not self.findings

    @property
    def anomalies(self) -> tuple[tuple[int, Anomaly], ...]:
        """What is odd, though allowed, by the lease's number."""
        return tuple((found.lease.number, anomaly) for found in self.leases for anomaly in found.anomalies)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        history = self.history
        return {
            "ok": self.ok,
            "chainId": history.domain.chain_id,
            "escrow": history.domain.escrow,
            "symbol": history.symbol,
            "decimals": history.decimals,
            "block": {"number": history.block, "hash": hex32(history.block_hash)},
            "transactions": len(history.transactions),
            "checks": len(self.checks),
            "findings": [check.to_json() for check in self.findings],
            "anomalies": [
                {"lease": number, "code": anomaly.code, "text": anomaly.text} for number, anomaly in self.anomalies
            ],
            "leases": [lease.to_json() for lease in self.leases],
            "notChecked": list(self.unchecked),
        }


def report_all(history: History, books: Books, unchecked: dict[bytes, list[str]]) -> AuditReport:
    """Every lease and every account."""
    leases = tuple(_lease_report(books, lease, unchecked) for lease in books.leases)
    return AuditReport(history, leases, tuple(books.checks.made), tuple(_flat(leases)))


def report_some(
    history: History, books: Books, leases: Sequence[LeaseLife | UnreadLease], unchecked: dict[bytes, list[str]]
) -> AuditReport:
    """Some leases: what is about them, about their transactions, about their parties' accounts, about all the money."""
    reports = tuple(_lease_report(books, lease, unchecked) for lease in leases)
    checks = dict.fromkeys(check for report in reports for check in report.checks)
    notes = reports[0].unchecked if len(reports) == 1 else tuple(_flat(reports))
    return AuditReport(history, reports, tuple(checks), notes)


def _lease_report(books: Books, lease: LeaseLife | UnreadLease, unchecked: dict[bytes, list[str]]) -> LeaseReport:
    parties, transactions = _touched(lease)
    return LeaseReport(
        lease,
        tuple(check for check in books.checks.made if _concerns(check, lease.id, parties, transactions)),
        tuple(unchecked.get(lease.id, ())),
    )


def _touched(lease: LeaseLife | UnreadLease) -> tuple[set[str], set[bytes]]:
    if isinstance(lease, UnreadLease):
        return set(), {lease.opened.hash}
    terms = lease.state.lease
    made = [lease.opened, *(step.transaction for step in lease.steps)]
    parties = {terms.consumer, terms.provider, terms.market}
    parties |= {lease.state.clauses.arbiter} if lease.split.to_arbiter else set()
    return parties, {transaction.hash for transaction in made}


def _concerns(check: Check, lease: bytes, parties: set[str], transactions: set[bytes]) -> bool:
    subject = check.subject
    if subject.lease is not None:
        return subject.lease == lease
    if subject.account:
        return subject.account in parties
    return subject.transaction is None or subject.transaction in transactions


def _flat(leases: Iterable[LeaseReport]) -> Iterable[str]:
    for lease in leases:
        for text in lease.unchecked:
            yield f"lease {lease.lease.number}: {text}"


def find_lease(books: Books, which: str) -> LeaseLife | UnreadLease:
    """The lease of a number (the ordinal of its opening) or of an unambiguous prefix of its id after 0x."""
    if which.isdecimal():
        number = int(which)
        if 1 <= number <= len(books.leases):
            return books.leases[number - 1]
        raise _unknown(which, len(books.leases))
    prefix = _prefix(which, "lease")
    found = [lease for lease in books.leases if hex32(lease.id).startswith(prefix)]
    if len(found) > 1:
        listed = "\n".join(f"{lease.number}  {hex32(lease.id)}" for lease in found[:10])
        raise UsageError(f"{which!r} means {len(found)} leases:\n{listed}", hint="give more of the id")
    if not found:
        raise _unknown(which, len(books.leases))
    return found[0]


def find_attempts(books: Books, seat: str) -> list[LeaseLife]:
    """All leases of one job, by 0x and the beginning of its seat (the job's id); UsageError if it means several."""
    prefix = _prefix(seat, "job")
    found = [lease for lease in books.lives if hex32(lease.bid.seat).startswith(prefix)]
    if not found:
        raise NotFoundError(f"no lease of this escrow is of a job {seat}", hint="`suanli audit all` lists all leases")
    if len(jobs := dict.fromkeys(hex32(lease.bid.seat) for lease in found)) > 1:
        raise UsageError(f"{seat!r} means {len(jobs)} jobs:\n" + "\n".join([*jobs][:10]), hint="give more of the id")
    return found


def _prefix(text: str, what: str) -> str:
    prefix = text.lower()
    if not prefix.startswith("0x") or len(prefix) < 3 or set(prefix[2:]) - set("0123456789abcdef"):
        also = "its number, or " if what == "lease" else "its name, or "
        raise UsageError(f"{text!r} is no {what}", hint=f"give {also}0x and the beginning of its id")
    return prefix


def _unknown(which: str, count: int) -> NotFoundError:
    have = {0: "no lease yet", 1: "one lease, number 1"}.get(count, f"the leases 1 to {count}")
    return NotFoundError(f"there is no lease {which}: this escrow has {have}", hint="`suanli audit all` lists them")
