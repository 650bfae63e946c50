"""A log is fetched to its end whatever becomes of who looks on; what stops the fetching is told to who waits for it."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from suanli.client import Client
from suanli.handle import JobHandle
from suanli.session.joblog import LogFollower
from suanli.session.progress import Change, Deafened, Silent, Watcher
from suanli.session.session import Session
from suanli.terminal.console import Console
from suanli.terminal.failure import exit_status
from suanli.terminal.screen import Screen
from suanli_protocol import wire
from suanli_protocol.documents import LogLine
from suanli_protocol.errors import IntegrityError, UnreachableError
from suanli_protocol.market_client import MarketClient
from suanli_protocol.sealing import Context, seal_bytes
from support import builders
from support.records import a_record

LEASE = b"\x07" * 32
TEXT = LogLine(at_ms=1, source="stdout", data="aGVsbG8K")  # hello
FULL = OSError(errno.ENOSPC, "No space left on device")


class Logs:
    """A market with a log of some chunks; `trouble` is raised once they are read."""

    def __init__(self, chunks: int, trouble: Exception | None = None) -> None:
        self._chunks, self._trouble = chunks, trouble

    def logs(self, lease: bytes, *, after: int, **_: object) -> wire.LogPage:
        if after + 1 >= self._chunks and self._trouble is not None:
            raise self._trouble
        key = builders.consumer().encryption_public
        sealed = [seal_bytes(TEXT.canonical() + b"\n", key, Context(lease, "log", n)) for n in range(self._chunks)]
        chunks = [wire.LogChunk(seq=n, data=wire.to_hex(data)) for n, data in enumerate(sealed) if n > after]
        return wire.LogPage(chunks=chunks, complete=self._trouble is None)


def follow(market: Logs, lines: Callable[[list[LogLine]], None], file: Path) -> LogFollower:
    follower = LogFollower(cast(MarketClient, market), builders.consumer(), LEASE, lines, file)
    follower.start()
    return follower


class Broken(Silent):
    """A watcher that can take nothing."""

    def __init__(self, error: OSError = FULL) -> None:
        self.asked, self._error = 0, error

    def lines(self, record: Any, lines: list[LogLine]) -> None:
        self.asked += 1
        raise self._error


def test_the_whole_log_comes_although_nobody_can_be_shown_it(tmp_path: Path) -> None:
    broken = Broken()
    watcher: Watcher = Deafened(broken)
    follower = follow(Logs(5), lambda lines: watcher.lines(a_record("aa" * 32), lines), tmp_path / "log")
    assert follower.wait(5, 10).chunks == 5
    assert broken.asked == 1


def test_a_watcher_that_is_deaf_to_output_still_hears_of_steps() -> None:
    watcher, record, told = Broken(), a_record("aa" * 32), []
    watcher.changed = lambda record, change: told.append(change.kind)  # type: ignore[method-assign]
    deafened = Deafened(watcher)
    deafened.lines(record, [TEXT])
    deafened.changed(record, Change("settled", "paid"))
    assert told == ["settled"]
    assert deafened.trouble is FULL


@pytest.mark.parametrize("error", [FULL, RuntimeError("a bug"), IntegrityError("log: false")])
def test_what_stops_the_fetching_is_what_is_told(tmp_path: Path, error: Exception) -> None:
    def refuse(_: list[LogLine]) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        follow(Logs(2), refuse, tmp_path / "log").wait(2, 10)
    assert caught.value is error


def test_a_log_file_that_cannot_be_written_is_no_fault_of_the_provider(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        follow(Logs(2), lambda _: None, Path("/dev/full")).wait(2, 10)


def test_a_market_that_is_away_at_the_end_is_no_fault_of_the_provider(tmp_path: Path) -> None:
    follower = follow(Logs(2, UnreachableError("it is away")), lambda _: None, tmp_path / "log")
    assert follower.wait(2, 10).chunks == 2
    with pytest.raises(UnreachableError, match="away"):
        follower.wait(3, 0.5)
    follower.stop()


@pytest.mark.parametrize("error", [FULL, RuntimeError("a bug"), UnreachableError("away")])
def test_whoever_follows_a_log_learns_of_every_error(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def drive(*_: object, **__: object) -> None:
        raise error

    session = SimpleNamespace(drive=drive)
    monkeypatch.setattr(JobHandle, "_session", lambda *_: cast(Session, session))
    handle = JobHandle(cast(Client, None), a_record("aa" * 32, phase="running"))
    found: list[Exception] = []

    def read() -> None:
        try:
            list(handle.logs(follow=True))
        except Exception as caught:
            found.append(caught)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(10)
    assert found == [error]


def test_a_reader_that_leaves_stops_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, pipe = os.pipe()
    os.close(gone)
    with io.TextIOWrapper(os.fdopen(pipe, "wb")) as stream:
        monkeypatch.setattr("sys.stdout", stream)
        screen = Screen(Console())
        for _ in range(3):
            screen.lines(a_record("aa" * 32), [TEXT])


def test_a_screen_on_a_full_disk_says_so_once_and_the_status_is_that_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import click

    @click.command()
    @click.pass_obj
    def command(console: Console) -> None:
        watcher = Deafened(Screen(console))
        for _ in range(3):
            watcher.lines(a_record("aa" * 32), [TEXT])
        assert watcher.trouble is not None
        raise watcher.trouble

    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr("sys.stdout", full)
        assert exit_status(command, []) == 9
    assert "No space left" in capsys.readouterr().err
