"""The market's figures: what waits, what is open, how far behind. Read from indices, cheap enough for every scrape."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

from sqlalchemy import func
from sqlmodel import Session, col, select

from suanli_market.admission.desk import Admission
from suanli_market.api.limits import Places
from suanli_market.health import Health
from suanli_market.leasing.leases import OPEN_STATES
from suanli_market.leasing.relay import Relay
from suanli_market.metrics import Counters, Family, exposition, gauge
from suanli_market.store import Store
from suanli_market.tables import (
    BidRow,
    ChainTransactionRow,
    EntryRow,
    EventRow,
    LeaseRow,
    MatchRow,
    OfferRow,
    ReceiptRow,
    RoundRow,
)
from suanli_protocol.errors import SuanliError

COUNTERS = {
    "requests_total": "Answered requests by method, route and status.",
    "request_seconds_total": "Time from a request's head to the head of its answer, by route.",
    "refusals_total": "Papers and receipts that were refused, by reason.",
    "limited_total": "Requests that a limit turned away, by limit.",
}
SETTLING = ("queued",)


class Figures:
    """All figures of one market."""

    def __init__(
        self,
        store: Store,
        counters: Counters,
        health: Health,
        admission: Admission,
        relay: Relay,
        streams: Places,
        *,
        market: str,
    ) -> None:
        self._store, self._counters, self._health = store, counters, health
        self._admission, self._relay, self._streams, self._market = admission, relay, streams, market

    def exposition(self) -> str:
        """Prometheus' text."""
        with self._store.read() as session:
            rows = _of_tables(session)
        return exposition([*rows, *self._of_chain(), *self._of_process(), *self._counters.families()])

    def _of_chain(self) -> list[Family]:
        known = self._health.known_block()
        families = [gauge("chain_known_block", "The block up to which the chain is in the database.", known)]
        try:
            head, gas = self._health.counted_block(), self._health.gas_wei(self._market)
        except SuanliError:
            return [*families, gauge("chain_up", "Whether the chain's endpoint answers.", 0)]
        return [
            *families,
            gauge("chain_up", "Whether the chain's endpoint answers.", 1),
            gauge("chain_head_block", "The newest block that counts.", head),
            gauge("chain_lag_blocks", "Blocks that count and are not in the database yet.", max(0, head - known)),
            gauge("gas_wei", "Native coin of the market's key.", gas),
        ]

    def _of_process(self) -> list[Family]:
        finding = self._health.is_open()
        return [
            gauge("open", "0 while the market is halted.", int(finding.ok)),
            gauge("admission_queue", "Writes that wait for the admission log.", self._admission.waiting()),
            gauge("event_streams", "Open event streams.", self._streams.taken()),
            gauge("relay_bytes", "Bytes of blobs that lie here.", self._relay.held_bytes()),
            gauge("relay_bytes_max", "Bytes that the relay takes on.", self._relay.bytes_max),
            gauge("resident_memory_bytes", "Memory of this process.", _resident_bytes()),
            gauge("open_files", "Descriptors of this process.", sum(1 for _ in Path("/proc/self/fd").iterdir())),
            gauge("cpu_seconds", "Processor time of this process.", _cpu_seconds()),
        ]


def _of_tables(session: Session) -> list[Family]:
    def count(column: str, table: type, states: tuple[str, ...]) -> dict[str, int]:
        query = select(getattr(table, column), func.count()).where(getattr(table, column).in_(states))
        found = dict(session.exec(query.group_by(getattr(table, column))).all())
        return {state: int(found.get(state, 0)) for state in states}

    def last(column: Any) -> int:
        newest: int | None = session.exec(select(func.max(column))).one()
        return newest or 0

    def by_state(name: str, help_: str, counts: dict[str, int]) -> Family:
        return Family(name, help_, "gauge", {(("state", state),): number for state, number in counts.items()})

    return [
        by_state("offers", "Offers in the book.", count("state", OfferRow, ("open",))),
        by_state(
            "bids", "Bids that wait, or whose lease is being opened.", count("state", BidRow, ("queued", "matched"))
        ),
        by_state("leases", "Leases that are not closed.", count("state", LeaseRow, OPEN_STATES)),
        by_state("matches", "Matches that are not on the chain yet.", count("state", MatchRow, ("pending",))),
        by_state("settlements", "Receipts that are to be settled.", count("state", ReceiptRow, SETTLING)),
        by_state("transactions", "Transactions without an answer.", count("state", ChainTransactionRow, ("prepared",))),
        gauge("settlement_lag_seconds", "Age of the oldest receipt that waits.", _settlement_lag_s(session)),
        Family("log_entries_total", "Lines of the admission log.", "counter", {(): last(EntryRow.seq)}),
        Family("events_total", "Events told to parties.", "counter", {(): last(EventRow.seq)}),
        Family("rounds_total", "Rounds of clearing.", "counter", {(): last(RoundRow.number)}),
    ]


def _settlement_lag_s(session: Session) -> float:
    """How long ago the consumer signed the oldest receipt that is not settled; 0 if none waits."""
    lease = session.exec(
        select(LeaseRow)
        .join(ReceiptRow, col(ReceiptRow.lease) == LeaseRow.id)
        .where(col(ReceiptRow.state).in_(SETTLING), col(LeaseRow.state).in_(OPEN_STATES))
        .order_by(col(LeaseRow.number))
        .limit(1)
    ).first()
    if lease is None:
        return 0.0
    signed = session.exec(
        select(EventRow.at)
        .where(EventRow.party == lease.provider, EventRow.lease == lease.id, EventRow.kind == "lease.countersigned")
        .order_by(col(EventRow.seq))
        .limit(1)
    ).first()
    return max(0.0, time.time() - signed / 1000) if signed is not None else 0.0


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
