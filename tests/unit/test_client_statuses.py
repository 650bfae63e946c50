"""Every exit status of the reference is earned: by an error, by a job's end, by the frame, or by a real command."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from suanli.cli import cli
from suanli.commands.reference import HEAD
from suanli.jobs.store import Store
from suanli.session.outcome import status_of
from suanli.terminal import failure
from suanli.terminal.console import output_options
from suanli_protocol import errors
from support.records import a_record

NOWHERE = "http://127.0.0.1:9"
Home = Path


def suanli(*arguments: str) -> int:
    return failure.exit_status(cli, list(arguments))


def raising(error: BaseException) -> Callable[[Home], int]:
    @click.command()
    @output_options
    def command() -> None:
        raise error

    return lambda _: failure.exit_status(command, [])


def ended(phase: str, reason: str = "", **fields: object) -> Callable[[Home], int]:
    """The status that `wait` leaves with for a job that came to this end."""

    def earn(_: Home) -> int:
        lease = "0x01" if reason != "stopped" else ""
        Store().save(a_record("aa", phase=phase, reason=reason, lease=lease, **fields))
        return suanli("wait", "0xaa") if phase == "settled" or not lease else status_of(Store().all()[0])

    return earn


def no_outputs_yet(_: Home) -> int:
    return status_of(a_record("aa", phase="running"))


def wrong_key_file(home: Home) -> int:
    (home / "key.json").touch(mode=0o600)
    return suanli("wallet", "export", "--keystore", str(home / "key.json"))


def interrupted(home: Home) -> int:
    """A command that watches, in a process of its own, and Ctrl-C."""
    code = "import sys; from suanli.cli import main; sys.argv[1:] = ['ps', '-w', '--jsonl']; main()"
    Store().save(a_record("aa", phase="settled", reason="ok"))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["status"] == 0
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert json.loads(err.splitlines()[-1])["code"] == "interrupted"
    return process.returncode


WAYS: list[tuple[int, str, Callable[[Home], int]]] = [
    (0, "a command", lambda _: suanli("ps")),
    (0, "a job", ended("settled", "ok")),
    (1, "a bug", raising(ValueError("x"))),
    (2, "a command", lambda _: suanli("rum")),
    (2, "a job file", lambda home: (home / "j.yaml").write_text("runn: x") * 0 + suanli("quote", "-f", "j.yaml")),
    (3, "a key", wrong_key_file),
    (4, "no offer", raising(errors.NoMatchError("none"))),
    (5, "money", raising(errors.FundsError("too little"))),
    (6, "a chain", lambda _: suanli("audit", "lease", "1", "--chain", NOWHERE, "--escrow", "0x" + "12" * 20)),
    (7, "a market", lambda _: suanli("offers", "--market", NOWHERE)),
    (8, "a wait", raising(errors.TimedOutError("too long"))),
    (8, "a queue", ended("failed", "queue_timeout")),
    (9, "a disk", raising(OSError(errno.ENOSPC, "No space left on device"))),
    (100, "a job", ended("settled", "exit_nonzero")),
    (101, "a job", no_outputs_yet),
    (102, "a job", lambda _: suanli("show", "nothing")),
    (102, "a file", lambda _: suanli("quote", "-f", "none.yaml")),
    (103, "a job", ended("cancelled", "stopped")),
    (104, "a provider", ended("settled", "worker_lost")),
    (104, "bytes", raising(errors.IntegrityError("other bytes"))),
    (105, "a claim", ended("running", disputed=True)),
    (130, "a person", interrupted),
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("SUANLI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SUANLI_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("status", "way"), [(way[0], way[2]) for way in WAYS], ids=[f"{w[0]}-{w[1]}" for w in WAYS])
def test_a_status_is_earned(status: int, way: Callable[[Home], int], home: Home) -> None:
    assert way(home) == status


def test_the_reference_names_every_status_and_no_other() -> None:
    named = {int(number) for number in re.findall(r"^\| (\d+) \|", HEAD, re.MULTILINE)}
    assert named == {status for status, _, _ in WAYS}
