"""What a figure was measured on: model and cores of the machine, versions of what took part; no name, no path."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from support.devnet import anvil_path

PACKAGES = ("ray", "web3", "eth-account", "coincurve", "fastapi", "sqlmodel", "uvicorn", "pydantic", "cryptography")


def machine() -> str:
    """Processor, cores, memory, system."""
    memory = round(psutil.virtual_memory().total / 2**30)
    return f"{_processor()}, {os.cpu_count()} cores, {memory} GiB, {platform.system()} {_kernel()} {platform.machine()}"


def versions() -> dict[str, str]:
    """Of Python, the chain, the sandbox and the packages that matter."""
    found = {"Python": platform.python_version()}
    found |= {"Anvil": _said(str(anvil_path()), "--version"), "bubblewrap": _said("bwrap", "--version")}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _kernel() -> str:
    return ".".join(platform.release().split(".")[:2])


def _said(*command: str) -> str:
    """The version in what a program says first."""
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.split()
    except OSError:
        return "absent"
    return next((word for word in told if word[:1].isdigit()), "unknown")
