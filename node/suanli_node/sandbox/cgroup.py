"""Kernel control groups for a run, where this process may make them (version 1 hierarchies).

They bind what per-process limits cannot: the number of processes of a whole tree, its memory, its share of the CPU.
A controller that is missing or closed to us is left out, and `Cgroup.controllers` says which ones hold.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_CPU_PERIOD_US = 100_000


@dataclass(frozen=True)
class CgroupLimits:
    """Limits of one run."""

    processes: int
    memory_bytes: int
    cpus_milli: int


class Cgroup:
    """A group in each hierarchy that takes part; below our own groups, so that no outer limit is escaped."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders

    @classmethod
    def create(cls, name: str, limits: CgroupLimits) -> Cgroup:
        """Groups called `name` under the caller's own, with these limits; an unusable controller is skipped."""
        settings = {
            "pids": {"pids.max": limits.processes},
            "memory": {"memory.limit_in_bytes": limits.memory_bytes},
            "cpu": {
                "cpu.cfs_period_us": _CPU_PERIOD_US,
                "cpu.cfs_quota_us": max(1000, limits.cpus_milli * _CPU_PERIOD_US // 1000),
            },
        }
        folders = {}
        for controller, own in own_groups().items():
            if controller not in settings:
                continue
            folder = own / name
            try:
                folder.mkdir(exist_ok=True)
                for file, value in settings[controller].items():
                    (folder / file).write_text(str(value))
            except OSError:
                with suppress(OSError):
                    folder.rmdir()
                continue
            folders[controller] = folder
        return cls(folders)

    @property
    def controllers(self) -> tuple[str, ...]:
        """The controllers that bind the run."""
        return tuple(sorted(self._folders))

    def add(self, pid: int) -> None:
        """Put a process, and all that it will start, into the groups."""
        for folder in self._folders.values():
            (folder / "cgroup.procs").write_text(str(pid))

    def memory_kills(self) -> int:
        """How often the kernel killed a process of the run for want of memory."""
        return self._count("memory", "memory.oom_control", "oom_kill")

    def refused_processes(self) -> int:
        """How often the kernel refused the run a process."""
        return self._count("pids", "pids.events", "max")

    def remove(self) -> None:
        """Delete the groups; processes that are just dying get a moment to leave."""
        for folder in self._folders.values():
            for _ in range(50):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)
                else:
                    break

    def _count(self, controller: str, file: str, name: str) -> int:
        folder = self._folders.get(controller)
        if folder is None:
            return 0
        with suppress(OSError):
            for line in (folder / file).read_text().splitlines():
                key, _, value = line.partition(" ")
                if key == name:
                    return int(value)
        return 0


def group_name(run: str) -> str:
    """What the groups of a run are called."""
    return f"suanli-{run}"


def discard(run: str) -> None:
    """Delete groups that a run left whose keeper was killed."""
    Cgroup({controller: folder / group_name(run) for controller, folder in own_groups().items()}).remove()


def own_groups() -> dict[str, Path]:
    """The caller's own group per version-1 controller, where its hierarchy is mounted."""
    groups: dict[str, Path] = {}
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in filter(None, controllers.split(",")):
                folder = ROOT / controller / path.lstrip("/")
                if folder.is_dir():
                    groups[controller] = folder
    return groups
