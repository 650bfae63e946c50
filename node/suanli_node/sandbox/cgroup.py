"""Kernel control groups for a run, where this process may make them; version 2, version 1, or some of each.

They bind what per-process limits cannot: the number of processes of a whole tree, its memory, its share of the CPU.
A controller that is missing or closed to us is left out, and `Cgroup.controllers` says which ones hold.

Version 1 has a hierarchy for each controller. Version 2 has one, and in it no group may have both processes of its own
and children with limits; so the node's own processes stand in a leaf (`LEAF`) beside the groups of its runs, below one
group that is theirs: `settle` puts them there, or a service manager has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
LEAF = "suanli-node"  # as DelegateSubgroup= of the systemd unit
CONTROLLERS = ("cpu", "memory", "pids")
_CPU_PERIOD_US = 100_000
_SETTLE_ROUNDS = 20  # processes that are just being forked are met at the next one


@dataclass(frozen=True)
class CgroupLimits:
    """Limits of one run."""

    processes: int
    memory_bytes: int
    cpus_milli: int


@dataclass(frozen=True)
class Home:
    """A group below which groups of runs are made, and what can be limited there."""

    folder: Path
    version: int
    controllers: tuple[str, ...]

    def settings(self, controller: str, limits: CgroupLimits) -> dict[str, str]:
        """The files to write for a controller."""
        quota = max(1000, limits.cpus_milli * _CPU_PERIOD_US // 1000)
        if controller == "pids":
            return {"pids.max": str(limits.processes)}
        if self.version == 1:
            memory = {"memory.limit_in_bytes": str(limits.memory_bytes)}
            cpu = {"cpu.cfs_period_us": str(_CPU_PERIOD_US), "cpu.cfs_quota_us": str(quota)}
        else:  # `oom.group`: whatever is killed for want of memory, all of the run ends
            memory = {"memory.max": str(limits.memory_bytes), "memory.oom.group": "1"}
            cpu = {"cpu.max": f"{quota} {_CPU_PERIOD_US}"}
        return cpu if controller == "cpu" else memory


@dataclass(frozen=True)
class Part:
    """A group of a run below one home, and which of its controllers bind."""

    folder: Path
    version: int
    controllers: tuple[str, ...]


class Cgroup:
    """All groups of one run."""

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self._parts = tuple(parts)

    @classmethod
    def create(cls, name: str, limits: CgroupLimits) -> Cgroup:
        """Groups called `name` with these limits, wherever they can be made; an unusable controller is skipped."""
        return cls(part for home in homes() if (part := _make(home, name, limits)) is not None)

    @property
    def controllers(self) -> tuple[str, ...]:
        """The controllers that bind the run."""
        return tuple(sorted(controller for part in self._parts for controller in part.controllers))

    def add(self, pid: int) -> None:
        """Put a process, and all that it will start, into the groups."""
        for part in self._parts:
            (part.folder / "cgroup.procs").write_text(str(pid))

    def memory_kills(self) -> int:
        """How often the kernel killed a process of the run for want of memory."""
        return self._count("memory", {1: "memory.oom_control", 2: "memory.events"}, "oom_kill")

    def refused_processes(self) -> int:
        """How often the kernel refused the run a process."""
        return self._count("pids", {1: "pids.events", 2: "pids.events"}, "max")

    def cpu_ms(self) -> int:
        """CPU time of all that ever ran in the run, reaped or not; 0 where no group counts it."""
        return self._count("cpu", {2: "cpu.stat"}, "usage_usec") // 1000

    def remove(self) -> None:
        """Delete the groups; processes that are just dying get a moment to leave."""
        for part in self._parts:
            for _ in range(50):
                try:
                    part.folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)
                else:
                    break

    def _count(self, controller: str, files: dict[int, str], name: str) -> int:
        part = next((part for part in self._parts if controller in part.controllers), None)
        if part is None or part.version not in files:
            return 0
        with suppress(OSError):
            for line in (part.folder / files[part.version]).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == name:
                    return int(value)
        return 0


def enforced() -> tuple[str, ...]:
    """The controllers that bind runs of this process: tried with a group of its own."""
    group = Cgroup.create(group_name(f"trial-{os.getpid()}"), CgroupLimits(64, 64 * 2**20, 100))
    group.remove()
    return group.controllers


def group_name(run: str) -> str:
    """What the groups of a run are called."""
    return f"suanli-{run}"


def discard(run: str) -> None:
    """Delete groups that a run left whose keeper was killed."""
    Cgroup(Part(home.folder / group_name(run), home.version, home.controllers) for home in homes()).remove()


def homes() -> list[Home]:
    """Where this process may try to make groups, by version 1 hierarchies and then by version 2."""
    found = [Home(folder, 1, (name,)) for name, folder in own_groups().items() if name in CONTROLLERS]
    own = own_group()
    home = home_of(own) if own is not None else None
    if home is not None:
        with suppress(OSError):
            given = (home / "cgroup.subtree_control").read_text().split()
            if controllers := tuple(name for name in CONTROLLERS if name in given):
                found.append(Home(home, 2, controllers))
    return found


def settle() -> None:
    """Make a version 2 home for runs of what this process starts from now on, if the group is ours to divide.

    Every process of our group moves into its leaf. A service's group is left as it is: its manager puts a process there
    at each start, which the kernel would refuse once the group was divided (`DelegateSubgroup=` is the way).
    """
    own = own_group()
    if own is None:
        return
    home = home_of(own)
    with suppress(OSError):
        if home is None and not own.name.endswith(".service"):
            home = _divide(own)
        if home is not None:
            _delegate(home)


def home_of(own: Path) -> Path | None:
    """The group below which a process in `own` may have others, if `own` is the leaf of one, or the root of all."""
    if own.name == LEAF:
        return own.parent
    return None if (own / "cgroup.type").exists() else own


def own_group() -> Path | None:
    """The caller's own group in the version 2 hierarchy, where it is mounted and can limit anything."""
    mounted = next((path for path in (ROOT, ROOT / "unified") if (path / "cgroup.controllers").exists()), None)
    if mounted is None:
        return None
    with suppress(OSError):
        if not set(CONTROLLERS) & set((mounted / "cgroup.controllers").read_text().split()):
            return None
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                folder = mounted / line[3:].lstrip("/")
                return folder if folder.is_dir() else None
    return None


