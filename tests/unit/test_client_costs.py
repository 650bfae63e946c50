"""What jobs have cost: sums that are exact, currencies apart, names that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
from typing import Any

from suanli.costs import as_csv, costs, totals
from suanli.jobs.record import Record
from suanli.terminal import render
from support.records import a_record

DAY = 86_400


def settled(seat: str, *, paid: int, fee: int, **fields: Any) -> Record:
    return a_record(seat, phase="settled", reason="ok", paid=str(paid), fee=str(fee), gas=100_000, **fields)


JOBS = [
    settled("aa", paid=1_000_001, fee=5_000, name="one", provider="0xp1", attributes={"name": "lotus"}),
    settled("bb", paid=2, fee=0, name="=cmd()", provider="0xp1", attributes={"name": "lotus"}, created_at=DAY),
    settled("cc", paid=7, fee=1, provider="0xp2", created_at=DAY, escrow="0x" + "99" * 20, symbol="EUR"),
    a_record("dd", phase="running", lease="0x01"),
    a_record("ee", phase="settled", reason="released", paid="0", fee="0"),
]


def test_each_job_has_its_row() -> None:
    rows = costs(JOBS, "job")
    assert [(row.price, row.fee, row.total, row.gas) for row in rows[:2]] == [
        (1_000_001, 5_000, 1_005_001, 100_000),
        (2, 0, 2, 100_000),
    ]
    assert [row.label for row in rows[:2]] == ["one", "=cmd()"]
    assert len(rows) == 4  # what is not settled has cost nothing yet


def test_by_provider_and_day_never_across_currencies() -> None:
    lotus = costs(JOBS, "provider")[0]
    assert (lotus.key, lotus.label, lotus.jobs, lotus.price) == ("0xp1", "lotus", 2, 1_000_003)
    days = costs(JOBS, "day")
    assert [(row.key, row.symbol, row.price) for row in days if row.key == "1970-01-02"] == [
        ("1970-01-02", "DEV", 2),
        ("1970-01-02", "EUR", 7),
    ]
    assert {row.symbol: (row.price, row.fee) for row in totals(days)} == {"DEV": (1_000_003, 5_000), "EUR": (7, 1)}


def test_csv_is_exact_and_harmless() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(costs(JOBS, "job"), "job"))))
    assert (rows[0]["price"], rows[0]["fee"], rows[0]["total"]) == ("1.000001", "0.005", "1.005001")
    assert rows[1]["name"] == "'=cmd()"
    assert rows[0]["job"] == JOBS[0].id


def test_the_table_keeps_price_fee_and_gas_apart() -> None:
    rows = costs(JOBS[:2], "job")
    drawn = render.text(render.costs(rows, totals(rows), "job"))
    for word in ("price", "market fee", "gas", "1.000001", "0.005000", "1.005003", "200,000"):
        assert word in drawn
    assert "name" not in render.text(render.costs(rows, totals(rows), "day"))
