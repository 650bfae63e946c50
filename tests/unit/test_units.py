"""Text to integers and back, and what is refused on the way."""

from __future__ import annotations

import pytest

from suanli_protocol import units
from suanli_protocol.errors import UsageError


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.50", 500_000),
        ("1", 1_000_000),
        ("0.000001", 1),
        ("12.34000000", 12_340_000),
        (" 7 ", 7_000_000),
        (3, 3_000_000),
    ],
)
def test_money_is_exact(text: str | int, amount: int) -> None:
    assert units.parse_money(text, 6) == amount


def test_money_has_no_precision_to_lose() -> None:
    assert units.parse_money("123456789012345678901234567890.123456", 6) == 123456789012345678901234567890123456


@pytest.mark.parametrize(
    "text", ["", "-1", "1e3", "1_000", "nan", "inf", "0x1", "1.", ".5", "0.0000001", "1,5", "٣", 99 * "1"]
)
def test_money_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="budget"):
        units.parse_money(text, 6, name="budget")


@pytest.mark.parametrize(
    ("amount", "text"), [(500_000, "0.50"), (1, "0.000001"), (12_340_000, "12.34"), (0, "0.00"), (-1_500_000, "-1.50")]
)
def test_money_reads_back(amount: int, text: str) -> None:
    assert units.format_money(amount, 6) == text


def test_money_of_a_token_without_decimals() -> None:
    assert units.format_money(7, 0) == "7"
    assert units.parse_money("7", 0) == 7
    assert units.format_money(1_234_567, 6, places=0) == "1.234567"


@pytest.mark.parametrize(
    ("text", "mib"),
    [("1GiB", 1024), ("512MiB", 512), ("8GB", 7630), ("1B", 1), ("1.5Gi", 1536), ("2T", 1907349), ("10 k", 1)],
)
def test_sizes_round_up_to_mib(text: str, mib: int) -> None:
    assert units.parse_mib(text) == mib


@pytest.mark.parametrize("text", ["", "8", "8 apples", "-1GB", "1e3GB", "GB", "1GB\n1"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        units.parse_mib(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), (90, 90), ("90s", 90), ("2h", 7200), ("1h30m", 5400), ("1d 1s", 86401)]
)
def test_durations(text: str | int, seconds: int) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1x", "-5", "1.5h", "2h!", "²", "9" * 40])
def test_durations_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        units.parse_duration(text)


@pytest.mark.parametrize(("text", "milli"), [("4", 4000), ("0.5", 500), (0.25, 250), ("0.001", 1)])
def test_cores(text: str | float, milli: int) -> None:
    assert units.parse_cores(text) == milli


@pytest.mark.parametrize("text", ["", "0", "-1", "0.0001", "many", "1e9", "nan"])
def test_cores_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        units.parse_cores(text)


def test_what_a_person_reads() -> None:
    assert units.format_mib(512) == "512 MiB"
    assert units.format_mib(2048) == "2 GiB"
    assert units.format_mib(1536) == "1.5 GiB"
    assert units.format_bytes(10) == "10 B"
    assert units.format_bytes(3 * 2**30) == "3.00 GiB"
    assert [units.format_duration(s) for s in (12, 61, 7500)] == ["12 s", "1 m 1 s", "2 h 5 m"]
    assert units.format_cores(1500) == "1.5"
