"""The inventory: what this machine has that could be sold, within what this process may use of it."""

from __future__ import annotations

import os
import platform
import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from suanli_node.sandbox.cgroup import own_groups
from suanli_node.supply.accelerators import Accelerator, find_accelerators
from suanli_protocol.errors import ConfigurationError

MIB = 2**20


@dataclass(frozen=True)
class Inventory:
    """Capacity in the units of the protocol, and facts that an offer states."""

    cpus_milli: int
    memory_mib: int
    disk_mib: int  # free where the node keeps its state
    arch: str  # as `uname -m`
    os: str
    cpu_model: str
    python: str  # "3.11": the version that jobs get
    accelerators: tuple[Accelerator, ...] = ()


def take_inventory(state: Path) -> Inventory:
    """What is here now: cores by affinity and quota, memory by the machine and by the group's limit."""
    return Inventory(
        cpus_milli=min(len(os.sched_getaffinity(0)) * 1000, cpu_quota_milli()),
        memory_mib=min(psutil.virtual_memory().total, memory_limit_bytes()) // MIB,
        disk_mib=shutil.disk_usage(existing(state)).free // MIB,
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
    """The inventory within what the operator gives away; ConfigurationError for more than there is."""
    return replace(
        inventory,
        cpus_milli=_within("cpus_milli", cpus_milli, inventory.cpus_milli),
        memory_mib=_within("memory_mib", memory_mib, inventory.memory_mib),
        disk_mib=_within("disk_mib", disk_mib, inventory.disk_mib),
        accelerators=_some(inventory.accelerators, accelerators),
    )


def _within(name: str, wanted: int | None, here: int) -> int:
    if wanted is None:
        return here
    if not 0 < wanted <= here:
        raise ConfigurationError(f"{name}: {wanted} is asked for, the machine has {here}", hint="offer less")
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
    with suppress(OSError, ValueError):
        quota_text, period_text = (_unified() / "cpu.max").read_text().split()
        found.append(int(quota_text) * 1000 // int(period_text))
    return min(found)


def memory_limit_bytes() -> int:
    """The memory limit of our control groups; practically endless without one."""
    found = [2**63]
    with suppress(OSError, ValueError, KeyError):
        found.append(int((own_groups()["memory"] / "memory.limit_in_bytes").read_text()))
    with suppress(OSError, ValueError):
        found.append(int((_unified() / "memory.max").read_text()))
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


def _unified() -> Path:
    """Our group in the version-2 hierarchy; it may not exist."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    path = next((line[3:] for line in lines if line.startswith("0::")), "/")
    return Path("/sys/fs/cgroup") / path.lstrip("/")
