"""Accelerators: which of them this machine has, as NVIDIA's management library tells, and the device nodes they need.

An accelerator is sold whole, or not at all: one that is split into instances (MIG) is left out.
"""

from __future__ import annotations

import importlib
import logging
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 2**20
SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")  # what a program opens beside its accelerator
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Accelerator:
    """One accelerator that can be leased."""

    model: str
    memory_mib: int
    device: str  # its own node, such as /dev/nvidia0

    @property
    def label(self) -> str:
        """How an offer names it, such as "NVIDIA H100 80GB HBM3, 81559 MiB"."""
        return f"{self.model}, {self.memory_mib} MiB"


@dataclass(frozen=True)
class Facts:
    """What the library says of one device."""

    minor: int
    model: str
    memory_bytes: int
    split: bool  # into instances


def find_accelerators() -> tuple[Accelerator, ...]:
    """The accelerators that are here and whole; none where there is no library, no driver or no device."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        if Path(SHARED[0]).exists():
            log.warning("there is an NVIDIA driver, but accelerators are not sold without the package nvidia-ml-py")
        return ()
    return whole(ask(nvml))


def ask(nvml: Any) -> tuple[Facts, ...]:
    """What the library says of all devices, in its order; nothing if it cannot be used."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        log.info("no accelerators: %s", error)
        return ()
    try:
        return tuple(_ask_one(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError as error:
        log.warning("accelerators cannot be asked about, and are not sold: %s", error)
        return ()
    finally:
        nvml.nvmlShutdown()


def _ask_one(nvml: Any, index: int) -> Facts:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    split = False
    with suppress(nvml.NVMLError_NotSupported):
        split = bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    return Facts(
        minor=int(nvml.nvmlDeviceGetMinorNumber(handle)),
        model=str(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        split=split,
    )


def whole(facts: Iterable[Facts], folder: Path = Path("/dev")) -> tuple[Accelerator, ...]:
    """The devices that can be leased: not split, and with a device node that is one."""
    found = []
    for fact in facts:
        device = folder / f"nvidia{fact.minor}"
        if fact.split or not is_device(device):
            log.warning("%s (%s) is not sold: it is %s", device, fact.model, "split" if fact.split else "no device")
            continue
        found.append(Accelerator(fact.model, fact.memory_bytes // MIB, str(device)))
    return tuple(found)


def shared_devices() -> tuple[str, ...]:
    """The device nodes that each program with an accelerator needs, as far as they are here."""
    return tuple(path for path in SHARED if is_device(Path(path)))


def is_device(path: Path) -> bool:
    """Whether there is a character device of this name."""
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False
