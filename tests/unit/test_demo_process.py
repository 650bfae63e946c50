"""The demo's programs and its ledger file: who is stopped, what a dead program says, which genesis is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from suanli.demo.home import DemoHome, anvil, package_index
from suanli.demo.ledger import keep_first_genesis
from suanli.demo.process import ProcessTable, start_time
from suanli.files import write_json
from suanli_protocol.errors import ConfigurationError, IntegrityError, TimedOutError

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_program_is_started_found_again_and_stopped(tmp_path: Path) -> None:
    """Its record outlives the table; after stop nothing is left of it."""
    record = ProcessTable(tmp_path).start("sleeper", SLEEP)
    again = ProcessTable(tmp_path)
    assert again.alive("sleeper") == record
    assert os.getsid(record.pid) == record.pid
    assert again.stop("sleeper")
    assert start_time(record.pid) is None
    assert again.find("sleeper") is None
    assert not again.stop("sleeper")


def test_a_stranger_with_the_same_id_is_left_alone(tmp_path: Path) -> None:
    """A record whose start time is another's names no living program, and stop touches nobody."""
    stranger = subprocess.Popen(SLEEP)
    try:
        table = ProcessTable(tmp_path)
        record = table.start("mine", [sys.executable, "-c", "pass"])
        begun = start_time(stranger.pid)
        assert begun is not None
        reused = replace(record, pid=stranger.pid, started=begun - 1)
        write_json(tmp_path / "run" / "mine.json", reused.__dict__)
        assert table.alive("mine") is None
        assert not table.stop("mine")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_program_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    """SIGKILL follows SIGTERM after the time given."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    deaf += "; print('ready {}', flush=True); time.sleep(60)"
    table = ProcessTable(tmp_path)
    record = table.start("deaf", [sys.executable, "-c", deaf])
    assert table.wait(record, "deaf", lambda: table.ready_line("deaf"), 20) == {}
    assert table.stop("deaf", timeout_s=0.3)
    assert start_time(record.pid) is None


def test_waiting_returns_the_ready_line(tmp_path: Path) -> None:
    """The JSON after `ready`, however much was printed before."""
    script = "import time; print('hello'); print('ready {\"url\": \"x\"}', flush=True); time.sleep(60)"
    table = ProcessTable(tmp_path)
    record = table.start("server", [sys.executable, "-c", script])
    try:
        assert table.wait(record, "server", lambda: table.ready_line("server"), 20) == {"url": "x"}
    finally:
        table.stop("server")


def test_a_program_that_dies_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """The error holds the last lines and names the log."""
    table = ProcessTable(tmp_path)
    record = table.start("broken", [sys.executable, "-c", "raise SystemExit('port 1 is taken')"])
    with pytest.raises(ConfigurationError, match="port 1 is taken") as caught:
        table.wait(record, "the broken one", lambda: table.ready_line("broken"), 20)
    assert str(table.log("broken")) in caught.value.hint


def test_a_program_that_is_late_is_told(tmp_path: Path) -> None:
    """Waiting ends."""
    table = ProcessTable(tmp_path)
    record = table.start("slow", SLEEP)
    try:
        with pytest.raises(TimedOutError):
            table.wait(record, "the slow one", lambda: None, 0.2)
    finally:
        table.stop("slow")


def test_secrets_of_the_environment_are_not_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A started program sees the harmless variables alone."""
    monkeypatch.setenv("SUANLI_PASSWORD", "hush")
    table = ProcessTable(tmp_path)
    record = table.start(
        "env", [sys.executable, "-c", "import os; print(sorted(os.environ)); print('ready {}', flush=True)"]
    )
    while record.is_alive and table.ready_line("env") is None:
        time.sleep(0.02)
    text = table.log("env").read_text()
    assert "'PATH'" in text
    assert "SUANLI_PASSWORD" not in text
    table.stop("env")


def test_of_several_first_blocks_the_oldest_is_kept(tmp_path: Path) -> None:
    """Whatever their order; the rest of the ledger is untouched."""
    ledger = tmp_path / "state.json"
    blocks = [
        {"header": {"number": hex(n), "timestamp": hex(t)}} for n, t in ((1, 60), (0, 90), (0, 50), (0, 70), (2, 61))
    ]
    ledger.write_text(json.dumps({"blocks": blocks, "best_block_number": 2}))
    keep_first_genesis(ledger)
    state = json.loads(ledger.read_text())
    numbers = [(int(b["header"]["number"], 16), int(b["header"]["timestamp"], 16)) for b in state["blocks"]]
    assert numbers == [(1, 60), (0, 50), (2, 61)]
    assert state["best_block_number"] == 2
    keep_first_genesis(tmp_path / "absent.json")
    ledger.write_text("{")
    with pytest.raises(IntegrityError):
        keep_first_genesis(ledger)


def test_a_missing_anvil_is_told_with_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither named, nor in node_modules, nor on the PATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("suanli.demo.home.SOURCE_TREE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SUANLI_ANVIL", raising=False)
    with pytest.raises(ConfigurationError, match="Anvil") as caught:
        anvil()
    assert "make demo" in caught.value.hint
    monkeypatch.setenv("SUANLI_ANVIL", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="SUANLI_ANVIL"):
        anvil()
    program = tmp_path / "node_modules" / "@foundry-rs" / "anvil-x" / "bin" / "anvil"
    program.parent.mkdir(parents=True)
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.delenv("SUANLI_ANVIL")
    assert anvil() == str(program)


def test_where_packages_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of wheels that is given, else one beside the project, else the environment; no passwords on argv."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("suanli.demo.home.SOURCE_TREE", tmp_path)
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    assert package_index(None) == "default"
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    assert package_index(None) == "https://index.example/simple"
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@index.example/simple")
    with pytest.raises(ConfigurationError, match="password") as caught:
        package_index(None)
    assert "secret" not in caught.value.detail
    (tmp_path / ".cache" / "wheels").mkdir(parents=True)
    (tmp_path / ".cache" / "wheels" / "a-1-py3-none-any.whl").write_text("")
    assert package_index(None) == str(tmp_path / ".cache" / "wheels")
    with pytest.raises(ConfigurationError, match="no wheels"):
        package_index(str(tmp_path))


def test_what_the_demo_remembers_survives_and_is_private(tmp_path: Path) -> None:
    """Memory is written and read back; passwords are the user's alone and stay the same."""
    home = DemoHome(tmp_path / "demo")
    memory = home.load()
    memory.escrow = "0x" + "11" * 20
    home.save(memory)
    assert DemoHome(tmp_path / "demo").load().escrow == memory.escrow
    first = home.make_password("market").read_text()
    assert home.make_password("market").read_text() == first
    assert home.password_file("market").stat().st_mode & 0o077 == 0
    (home.root / "demo.json").write_text("[]")
    with pytest.raises(IntegrityError):
        home.load()
