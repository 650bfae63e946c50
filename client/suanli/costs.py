"""What jobs have cost: price, market fee and gas, each for itself, by job, provider or day.

Only what the chain has settled counts. Gas is what the market spent on opening and settling the leases: no part of the
consumer's bill, but said. Amounts are in base units; currencies are never added to each other.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from suanli.jobs.record import Record
from suanli_protocol.units import format_money

By = Literal["job", "provider", "day"]
COLUMNS = ("jobs", "price", "fee", "total", "gas", "currency")


@dataclass
class Cost:
    """A row of the bill. `label` is how a person knows the key."""

    key: str
    label: str
    symbol: str
    decimals: int
    escrow: str
    jobs: int = 0
    price: int = 0
    fee: int = 0
    gas: int = 0

    @property
    def total(self) -> int:
        """What the consumer paid."""
        return self.price + self.fee

    def add(self, record: Record) -> None:
        """Counts one settled job."""
        self.jobs += 1
        self.price += int(record.paid or 0)
        self.fee += int(record.fee or 0)
        self.gas += record.gas

    def to_json(self, by: By) -> dict[str, Any]:
        """For programs: amounts as decimal text of base units."""
        return {
            by: self.key,
            "name": self.label,
            "jobs": self.jobs,
            "price": str(self.price),
            "fee": str(self.fee),
            "total": str(self.total),
            "gas": self.gas,
            "currency": {"symbol": self.symbol, "decimals": self.decimals},
            "escrow": self.escrow,
        }


def _job(record: Record) -> tuple[str, str]:
    return record.id, record.name or str(record.plan.get("title", ""))


def _provider(record: Record) -> tuple[str, str]:
    return record.provider, str((record.attributes or {}).get("name", ""))


def _day(record: Record) -> tuple[str, str]:
    return time.strftime("%Y-%m-%d", time.gmtime(record.created_at)), ""


KEYS: dict[By, Callable[[Record], tuple[str, str]]] = {"job": _job, "provider": _provider, "day": _day}


def costs(records: Iterable[Record], by: By) -> list[Cost]:
    """The rows, in the order in which their keys first come; days are days of UTC, the day of submission."""
    found: dict[tuple[str, str], Cost] = {}
    for record in records:
        if record.phase != "settled" or not record.paid:
            continue
        key, label = KEYS[by](record)
        place = (key, record.escrow.lower())
        if place not in found:
            found[place] = Cost(key, label, record.symbol, record.decimals, record.escrow)
        found[place].add(record)
    return list(found.values())


def totals(rows: Iterable[Cost]) -> list[Cost]:
    """One row a currency."""
    found: dict[str, Cost] = {}
    for row in rows:
        total = found.setdefault(row.escrow.lower(), Cost("total", "", row.symbol, row.decimals, row.escrow))
        total.jobs, total.gas = total.jobs + row.jobs, total.gas + row.gas
        total.price, total.fee = total.price + row.price, total.fee + row.fee
    return list(found.values())


def as_csv(rows: Iterable[Cost], by: By) -> str:
    """Comma-separated, amounts as decimal numbers of the currency; names that would be formulas are made harmless."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow((by, "name", *COLUMNS))
    for row in rows:
        money = [format_money(amount, row.decimals) for amount in (row.price, row.fee, row.total)]
        writer.writerow((row.key, _harmless(row.label), row.jobs, *money, row.gas, row.symbol))
    return out.getvalue()


def _harmless(label: str) -> str:
    """A name is a stranger's: a spreadsheet must not run it."""
    return "'" + label if label[:1] in ("=", "+", "-", "@", "\t", "\r") else label
