"""What must be true once every job of a round is over: nothing lost, doubled, paid twice, or left open.

The chain is asked first; market, node and consumers are then held against it.
"""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

from deep.consumer import errands
from deep.world import Deep, Person
from suanli.audit import audit_all
from suanli.audit.life import LeaseLife
from suanli.audit.report import AuditReport
from suanli.jobs.record import Record
from suanli.session.joblog import read_log_file
from suanli_protocol.capacity import Lanes

QUIET_S = 75.0  # a node that was told nothing compares everything within thirty seconds
OPEN = ("open", "stopped", "claimed", "disputed")
WAITING = {
    "match": ("pending",),
    "bid": ("queued", "matched"),
    "receipt": ("queued",),
    "chain_transaction": ("prepared",),
    "lease": OPEN,
}


def wait_quiet(deep: Deep, timeout: float = QUIET_S) -> list[str]:
    """Until market and node have nothing open any more; what they still have after the time."""
    deadline = time.monotonic() + timeout
    while left := [*waiting_in_market(deep), *left_on_node(deep)]:
        deep.revive()
        if time.monotonic() > deadline:
            return left
        time.sleep(0.3)
    return []


def waiting_in_market(deep: Deep) -> list[str]:
    """Rows of the market's database that wait for something."""
    return [f"market: {count} rows of {table} wait" for table, count in _waiting(deep).items() if count]


def _waiting(deep: Deep) -> dict[str, int]:
    with closing(_database(deep)) as database:
        return {
            table: database.execute(
                f'SELECT count(*) FROM "{table}" WHERE state IN ({",".join("?" * len(states))})', states
            ).fetchone()[0]
            for table, states in WAITING.items()
        }


def _database(deep: Deep) -> sqlite3.Connection:
    path = deep.market_data / "market.sqlite"
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)


def left_on_node(deep: Deep) -> list[str]:
    """Leases and runs that the node still holds."""
    folders = {
        "lease": deep.home.state / "leases",
        "run": deep.home.state / "executor" / "runs",
    }
    return [
        f"node: {what} {path.name[:10]} is still there"
        for what, folder in folders.items()
        if folder.is_dir()
        for path in folder.iterdir()
    ]


def findings(deep: Deep, seeds: list[int]) -> Iterator[str]:
    """Everything that is wrong, in words."""
    report = audit_all(deep.devnet.url, deep.world.escrow.address)
    yield from (f"audit: {found.code} {found.member}: {found.expected} is {found.found}" for found in report.findings)
    lives = [lease.lease for lease in report.leases if isinstance(lease.lease, LeaseLife)]
    yield from _about_leases(deep, report, lives)
    yield from _about_money(deep, lives)
    for person in deep.people:
        yield from _about_jobs(person, lives, seeds)
    yield from _about_rows(deep, lives)


def _about_leases(deep: Deep, report: AuditReport, lives: list[LeaseLife]) -> Iterator[str]:
    if len(lives) != len(report.leases):
        yield "chain: a lease's papers cannot be read"
    yield from (f"chain: lease {life.number} is left {life.status}" for life in lives if life.status in OPEN)
    seats = Counter((life.bid.consumer, life.bid.seat) for life in lives)
    attempts = {(life.bid.consumer, life.bid.seat): life.bid.attempts for life in lives}
    yield from (
        f"chain: {count} leases of the seat {seat[1].hex()[:8]}"
        for seat, count in seats.items()
        if count > max(1, attempts[seat])
    )
    known = {record.id for person in deep.people for record in person.records}
    yield from (
        f"chain: lease {life.number} belongs to no job" for life in lives if "0x" + life.bid.seat.hex() not in known
    )


def _about_money(deep: Deep, lives: list[LeaseLife]) -> Iterator[str]:
    escrow = deep.world.escrow
    parties = {person.signer.address for person in deep.people} | {deep.home.signer.address, deep.market_address}
    accounts = {party: escrow.account(party) for party in parties}
    free, held = sum(account.free for account in accounts.values()), escrow.token.balance_of(escrow.address)
    if free != held:
        yield f"money: the accounts have {free} free, the escrow holds {held}"
    yield from (
        f"capacity: {party} uses {account.used}" for party, account in accounts.items() if account.used != Lanes()
    )
    for life in lives:
        split = life.split
        paid = split.to_provider + split.to_market + split.to_consumer
        if paid != life.state.lease.deposit or sum(1 for payment in life.payments if payment.kind) > 1:
            yield f"money: lease {life.number} had {life.state.lease.deposit} locked and {paid} paid out"


def _about_jobs(person: Person, lives: list[LeaseLife], seeds: list[int]) -> Iterator[str]:
    by_seat: dict[str, list[LeaseLife]] = {}
    for life in lives:
        by_seat.setdefault("0x" + life.bid.seat.hex(), []).append(life)
    printed = {errand.key: errand.printed for seed in seeds for errand in _first(person.name, seed)}
    keys = Counter(record.idempotency_key for record in person.records)
    yield from (f"{key}: {count} jobs under one key" for key, count in keys.items() if count > 1)
    for record in person.records:
        leases = by_seat.get(record.id, [])
        yield from (f"{record.idempotency_key}: {problem}" for problem in _about_job(person, record, leases, printed))


def _first(name: str, seed: int, count: int = 500) -> Iterator:  # type: ignore[type-arg]
    for errand, _ in zip(errands(name, seed), range(count), strict=False):
        yield errand


def _about_job(person: Person, record: Record, leases: list[LeaseLife], printed: dict[str, str]) -> Iterator[str]:
    if not record.is_over:
        yield f"is {record.phase} still ({record.detail})"
    if not leases:
        if record.lease:
            yield f"has the lease {record.lease[:10]}, the chain has none"
        return
    last = max(leases, key=lambda life: life.number)
    if "0x" + last.id.hex() != record.lease:
        yield f"knows lease {record.lease[:10] or 'none'}, the chain has 0x{last.id.hex()[:8]}"
    if record.phase == "settled" and str(last.split.to_provider) != record.paid:
        yield f"believes that {record.paid} was paid, the chain says {last.split.to_provider}"
    log = person.store.jobs_dir / record.id / "log.jsonl"
    text = b"".join(line.content for line in read_log_file(log) if line.source == "stdout").decode()
    whole = printed[record.idempotency_key]
    if text != whole and (record.reason in ("ok", "exit_nonzero") or not whole.startswith(text)):
        yield f"printed {text!r} and ended as {record.reason}, a whole run prints {whole!r}"


def _about_rows(deep: Deep, lives: list[LeaseLife]) -> Iterator[str]:
    with closing(_database(deep)) as database:
        rows = {
            id_: (state, paid)
            for id_, state, paid in database.execute("SELECT id, state, paid FROM lease WHERE bid IS NOT NULL")
        }
    for life in lives:
        state, paid = rows.pop("0x" + life.id.hex(), ("missing", "0"))
        if state != life.status or int(paid) != life.split.to_provider:
            yield f"market: lease {life.number} is {state} with {paid} paid, on the chain {life.status}"
    yield from (f"market: lease {id_[:10]} is {state}, and on no chain" for id_, (state, _) in rows.items())
