"""Shutdown: the daemon ends, then the engine with all that runs in it; when this returns, no process is left."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

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


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """A SIGTERM, or the end of the terminal, ends this process as an exit does: what was begun is taken down."""

    def leave(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    wanted = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    former = {number: signal.signal(number, leave) for number in wanted}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def daemon_pid(state: StateFolder) -> int | None:
    """The process that serves this state now, if one does."""
    try:
        with state.locked():
            return None
    except ConfigurationError:
        return _named_in(state.process)


def process_record() -> dict[str, int | str]:
    """What names this process and no later one that gets its number."""
    return {"pid": os.getpid(), "began": _began(os.getpid())}


def _named_in(path: Path) -> int | None:
    """The process that a file names, if it lives: a killed daemon leaves its file, and a command may hold the lock."""
    try:
        record = json.loads(path.read_bytes())
        pid = int(record["pid"])
        return pid if record.get("began", _began(pid)) == _began(pid) else None
    except (OSError, ValueError, KeyError):
        return None


def _began(pid: int) -> str:
    """When a process began, in ticks of this boot: no clock that is set changes that. OSError if there is none."""
    facts = Path(f"/proc/{pid}/stat").read_bytes()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {facts[facts.rindex(b')') + 2 :].split()[19].decode()}"


def _end_daemon(state: StateFolder, held: ExitStack) -> str:
    """End it, and hold its state so that no other begins meanwhile."""
    deadline, said = time.monotonic() + DAEMON_TIMEOUT_S, "not running"
    while True:
        pid = daemon_pid(state)
        if pid is not None and said == "not running":
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            said = "ended"
        try:
            held.enter_context(state.locked())
            return said
        except ConfigurationError:
            if time.monotonic() > deadline:
                raise TimedOutError(
                    f"{state.path} stays in use{f' by its daemon, pid {pid}' if pid else ''}",
                    hint="look into its log; kill it by its pid, or wait for the command that holds it",
                ) from None
        time.sleep(0.05)


def _end_engine(state: StateFolder) -> str:
    if not state.executor.is_dir():
        return "not running"
    executor = Executor(EngineFolder(state.executor))
    was_alive = executor.host_lives()
    executor.shutdown()
    return "ended" if was_alive else "not running"
