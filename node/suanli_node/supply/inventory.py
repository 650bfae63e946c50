"""The inventory: what this machine has that could be sold, within what this process may use of it."""

from __future__ import annotations

import os
import platform
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from suanli_node.sandbox.cgroup import own_group, own_groups
from suanli_node.sandbox.disk import disk_usage
from suanli_node.supply.accelerators import Accelerator, find_accelerators
from suanli_node.upkeep import FREE_MIB_MIN
from suanli_protocol.errors import ConfigurationError

MIB = 2**20
CPUS_KEPT_MILLI = 100  # for daemon, engine and supervisors
MEMORY_KEPT_MIB = 1024  # the engine alone takes more than half of it
DISK_KEPT_MIB = 4096  # for records, sealed outputs, logs, environments, and what a job writes until it is caught


@dataclass(frozen=True)
class Inventory:
    """Capacity in the units of the protocol, and facts that an offer states."""

    cpus_milli: int
    memory_mib: int
    disk_mib: int  # free where the node keeps its state, or in use by its runs
    arch: str  # as `uname -m`
    os: str
    cpu_model: str
    python: str  # "3.11": the version that jobs get
    accelerators: tuple[Accelerator, ...] = ()


def take_inventory(state: Path, runs: Path | None = None) -> Inventory:
    """What is here now: cores by affinity and quota, memory by the machine and by the group's limit.

    What lies in `runs` counts as free disk: it is what leases hold of the capacity already.
    """
    held = disk_usage(runs, bytes_max=2**62, files_max=2**62).bytes if runs is not None else 0
    return Inventory(
        cpus_milli=min(len(os.sched_getaffinity(0)) * 1000, cpu_quota_milli()),
        memory_mib=min(psutil.virtual_memory().total, memory_limit_bytes()) // MIB,
        disk_mib=(shutil.disk_usage(existing(state)).free + held) // MIB,
        arch=platform.machine(),
        os=os_name(),
        cpu_model=cpu_model(),
        python=".".join(platform.python_version_tuple()[:2]),
        accelerators=find_accelerators(),
    )


def limited(
    inventory: Inventory,
    *,
    cpus_milli: int | None = None,
    memory_mib: int | None = None,
    disk_mib: int | None = None,
    accelerators: int | None = None,
) -> Inventory:
    """The inventory within what the operator gives away, and without it all but a reserve for the node itself.

    ConfigurationError for more than there is; of the disk, for so much that the node could not write its own records.
    """
    return replace(
        inventory,
        cpus_milli=_within("cpus_milli", cpus_milli, inventory.cpus_milli, CPUS_KEPT_MILLI),
        memory_mib=_within("memory_mib", memory_mib, inventory.memory_mib, MEMORY_KEPT_MIB),
        disk_mib=_within("disk_mib", disk_mib, inventory.disk_mib - FREE_MIB_MIN, DISK_KEPT_MIB - FREE_MIB_MIN),
        accelerators=_some(inventory.accelerators, accelerators),
    )


def reserve(here: int, least: int) -> int:
    """What of a resource is kept unless the operator says otherwise: a sixteenth, at least `least`, at most a half."""
    return min(here // 2, max(least, here // 16))


def _within(name: str, wanted: int | None, here: int, kept: int) -> int:
    most = max(0, here)
    if wanted is None:
        return most - reserve(most, kept)
    if not 0 < wanted <= most:
        raise ConfigurationError(f"{name}: {wanted} is asked for, the machine has {most} to give", hint="offer less")
    return wanted


def _some(here: tuple[Accelerator, ...], wanted: int | None) -> tuple[Accelerator, ...]:
    """The first so many accelerators; none is a choice too."""
    if wanted is not None and not 0 <= wanted <= len(here):
        raise ConfigurationError(
            f"accelerators: {wanted} are asked for, {len(here)} were found",
            hint="offer less, or see what `nvidia-smi` and /dev/nvidia* say",
        )
    return here[:wanted]


def cpu_quota_milli() -> int:
    """The CPU quota of our control groups in milli-cores; practically endless without one."""
    found = [2**53]
    with suppress(OSError, ValueError, KeyError):
        folder = own_groups()["cpu"]
        quota, period = (int((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        found += [quota * 1000 // period] if quota > 0 else []
    for folder in _unified():
        with suppress(OSError, ValueError):
            quota_text, period_text = (folder / "cpu.max").read_text().split()
            found.append(int(quota_text) * 1000 // int(period_text))
    return min(found)


def memory_limit_bytes() -> int:
    """The memory limit of our control groups; practically endless without one."""
    found = [2**63]
    with suppress(OSError, ValueError, KeyError):
        found.append(int((own_groups()["memory"] / "memory.limit_in_bytes").read_text()))
    for folder in _unified():
        with suppress(OSError, ValueError):
            found.append(int((folder / "memory.max").read_text()))
    return min(found)


def existing(path: Path) -> Path:
    """The nearest folder above a path that exists."""
    return path if path.exists() else existing(path.parent)


def os_name() -> str:
    """The system's name and version."""
    with suppress(OSError):
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    return platform.system()


def cpu_model() -> str:
    """The processor as the kernel names it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "Hardware"):
                return " ".join(value.split())[:200]
    return platform.processor() or platform.machine()


def _unified() -> list[Path]:
    """Our group in the version 2 hierarchy and all above it: each of them limits us."""
    own = own_group()
    return [] if own is None else [folder for folder in (own, *own.parents) if (folder / "cgroup.controllers").exists()]
