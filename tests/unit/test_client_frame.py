"""The command line's frame: what it imports, how it fails, with which status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from suanli.cli import COMMANDS, cli
from suanli.terminal import failure
from suanli.terminal.console import Console, output_options
from suanli.terminal.plain import for_terminal
from suanli_protocol import errors

HEAVY = ("web3", "eth_account", "pydantic", "httpx", "rich", "cryptography", "coincurve", "ray", "fastapi", "sqlmodel")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MARKET", "CHAIN", "ESCROW", "KEYSTORE", "PASSWORD_FILE"):
        monkeypatch.delenv(f"SUANLI_{name}", raising=False)
    monkeypatch.setenv("SUANLI_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from suanli.terminal.failure import exit_status; from suanli.cli import cli; "
    code += "s = exit_status(cli, ['--help']); print('MODULES', *sorted(sys.modules)); sys.exit(s)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split("MODULES ")[1].split()
    assert [name for name in HEAVY if name in modules] == []
    for name in ("run", "offers", "audit", "doctor"):
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", [n for section in COMMANDS.values() for n in section if n not in ("audit", "demo")])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.exit_status(cli, [name, "--help"]) == 0
    assert "Usage: suanli" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["wallet"], ["demo"], ["audit"], ["config"]])
def test_without_arguments_there_is_help_and_no_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.exit_status(cli, words) == 2
    told = capsys.readouterr().err
    assert told.startswith("Usage: suanli")
    assert "Error" not in told
    assert "usage" not in told


def test_a_strangers_words_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    failure.tell(errors.MarketError("no\x1b]0;gone\x07\r\nnever", hint="try \x9b31m"), Console())
    told = capsys.readouterr().err
    assert not {"\x1b", "\x07", "\r", "\x9b"} & set(told)
    assert "never" in told


def _all_errors(kind: type[errors.SuanliError]) -> Iterator[type[errors.SuanliError]]:
    for child in kind.__subclasses__():
        if child.__module__ == "suanli_protocol.errors":
            yield child
            yield from _all_errors(child)


STATUSES = {
    "UsageError": 2,
    "ConfigurationError": 2,
    "UnusableKeyError": 3,
    "ProtocolError": 2,
    "SignatureError": 3,
    "NoMatchError": 4,
    "FundsError": 5,
    "ChainError": 6,
    "ChainUnavailableError": 6,
    "ChainRevertedError": 6,
    "MarketError": 7,
    "UnreachableError": 7,
    "TimedOutError": 8,
    "ExecutionError": 104,
    "NotFoundError": 102,
    "IntegrityError": 104,
}


def test_the_table_of_statuses_is_complete() -> None:
    assert {kind.__name__ for kind in _all_errors(errors.SuanliError)} == set(STATUSES)


def failing(error: BaseException) -> click.Command:
    @click.command()
    @output_options
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize("kind", list(_all_errors(errors.SuanliError)), ids=lambda kind: kind.__name__)
def test_each_error_has_its_status_and_is_told(
    kind: type[errors.SuanliError], capsys: pytest.CaptureFixture[str]
) -> None:
    error = kind("what went wrong", hint="what to change")
    assert failure.exit_status(failing(error), []) == STATUSES[kind.__name__]
    told = capsys.readouterr()
    assert told.out == ""
    assert "what went wrong" in told.err
    assert "what to change" in told.err
    assert "Traceback" not in told.err


def test_an_error_under_json_is_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.exit_status(failing(errors.FundsError("too little", hint="fund")), ["--json"]) == 5
    told = capsys.readouterr()
    assert json.loads(told.err) == {
        "code": "funds",
        "title": errors.FundsError.title,
        "detail": "too little",
        "hint": "fund",
        "retryable": False,
    }
    assert told.out == ""


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (click.Abort(), 130), (ValueError("x"), 1)])
def test_interrupts_and_bugs(error: BaseException, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.exit_status(failing(error), []) == status
    assert "Traceback" not in capsys.readouterr().err


def test_a_full_disk_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.exit_status(failing(OSError(28, "No space left on device", "/x")), ["--json"]) == 9
    told = json.loads(capsys.readouterr().err)
    assert (told["code"], told["retryable"]) == ("machine", True)
    assert "free some space" in told["hint"]


def test_a_path_that_may_not_be_used_is_the_users_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.exit_status(failing(OSError(13, "Permission denied", "/x")), []) == 2
    assert "permissions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["rum"], 2, "'run'"),
        (["run", "--cpu", "1", "--", "x"], 2, "--cpus"),
        (["run"], 2, "nothing to run"),
        (["run", "-f", "none.yaml"], 102, "none.yaml"),
        (["run", "--", "x"], 2, "SUANLI_MARKET"),
        (["run", "--cpus", "many", "--", "x"], 2, "--cpus"),
        (["run", "--env", "A", "--", "x"], 2, "--env"),
        (["run", "--max-price", "0", "--", "x"], 2, "--max-price"),
        (["quote", "--", "x"], 2, "SUANLI_MARKET"),
        (["show", "0xabc"], 102, "0xabc"),
        (["wait", "nothing"], 102, "nothing"),
        (["get", "nothing"], 102, "nothing"),
        (["logs", "nothing"], 102, "nothing"),
        (["cancel", "nothing"], 102, "nothing"),
        (["wallet", "show"], 2, "SUANLI_ESCROW"),
        (["wallet", "new"], 3, "--password-file"),
        (["offers", "--market", "http://127.0.0.1:1"], 7, "127.0.0.1:1"),
        (["run", "--market", "http://127.0.0.1:1", "--", "x"], 2, "SUANLI_CHAIN"),
    ],
)
def test_bad_invocations(arguments: list[str], status: int, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.exit_status(cli, arguments) == status
    told = capsys.readouterr()
    assert named in told.err
    assert told.out == ""


def test_a_new_wallet_is_encrypted_private_and_never_replaced(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    password = home / "pw"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    arguments = ["wallet", "new", "--password-file", str(password), "--json"]
    assert failure.exit_status(cli, arguments) == 0
    made = json.loads(capsys.readouterr().out)
    path = Path(made["keystore"])
    assert path == home / "config/suanli/keystore.json"
    assert path.stat().st_mode & 0o077 == 0
    before = path.read_bytes()
    assert failure.exit_status(cli, arguments) == 3
    assert "exists already" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_password_file_that_others_can_read_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    password = home / "pw"
    password.write_text("x\n")
    password.chmod(0o644)
    assert failure.exit_status(cli, ["wallet", "new", "--password-file", str(password)]) == 3
    assert "chmod 600" in capsys.readouterr().err


def test_config_show_says_the_origin(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / ".suanli.toml").write_text('market = "http://local"\n')
    assert failure.exit_status(cli, ["config", "show", "--origin", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["market"] == {"value": "http://local", "origin": "./.suanli.toml"}
    assert shown["chain"] == {"value": None, "origin": "not set"}


def test_doctor_names_each_fix(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure.exit_status(cli, ["doctor", "--json", "--market", "http://127.0.0.1:1"]) == 2
    found = {item["check"]: item for item in json.loads(capsys.readouterr().out)}
    assert found["market"]["state"] == "failed"
    assert found["keystore"]["state"] == "failed"
    assert found["offers"]["state"] == "skipped"
    assert found["disk"]["state"] == "ok"
    assert all(item["fix"] for item in found.values() if item["state"] == "failed")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain\ttext\n", "plain\ttext\n"),
        (b"\x1b[31mred\x1b[0m\n", "red\n"),
        (b"\x1b]0;title\x07x", "x"),
        (b"\x1b]52;c;AAAA\x1b\\x", "x"),
        (b"\x1bPq\x1b\\x", "x"),
        (b"\x1b[2J\x1b[Hx", "x"),
        (b"a\x08b", "a\ufffdb"),
        (b"50%\r100%\n", "50%\n100%\n"),
        (b"\xff", "\ufffd"),
        ("\u202eevil".encode(), "\ufffdevil"),
        (b"\x9b31mx", "\ufffd31mx"),
        ("\x9b31mx".encode(), "\ufffd31mx"),
        (b"\x1b", "\ufffd"),
    ],
)
def test_job_output_cannot_steer_the_terminal(raw: bytes, shown: str) -> None:
    assert for_terminal(raw) == shown


def test_no_prompt_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115, PTH123
    with pytest.raises(errors.UsageError, match="terminal") as caught:
        Console().confirm("Proceed?")
    assert "--yes" in caught.value.hint
