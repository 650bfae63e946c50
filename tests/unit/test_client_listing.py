"""Tables in narrow terminals: nothing but what may be shortened is ever cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console as Rich

from suanli.terminal import render

ADDRESS = "0x7324FEFE99b95D34bc7e00905C46e9b1aF2806C1"
OFFER = ("lotus", "CN-GD", "1", "2 GiB", "4 GiB", "0.30", "0.04", "0.001", "B", ADDRESS)
OFFER_HEAD = ("provider", "region", "cores", "memory", "disk", "core/h", "GiB/h", "disk/h", "tier", "address")
JOB = ("0xdeea2e36", "11", "settled, memory exceeded", "python train.py " * 3, "lotus", "≤ 0.342705 DEVC", "12 m ago")
JOB_HEAD = ("id", "lease", "state", "job", "provider", "cost", "when")


def drawn(drawing: object, width: int) -> list[str]:
    out = io.StringIO()
    Rich(file=out, width=width, no_color=True).print(drawing, crop=False)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [20, 60, 80, 100, 110, 130, 140])
def test_an_address_is_never_cut(width: int) -> None:
    lines = drawn(render.listing(OFFER_HEAD, [OFFER, OFFER], below=True), width)
    words = " ".join(lines).split()
    assert words.count(ADDRESS) == 2
    assert "…" not in " ".join(lines)
    assert {"provider", "region", "lotus", "CN-GD", "0.001"} <= set(words)


@pytest.mark.parametrize("width", [80, 100, 110, 140])
def test_a_job_loses_its_title_before_its_id(width: int) -> None:
    lines = drawn(render.listing(JOB_HEAD, [JOB], loose=("job", "state"), right=("lease", "cost")), width)
    row = lines[-1]
    assert max(map(len, lines)) <= width
    assert row.startswith("0xdeea2e36 ")
    assert row.endswith("lotus     ≤ 0.342705 DEVC  12 m ago") or row.endswith("lotus      ≤ 0.342705 DEVC   12 m ago")


def test_offers_fit_eighty_columns() -> None:
    lines = drawn(render.listing(OFFER_HEAD, [OFFER], below=True), 80)
    assert max(map(len, lines)) <= 80
    assert lines[-1].strip() == ADDRESS


def test_where_there_is_room_all_stands_in_one_row() -> None:
    lines = drawn(render.listing(OFFER_HEAD, [OFFER], below=True), 140)
    assert len(lines) == 3
    assert lines[-1].endswith(ADDRESS)