def own_groups() -> dict[str, Path]:
    """The caller's own group per version 1 controller, where its hierarchy is mounted."""
    groups: dict[str, Path] = {}
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in filter(None, controllers.split(",")):
                folder = ROOT / controller / path.lstrip("/")
                if folder.is_dir():
                    groups[controller] = folder
    return groups


def _make(home: Home, name: str, limits: CgroupLimits) -> Part | None:
    """The group of a run below a home; None if nothing binds there."""
    folder, bound = home.folder / name, []
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    for controller in home.controllers:
        with suppress(OSError):
            for file, value in home.settings(controller, limits).items():
                (folder / file).write_text(value)
            bound.append(controller)
    if not bound:
        with suppress(OSError):
            folder.rmdir()
        return None
    return Part(folder, home.version, tuple(bound))


def _divide(own: Path) -> Path:
    """Move every process of a group into its leaf; OSError if that is not ours to do."""
    leaf = own / LEAF
    leaf.mkdir(exist_ok=True)
    for _ in range(_SETTLE_ROUNDS):
        pids = (own / "cgroup.procs").read_text().split()
        if not pids:
            break
        for pid in pids:
            with suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(pid)
    return own


def _delegate(home: Path) -> None:
    """Let the groups below a home have each controller that it has itself."""
    for controller in CONTROLLERS:
        with suppress(OSError):
            (home / "cgroup.subtree_control").write_text(f"+{controller}")
