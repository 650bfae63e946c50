"""Shutdown: the daemon ends, then the engine with all that runs in it; when this returns, no process is left."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

from suanli_node.engine.executor import Executor
from suanli_node.engine.namespace import StateFolder as EngineFolder
from suanli_node.settings import StateFolder
from suanli_protocol.errors import ConfigurationError, TimedOutError

DAEMON_TIMEOUT_S = 30.0


def shut_down(path: Path) -> dict[str, str]:
    """What was ended: {"daemon", "engine"}, each "ended" or "not running"; TimedOutError if the daemon does not end."""
    state = StateFolder(path.resolve())
    if not state.path.is_dir():
        return {"daemon": "not running", "engine": "not running"}
    with ExitStack() as held:
        daemon = _end_daemon(state, held)
        return {"daemon": daemon, "engine": _end_engine(state)}


def daemon_pid(state: StateFolder) -> int | None:
    """The process that serves this state now, if one does."""
    try:
        with state.locked():
            return None
    except ConfigurationError:
        try:
            return int(json.loads(state.process.read_bytes())["pid"])
        except (OSError, ValueError, KeyError):
            return None


def _end_daemon(state: StateFolder, held: ExitStack) -> str:
    """End it, and hold its state so that no other begins meanwhile."""
    deadline, said = time.monotonic() + DAEMON_TIMEOUT_S, "not running"
    while True:
        pid = daemon_pid(state)
        if pid is not None and said == "not running":
            os.kill(pid, signal.SIGTERM)
            said = "ended"
        try:
            held.enter_context(state.locked())
            return said
        except ConfigurationError:
            if time.monotonic() > deadline:
                raise TimedOutError(
                    f"the daemon of {state.path} (pid {pid}) does not end", hint="look into its log; kill it by its pid"
                ) from None
        time.sleep(0.05)


def _end_engine(state: StateFolder) -> str:
    if not state.executor.is_dir():
        return "not running"
    executor = Executor(EngineFolder(state.executor))
    was_alive = executor.host_lives()
    executor.shutdown()
    return "ended" if was_alive else "not running"
