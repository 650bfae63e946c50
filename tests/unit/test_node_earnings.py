"""Earnings are sums over what the chain said; gas is counted once, in its own coin, and apart."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from suanli_node.earnings import Money, as_csv, earnings, render_earnings
from suanli_node.settings import StateFolder

DAY_ONE, DAY_TWO = 1_800_000_000, 1_800_000_000 + 86_400


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.create()
    return folder


def ended(state: StateFolder, lease: str, number: int, at: int, **fields: Any) -> None:
    ending = {
        "lease": lease, "number": number, "consumer": "0x" + "22" * 20, "how": "settled", "reason": "ok",
        "billed": "0", "paid": "0", "fee": "0", "lost": "0", "at": at, "transaction": "0x" + "33" * 32,
    }  # fmt: skip
    (state.endings / f"{lease}.json").write_text(json.dumps(ending | fields))


def spent(state: StateFolder, transaction: str, lease: str, wei: int) -> None:
    line = {"at": 1, "what": "claim", "lease": lease, "transaction": transaction, "gasUsed": 1, "wei": str(wei)}
    with state.gas.open("a") as file:
        file.write(json.dumps(line) + "\n")


@pytest.fixture
def worked(state: StateFolder) -> StateFolder:
    ended(state, "0xaa", 1, DAY_ONE, billed="70", paid="70", fee="1")
    ended(state, "0xbb", 2, DAY_ONE, how="finalized", billed="50", paid="30")
    ended(state, "0xcc", 3, DAY_TWO, how="reclaimed", lost="9")
    spent(state, "0x01", "0xbb", 10**15)
    spent(state, "0x02", "0xbb", 10**14)
    spent(state, "0x02", "0xbb", 10**14)  # written down again by a process that had been killed
    spent(state, "0x03", "", 10**12)
    spent(state, "0x04", "0xdd", 10**11)  # of a lease that is open
    with state.gas.open("a") as file:
        file.write('{"at": 1, "transac')  # torn off
    return state


def test_the_sums_by_lease_by_day_and_in_all(worked: StateFolder) -> None:
    found = earnings(worked)
    assert [(lease["lease"], lease["paid"], lease["gasWei"]) for lease in found["leases"]] == [
        ("0xaa", "70", "0"), ("0xbb", "30", str(11 * 10**14)), ("0xcc", "0", "0"),
    ]  # fmt: skip
    assert found["days"] == [
        {"day": "2027-01-15", "leases": 2, "paid": "100", "lost": "0", "gasWei": str(11 * 10**14)},
        {"day": "2027-01-16", "leases": 1, "paid": "0", "lost": "9", "gasWei": "0"},
    ]
    assert found["total"] == {
        "leases": 3, "paid": "100", "lost": "9", "gasWei": str(11 * 10**14), "otherGasWei": str(10**12 + 10**11),
    }  # fmt: skip


def test_nothing_yet_is_nothing(state: StateFolder) -> None:
    assert earnings(state)["total"]["paid"] == "0"
    assert earnings(state)["days"] == []


def test_a_spreadsheet_reads_what_a_program_reads(worked: StateFolder) -> None:
    found = earnings(worked)
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [row["paid"] for row in rows] == ["70", "30", "0"]
    assert rows[1]["gasWei"] == str(11 * 10**14)
    assert rows[2]["how"] == "reclaimed"


def test_a_person_reads_money_in_the_tokens_currency_and_gas_in_coin(worked: StateFolder) -> None:
    text = render_earnings(earnings(worked), Money("DEVC", 6))
    assert "0.0001 DEVC from 3 leases" in text
    assert "0.000009 DEVC of bonds" in text
    assert "0.001100000 coin for these leases" in text
