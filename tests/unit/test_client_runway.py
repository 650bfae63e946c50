"""How far the money of a running lease reaches, and when that is warned of."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from suanli.jobs.record import Record
from suanli.runway import runway_of, together
from suanli.terminal import render
from suanli_protocol.lease import price_up
from support.records import a_record

OPENED = 1_000


def a_running_job(*, seconds: int = 1000, rate: int = 3_600, opened_at: int = OPENED, **fields: Any) -> Record:
    terms = {"openedAt": opened_at, "seconds": seconds, "rate": str(rate), "price": str(price_up(rate, seconds))}
    return a_record("aa", phase="running", lease="0x" + "01" * 32, number=1, terms=terms, **fields)


@pytest.mark.parametrize(
    ("passed", "percent", "level"),
    [
        (0, 100, ""),
        (790, 21, ""),
        (800, 20, "low"),
        (949, 5, "out"),
        (940, 6, "low"),
        (1000, 0, "out"),
        (5000, 0, "out"),
    ],
)
def test_levels(passed: int, percent: int, level: str) -> None:
    runway = runway_of(a_running_job(), OPENED + passed)
    assert runway is not None
    assert (runway.percent, runway.level) == (percent, level)
    assert runway.ends_at == OPENED + 1000


@given(st.integers(0, 2**60), st.integers(1, 2**31), st.integers(-100, 2**32))
def test_what_is_left_is_never_more_than_was_locked(rate: int, seconds: int, passed: int) -> None:
    job = a_running_job(rate=rate, seconds=seconds)
    runway = runway_of(job, OPENED + passed)
    assert runway is not None
    assert 0 <= runway.money <= price_up(rate, seconds)
    assert 0 <= runway.seconds <= seconds
    if passed <= 0:
        assert runway.money == price_up(rate, seconds)
    if passed >= seconds:
        assert runway.money == 0


@pytest.mark.parametrize("changes", [{"phase": "succeeded"}, {"phase": "settled"}, {"terms": {}}, {"stopped_at": 5}])
def test_what_does_not_run_has_none(changes: dict[str, Any]) -> None:
    job = a_running_job()
    for name, value in changes.items():
        setattr(job, name, value)
    assert runway_of(job, OPENED) is None


def test_the_table_says_what_is_left_and_what_it_uses() -> None:
    now = int(time.time())
    jobs = [a_running_job(opened_at=now - 900), a_running_job(opened_at=now - 100, seconds=10_000)]
    found = [runway for job in jobs if (runway := runway_of(job, now)) is not None]
    assert together(found) == (7_200, 10_000)
    drawn = render.text(render.jobs(jobs), width=140)
    assert "(10 %)" in drawn
    assert "(99 %)" in drawn
    assert "2 leases use at most 0.0072 DEV/h" in drawn
