"""The sandbox's interface: what a job is put into, whatever it is made of.

Tiers: A gVisor · B bubblewrap · C Landlock under an own user · D none, and then untrusted jobs are refused. A node
names its tier in the signed offer and never falls to a lower one silently.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from suanli_node.sandbox.disk import DiskUsage
from suanli_node.sandbox.process_tree import TreeUsage


@dataclass(frozen=True)
class Cell:
    """What is to run, what it sees of the machine, and the limits that the kernel holds it to."""

    name: str  # unique among the runs that live at one time
    argv: tuple[str, ...]
    env: Mapping[str, str]  # all of it: nothing is inherited
    work: Path  # read and written at /work, the current folder
    inputs: Path  # read at /in
    out: Path  # read and written at /out
    environment: Path  # read at /env; its bin leads the PATH
    cpus_milli: int
    memory_mib: int
    scratch_mib: int  # of /tmp and of /dev/shm each
    file_mib: int  # the largest single file
    processes: int
    devices: tuple[str, ...] = ()  # device nodes of leased accelerators, to be opened at their own paths


@dataclass(frozen=True)
class Ending:
    """How a cell ended."""

    exit_code: int | None  # None: the job's program never began
    cpu_ms: int  # of everything that ran inside
    out_of_memory: bool
    out_of_processes: bool
    complaint: str = ""  # what the sandbox said if it failed


class Prisoner(Protocol):
    """A running cell, to be watched by one thread."""

    stdout: int  # descriptors to read from
    stderr: int
    done: int  # becomes readable when the cell has ended

    def usage(self) -> TreeUsage:
        """What the job's processes use now."""

    def scratch(self) -> DiskUsage:
        """What lies in /tmp and /dev/shm: memory, whoever is charged for it."""

    def out_of_processes(self) -> bool:
        """True once the kernel refused the job a process."""

    def out_of_memory(self) -> bool:
        """True once the kernel killed one of the job's processes for want of memory."""

    def send(self, number: signal.Signals) -> None:
        """Signal all of the job's processes."""

    def kill(self) -> None:
        """End all of the job's processes at once, with nothing left."""

    def ending(self) -> Ending:
        """How it ended; call once, after `done` became readable."""


class Sandbox(Protocol):
    """A way of holding a hostile program."""

    tier: str

    def require(self) -> None:
        """ConfigurationError, naming what to install or set, if this sandbox cannot work here."""

    def start(self, cell: Cell) -> Prisoner:
        """Start a program inside; ExecutionError with code sandbox_failed if it cannot be."""
