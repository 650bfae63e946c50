"""Taking the demo down: every process that it started, then every file that it made, but those that it names."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from suanli.demo.home import MACHINES, DemoHome, command
from suanli.files import write_json
from suanli.jobs.store import Store
from suanli.network import MEMORY_FILE
from suanli_protocol.errors import ConfigurationError, SuanliError

NODE_DOWN_TIMEOUT_S = 60.0


@dataclass
class Cleared:
    """What was ended and removed, and what was left where it is."""

    stopped: list[str] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    jobs: int = 0  # local records of the demo's jobs that were removed


def take_down(home: DemoHome, *, keep: bool, progress: Callable[[str, str], None]) -> Cleared:
    """Stops providers, market, chain, in this order; removes the demo's files unless `keep`."""
    cleared = Cleared()
    for machine in MACHINES:
        _stop_node(home, machine.name, cleared, progress)
    for name in ("market", "chain"):
        if home.processes.stop(name):
            cleared.stopped.append(name)
            progress(name, "stopped")
    home.context.unlink(missing_ok=True)
    if keep:
        cleared.kept.append(home.root)
    else:
        _remove(home, cleared)
    return cleared


def _stop_node(home: DemoHome, name: str, cleared: Cleared, progress: Callable[[str, str], None]) -> None:
    """Ends the daemon, and the engine that it leaves running for the sake of jobs."""
    state = home.root / "nodes" / name
    was_alive = home.processes.stop(name)
    said = _node_down(state) if state.is_dir() else ""
    if was_alive or said:
        cleared.stopped.append(name)
        progress(name, said or "stopped")


def _node_down(state: Path) -> str:
    """`suanli-node down` of one state folder; ConfigurationError with its words if it fails."""
    arguments = [command("suanli-node"), "down", "--state", str(state)]
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=NODE_DOWN_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise ConfigurationError(
            f"`suanli-node down --state {state}` did not end within {NODE_DOWN_TIMEOUT_S:g} s",
            hint="run it by hand to see why; nothing was removed",
        ) from None
    if done.returncode:
        raise ConfigurationError(
            f"`suanli-node down --state {state}` failed:\n{(done.stderr or done.stdout).strip()}",
            hint="run it by hand to see why; nothing was removed",
        )
    return "stopped, with its engine"


def _remove(home: DemoHome, cleared: Cleared) -> None:
    """Removes the demo's folder, and the local records of jobs that lived on its escrow: they mean nothing any more."""
    cleared.jobs = _forget_jobs(home, cleared)
    if home.root.is_dir():
        shutil.rmtree(home.root)
        cleared.removed.append(home.root)
    data = home.root.parent
    for folder in (data / "jobs", data / "drafts", data):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _forget_network(path: Path, escrow: str) -> None:
    """Strikes the demo's chain off the list of networks that this client has seen; the list goes if nothing is left."""
    try:
        seen = json.loads(path.read_bytes())
        left = {name: genesis for name, genesis in seen.items() if not escrow or escrow.lower() not in name.lower()}
    except (OSError, ValueError, AttributeError):
        return
    if left:
        write_json(path, left)
    else:
        path.unlink()


def _forget_jobs(home: DemoHome, cleared: Cleared) -> int:
    try:
        memory = home.load()
        store = Store(home.root.parent)
        records = [record for record in store.all() if record.escrow.lower() == memory.escrow.lower() != ""]
    except SuanliError:
        return 0  # a damaged record is not ours to judge: it stays
    _forget_network(home.root.parent / MEMORY_FILE, memory.escrow)
    for record in records:
        store.forget(record.id)
        if record.output_dir and Path(record.output_dir).is_dir():
            cleared.kept.append(Path(record.output_dir))
    return len(records)
