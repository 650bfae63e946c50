"""Commands that need no market: what they print, keep and refuse, run in this process by their real code."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from suanli.cli import COMMANDS, cli
from suanli.jobs.store import Store
from suanli.session.goals import goal_of, has_succeeded
from suanli.terminal import failure
from suanli.terminal.completing import jobs as complete_jobs
from suanli.terminal.events import line, unmatched
from suanli.terminal.logs import since_ms
from suanli_protocol import wire
from suanli_protocol.errors import UsageError
from support.records import a_record

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MARKET", "CHAIN", "ESCROW", "KEYSTORE", "PASSWORD_FILE", "ARBITER", "GUARD", "WINDOW"):
        monkeypatch.delenv(f"SUANLI_{name}", raising=False)
    monkeypatch.setenv("SUANLI_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def store() -> Store:
    store = Store()
    store.save(a_record("aa11", name="done", phase="settled", reason="ok", paid="1000", fee="5", gas=7, created_at=10))
    store.save(a_record("bb22", name="gone", phase="cancelled", reason="stopped", created_at=20))
    store.save(a_record("cc33", name="going", phase="queued", created_at=30))
    return store


def suanli(*arguments: str) -> int:
    return failure.exit_status(cli, list(arguments))


# cost, ps, show, forget


def test_cost_as_json_csv_and_table(store: Store, capsys: Capture) -> None:
    assert suanli("cost", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["price"], row["fee"], row["total"], row["gas"]) for row in found["rows"]] == [
        ("done", "1000", "5", "1005", 7)
    ]
    assert found["totals"][0]["total"] == "1005"
    assert suanli("cost", "--by", "day", "--csv") == 0
    assert capsys.readouterr().out.splitlines()[1] == "1970-01-01,,1,0.001,0.000005,0.001005,7,DEV"
    assert suanli("cost") == 0
    assert "market fee" in capsys.readouterr().out
    assert suanli("cost", "--csv", "--json") == 2


def test_nothing_spent_is_no_error(capsys: Capture) -> None:
    assert suanli("cost") == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "Nothing is settled" in told.err
    assert suanli("cost", "-q") == 0
    assert capsys.readouterr().err == ""


def test_ps_lists_and_watches_only_where_that_can_be_seen(store: Store, capsys: Capture) -> None:
    assert suanli("ps", "--json") == 0
    assert [item["name"] for item in json.loads(capsys.readouterr().out)] == ["going", "gone", "done"]
    assert suanli("ps", "--jsonl") == 0
    assert [json.loads(text)["status"] for text in capsys.readouterr().out.splitlines()] == [101, 103, 0]
    assert suanli("ps", "-w", "--json") == 2
    assert "--jsonl" in json.loads(capsys.readouterr().err)["hint"]


def test_forget_keeps_what_is_not_over(store: Store, home: Path, capsys: Capture) -> None:
    (store.folder(store.all()[-1].id) / "outputs.tar").write_bytes(b"x" * 5000)
    assert suanli("forget", "going", "--yes", "--json") == 2
    assert json.loads(capsys.readouterr().err)["code"] == "not_over"
    assert suanli("forget", "done", "--json") == 2  # no terminal to ask
    capsys.readouterr()
    assert suanli("forget", "done", "--yes", "--json") == 0
    forgotten = json.loads(capsys.readouterr().out)
    assert forgotten["bytes"] > 5000
    assert [record.name for record in store.all()] == ["going", "gone"]
    assert suanli("forget", "--older", "3650d", "--yes") == 0
    assert [record.name for record in store.all()] == ["going"]
    assert suanli("forget", "done", "--yes") == 102
    assert suanli("forget") == 2


# config


def test_config_set_keeps_the_rest_of_the_file(home: Path, capsys: Capture) -> None:
    file = home / "config/suanli/config.toml"
    assert suanli("config", "set", "market", "http://127.0.0.1:8600", "--json") == 0
    assert json.loads(capsys.readouterr().out)["origin"] == "~/config/suanli/config.toml"
    file.write_text('# mine\nmarket = "http://old"  # why\nchain = "http://127.0.0.1:8545"\n')
    assert suanli("config", "set", "market", "http://new:1") == 0
    assert file.read_text() == '# mine\nmarket = "http://new:1"\nchain = "http://127.0.0.1:8545"\n'
    assert suanli("config", "set", "keystore", "key.json", "--local") == 0
    assert (home / ".suanli.toml").read_text() == f'keystore = "{home}/key.json"\n'
    assert suanli("config", "unset", "market") == 0
    assert suanli("config", "unset", "market") == 2
    assert file.read_text() == '# mine\nchain = "http://127.0.0.1:8545"\n'
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("markt", "http://x", "market"),
        ("market", "ftp://x", "address"),
        ("market", "", "market"),
        ("escrow", "0x12", "escrow"),
        ("guard", "0x12", "guard"),
        ("window", "soon", "duration"),
        ("chain", "http://a\nmarket = 'http://evil'", "chain"),
    ],
)
def test_config_set_refuses_what_cannot_be(name: str, value: str, named: str, home: Path, capsys: Capture) -> None:
    assert suanli("config", "set", name, value) == 2
    assert named in capsys.readouterr().err
    assert not (home / "config/suanli/config.toml").exists()


def test_a_value_cannot_break_out_of_its_line(home: Path) -> None:
    value = 'http://a/"\\x'
    assert suanli("config", "set", "market", value) == 0
    from suanli.config import load

    assert load().get("market") == value


# completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: Capture) -> None:
    assert suanli("completion", shell) == 0
    told = capsys.readouterr()
    assert f"_SUANLI_COMPLETE={shell}_complete" in told.out
    assert "suanli" in told.out


def test_tab_completes_commands_and_jobs(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    assert [item.value for item in complete_jobs(None, None, "")] == [  # type: ignore[arg-type]
        *("going", "0xcc330000", "gone", "0xbb220000", "done", "0xaa110000")
    ]
    monkeypatch.setenv("_SUANLI_COMPLETE", "bash_complete")
    for words, number, expected in (
        ("suanli do", 1, "doctor"),
        ("suanli show do", 2, "done"),
        ("suanli wait 0xb", 2, "0xbb220000"),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(number))
        with pytest.raises(SystemExit):
            suanli()
        assert f"plain,{expected}\n" in capsys.readouterr().out


# events, logs, goals


def an_event(kind: str, **data: object) -> wire.Event:
    return wire.Event.model_validate({"seq": 1, "at": 0, "kind": kind, "bid": "0x" + "44" * 32, "data": data})


def test_the_unmatched_event_counts_each_condition() -> None:
    found = [{"condition": "memory", "detail": "lack memory", "offers": 3}, {"condition": "region", "offers": 12}]
    event = an_event("bid.unmatched", rejections=found, considered=41)
    assert line(event, a_record("aa")).endswith("bid.unmatched         3 of 41 lack memory; 12 of 41 region")
    assert unmatched({"rejections": [], "considered": 0}) == "the market has no open offer"
    assert unmatched({"rejections": "x"}) == "no offer fits"


def test_an_event_cannot_steer_the_terminal_and_shows_money() -> None:
    assert "\x1b" not in line(an_event("lease.phase", phase="\x1b[2Jrunning"), None)
    text = line(an_event("lease.settled", paid="1000000", fee="5"), a_record("aa"))
    assert "paid 1.00 DEV" in text
    assert "fee 0.000005 DEV" in text


def test_an_event_reads_as_words_with_what_is_long_at_its_end() -> None:
    data = {"transaction": "0x" + "11" * 32, "paid": "94", "kind": 1}
    event = wire.Event(seq=1, at=0, kind="lease.settled", data=data)
    assert line(event, a_record("aa11")).endswith(f"paid 0.000094 DEV, kind done, transaction 0x{'11' * 32}")


def test_since_is_an_age_or_a_date() -> None:
    assert since_ms("2026-01-31T18:00:00+00:00") == 1_769_882_400_000
    assert since_ms("10m") < since_ms("5m")
    with pytest.raises(UsageError, match="no time"):
        since_ms("yesterday")


@pytest.mark.parametrize(
    ("phase", "reason", "wanted", "is_there", "succeeded"),
    [
        ("queued", "", "running", False, False),
        ("running", "", "running", True, True),
        ("running", "", "leased", True, True),
        ("running", "", "succeeded", False, False),
        ("succeeded", "ok", "running", True, True),
        ("succeeded", "ok", "settled", False, False),
        ("settled", "ok", "settled", True, True),
        ("failed", "exit_nonzero", "running", True, False),
        ("cancelled", "stopped", "queued", True, False),
    ],
)
def test_goals(phase: str, reason: str, wanted: str, is_there: bool, succeeded: bool) -> None:
    record = a_record("aa", phase=phase, reason=reason, lease="0x01" if phase != "queued" else "")
    assert goal_of(wanted)(record) is is_there
    assert has_succeeded(record, wanted) is succeeded


def _flags(name: str) -> set[str]:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    commands = list(command.commands.values()) if isinstance(command, click.Group) else [command]
    found = [{flag for option in item.params for flag in option.opts} for item in commands]
    return set.intersection(*found)


@pytest.mark.parametrize("name", [name for section in COMMANDS.values() for name in section if name != "demo"])
def test_every_command_speaks_to_programs(name: str) -> None:
    assert {"--json", "--quiet", "--verbose"} <= _flags(name)


@pytest.mark.parametrize("name", ["run", "wait", "events", "logs", "ps"])
def test_what_goes_on_speaks_line_by_line(name: str) -> None:
    assert "--jsonl" in _flags(name)


def test_an_error_under_jsonl_is_a_problem(capsys: Capture) -> None:
    assert suanli("logs", "nothing", "--jsonl") == 102
    assert set(json.loads(capsys.readouterr().err)) == {"code", "title", "detail", "hint", "retryable"}
