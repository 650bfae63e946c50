"""The bill that a person reads: what was locked is the lease's deposit, and what comes back follows from it."""

from __future__ import annotations

from typing import Any

from suanli.jobs.record import Record
from suanli.session.agreement import read_agreement
from suanli.session.handover import terms_of
from suanli.terminal import render
from support import builders
from support.leases import an_opened_lease
from support.records import CONSUMER, a_record


def settled(**fields: Any) -> Record:
    bid = {"consumer": CONSUMER, "market": "0x" + "99" * 20, "feeBps": 50}
    return a_record("aa", phase="settled", lease="0x" + "01" * 32, paid="1000", fee="5", bid=bid, **fields)


def back(record: Record) -> tuple[str, str]:
    return next((money, remark) for label, money, remark in render.bill(record) if label == "back")


def test_what_comes_back_is_of_the_leases_own_deposit() -> None:
    opened = an_opened_lease()
    agreement = read_agreement(opened.view, builders.a_domain(), builders.consumer().address)
    record = settled(plan={"locked": "999999999"}, terms=terms_of(agreement))
    assert record.locked == agreement.lease.deposit
    assert back(record)[0] == render.amount(record, agreement.lease.deposit - 1005)
    assert render.amount(record, agreement.lease.deposit) in back(record)[1]


def test_before_there_is_a_lease_the_plan_says_what_is_locked() -> None:
    assert settled(plan={"locked": "2000"}).locked == 2000
    assert settled().locked == 0
    assert "back" not in [label for label, _, _ in render.bill(settled())]


def test_a_lease_that_nobody_counted_goes_by_its_id() -> None:
    assert settled(number=7).lease_name == "7"
    assert settled().lease_name == "0x01010101"
    assert "Receipt of lease 0x01010101" in render.text(render.receipt(settled()))
