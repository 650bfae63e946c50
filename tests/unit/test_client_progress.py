"""Long work says how far it is in bytes: on a terminal in one line, to programs as JSON lines, to nobody else."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from suanli.jobs import bundle
from suanli.jobs.job import Job
from suanli.session import moving
from suanli.session.moving import Counted, Moving
from suanli.session.progress import Change
from suanli.terminal.console import Console
from suanli.terminal.progressline import CLEAR
from suanli.terminal.screen import Screen
from support.records import a_record


class Clock:
    """A clock that goes on by a step with each look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_bytes_are_counted_and_told_at_a_pace() -> None:
    told: list[Change] = []
    counter = Moving(told.append, "uploading inputs", 10 * 1024, clock=Clock(0.2))
    for _ in range(10):
        counter.add(1024)
    assert [change.figures["done"] for change in told] == [3072, 6144, 9216, 10240]
    assert told[0].text.startswith("uploading inputs: 3.0 KiB of 10.0 KiB, ")
    assert told[0].figures["total"] == 10 * 1024


def test_quick_work_says_nothing() -> None:
    told: list[Change] = []
    counter = Moving(told.append, "packing", 100, clock=Clock(0.001))
    assert list(counter.through([b"a" * 60, b"b" * 40])) == [b"a" * 60, b"b" * 40]
    assert (counter.done, told) == (100, [])


def test_an_upload_that_goes_on_counts_what_is_there() -> None:
    counter = Moving(lambda _: None, "uploading", 10)
    file = Counted(io.BytesIO(b"0123456789"), counter)
    file.seek(4)
    assert counter.done == 4
    assert file.read(3) == b"456"
    assert counter.done == 7


def test_packing_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "PACE_S", 0.0)
    (tmp_path / "work").mkdir()
    (tmp_path / "work/a.bin").write_bytes(b"a" * 300_000)
    told: list[Change] = []
    made = bundle.build(Job(argv=("x",), workdir=tmp_path / "work"), tmp_path / "inputs.tar", tell=told.append)
    assert made.manifest is not None
    assert told[-1].figures["done"] == made.manifest.size
    assert told[0].figures["total"] == 300_000


def test_a_terminal_gets_one_line_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    screen, record = Screen(Console()), a_record("aa")
    screen.changed(record, Change("progress", "uploading inputs: 1.0 MiB of 2.0 MiB"))
    screen.changed(record, Change("progress", "uploading inputs: 2.0 MiB of 2.0 MiB"))
    screen.changed(record, Change("sent", "done"))
    text = terminal.getvalue()
    assert text.count("\n") == 1
    assert text.split("uploading inputs")[-1].endswith("done\n")
    assert CLEAR in text.split("uploading inputs")[-1]


def test_a_pipe_gets_none_and_programs_get_figures(capsys: pytest.CaptureFixture[str]) -> None:
    change = Change("progress", "uploading", {"what": "uploading inputs", "done": 1, "total": 2})
    Screen(Console()).changed(a_record("aa"), change)
    assert capsys.readouterr().err == ""
    Screen(Console(jsonl=True), jsonl=True).changed(a_record("aa"), change)
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["done"], told["total"]) == ("progress", 1, 2)


def test_no_colour_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Screen(Console()).changed(a_record("aa"), Change("settled", "paid"))
    assert "\x1b[" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.seek(0)
    terminal.truncate()
    Screen(Console()).changed(a_record("aa"), Change("settled", "paid"))
    assert "\x1b[" not in terminal.getvalue()
    Screen(Console(quiet=True)).changed(a_record("aa"), Change("settled", "unwanted"))
    assert "unwanted" not in terminal.getvalue()
