"""Shutdown: only the daemon that serves the state is ended, never a stranger that got its number."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from suanli_node import shutdown
from suanli_node.settings import StateFolder
from suanli_protocol.errors import TimedOutError


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    state = StateFolder(tmp_path / "node")
    state.create()
    return state


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_a_number_that_another_process_has_by_now_is_not_signalled(
    state: StateFolder, stranger: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon was killed and left its file; its number was given away; a command holds the state just now."""
    state.process.write_text(json.dumps({**shutdown.process_record(), "pid": stranger.pid}))
    monkeypatch.setattr(shutdown, "DAEMON_TIMEOUT_S", 0.2)
    with state.locked():
        assert shutdown.daemon_pid(state) is None
        with pytest.raises(TimedOutError, match="stays in use"):
            shutdown.shut_down(state.path)
    assert stranger.poll() is None
    assert shutdown.shut_down(state.path) == {"daemon": "not running", "engine": "not running"}
    assert stranger.poll() is None


def test_a_file_that_a_dead_process_left_names_nobody(state: StateFolder) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    state.process.write_text(json.dumps({"pid": process.pid, "began": "1"}))
    with state.locked():
        assert shutdown.daemon_pid(state) is None


SERVE = """
import json, sys, time
from pathlib import Path
from suanli_node.settings import StateFolder
from suanli_node.shutdown import process_record
state = StateFolder(Path(sys.argv[1]))
with state.locked():
    state.process.write_text(json.dumps(process_record()))
    print("serves", flush=True)
    time.sleep(60)
"""


def test_the_process_that_serves_is_ended(state: StateFolder) -> None:
    command = [sys.executable, "-c", SERVE, str(state.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"serves\n"
        assert shutdown.daemon_pid(state) == daemon.pid
        assert shutdown.shut_down(state.path)["daemon"] == "ended"
        assert daemon.wait(10) != 0
