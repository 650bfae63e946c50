"""The benchmarks' frame: what is met, what a report says, that a partial run keeps the rest, that failures are rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.report import markdown
from bench.rows import Beside, Result, Row, Target, beside, measured, missing, spread
from bench.run import run
from bench.store import Store
from bench.subjects import SUBJECTS, Subject, chosen
from bench.table import lines


def a_result(*rows: Row, subject: str = "gas") -> Result:
    return Result(subject, subject.title(), rows, "2030-01-01 00:00", 1.0, "make bench", "a machine", {"ray": "2"})


def test_a_spread_is_of_all_its_measurements() -> None:
    found = spread([5, 1, 4, 2, 3, 10, 9, 8, 7, 6, 11])
    assert (found.count, found.low, found.p50, found.p90, found.high) == (11, 1, 6, 10, 11)
    assert spread([7.0]) == spread([7.0, 7.0][:1])


@pytest.mark.parametrize(
    ("value", "target", "first", "goal"),
    [
        (90, Target("at most", 100, 80), True, False),
        (80, Target("at most", 100, 80), True, True),
        (101, Target("at most", 100, 80), False, False),
        (90, Target("at least", 100), False, None),
        (10, Target("at most", 0.25, 0.05, "ratio"), True, False),
        (26, Target("at most", 0.25, 0.05, "ratio"), False, False),
        (10, None, None, None),
    ],
)
def test_targets_bound_the_value_or_the_ratio(
    value: float, target: Target | None, first: bool | None, goal: bool | None
) -> None:
    row = Row("x", "ms", value, beside=(Beside("other", 100),), target=target)
    assert (row.meets("first"), row.meets("goal")) == (first, goal)


def test_what_was_measured_elsewhere_makes_no_ratio() -> None:
    row = Row(
        "x", "gas", 50, beside=(Beside("peer", 100, source="its paper"),), target=Target("at most", 1, of="ratio")
    )
    assert (row.ratio, row.meets("first")) == (None, None)


def test_a_report_names_figure_spread_alternative_bound_and_what_falls_short() -> None:
    row = measured("jobs", "jobs/s", [3.0, 4.0, 5.0], beside=(beside("Ray", [2.0]),),
                   target=Target("at least", 10, of="ratio"), note="Because of this.")  # fmt: skip
    page = markdown([a_result(row, missing("the rest", "", "it | broke\nin two"))])
    assert "| jobs | 4 jobs/s | 3 … p90 5 … 5 (3) | Ray 2 | 2 | ≥ 10 × | – | no |" in page
    assert "- jobs: 2 × Ray, first ≥ 10 ×. Because of this." in page
    assert "not measured: it \\| broke in two" in page
    assert "a machine (gas)" in page
    assert "ray 2" in page


def test_a_table_says_why_there_is_no_figure() -> None:
    shown = "\n".join(lines(a_result(missing("jobs", "", "no Ray"))))
    assert "jobs: not measured: no Ray" in shown


def test_a_partial_run_refreshes_its_own_rows_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = a_result(Row("a", "gas", 1)), a_result(measured("b", "/s", [1.0, 2.0]), subject="signatures")
    store.keep(second)
    store.keep(first)
    store.keep(again := a_result(Row("a", "gas", 2)))
    assert store.all() == [again, second]


def test_subjects_are_chosen_by_name() -> None:
    assert chosen("") == list(SUBJECTS)
    assert [subject.name for subject in chosen("job, gas")] == ["job", "gas"]
    with pytest.raises(ValueError, match="no subject gass; there are gas"):
        chosen("gass")


def test_a_subject_that_fails_or_hangs_is_a_row_that_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "failing_subject.py"
    module.write_text("def measure():\n    yield from ()\n    raise OSError('no such thing')\n")
    hanging = tmp_path / "hanging_subject.py"
    hanging.write_text("import time\ndef measure():\n    time.sleep(60)\n    yield\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    failed = run(Subject("failing", "Failing", "failing_subject", 30))
    assert not failed.is_whole
    assert failed.rows[0].problem == "OSError: no such thing"
    late = run(Subject("hanging", "Hanging", "hanging_subject", 0.5))
    assert [row.problem for row in late.rows] == ["it took more than 0 s"]
