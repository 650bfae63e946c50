"""A tree of processes as the operating system accounts for it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


@dataclass(frozen=True)
class TreeUsage:
    """What a tree uses: CPU time of all that ever lived in it and was reaped inside, resident bytes, threads."""

    pids: tuple[int, ...]
    cpu_ms: int
    resident_bytes: int  # shared pages counted in each process
    threads: int


def measure(root: int) -> TreeUsage:
    """The tree under and with process `root`; what vanishes meanwhile is left out."""
    pids, ticks, pages, threads = [], 0, 0, 0
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        with suppress(*_GONE):
            text = Path(f"/proc/{pid}/stat").read_bytes()  # a process names itself, with any bytes
            fields = text[text.rindex(b")") + 2 :].split()
            pids.append(pid)
            ticks += sum(map(int, fields[11:15]))  # utime stime cutime cstime
            threads += int(fields[17])
            pages += int(fields[21])
            waiting += children(pid)
    return TreeUsage(tuple(pids), ticks * 1000 // _TICKS_PER_SECOND, pages * _PAGE_BYTES, threads)


def children(pid: int) -> list[int]:
    """Direct children of all threads of a process."""
    found: list[int] = []
    with suppress(*_GONE):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(*_GONE):
                found += map(int, (thread / "children").read_text().split())
    return found


def proportional_bytes(pids: tuple[int, ...]) -> int:
    """The proportional set size of processes: shared pages are divided among those that share them."""
    return sum(_kib(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids) * 1024


def memory_bytes(pids: tuple[int, ...], scratch: int) -> int:
    """What processes and `scratch` bytes of their memory file systems occupy; what is both is counted once."""
    mapped = sum(_kib(f"/proc/{pid}/smaps_rollup", "Pss_Shmem:") for pid in pids) * 1024
    return proportional_bytes(pids) + max(0, scratch - mapped)


def peak_bytes(pids: tuple[int, ...]) -> int:
    """The largest resident set that any one of the processes ever had since its program began."""
    return max((_kib(f"/proc/{pid}/status", "VmHWM:") for pid in pids), default=0) * 1024


def deleted_file_bytes(pids: tuple[int, ...]) -> int:
    """Disk blocks of files that the processes hold open though no name leads to them any more."""
    seen: dict[tuple[int, int], int] = {}
    for pid in pids:
        with suppress(*_GONE):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(*_GONE):
                    facts = link.stat()
                    if facts.st_nlink == 0:
                        seen[facts.st_dev, facts.st_ino] = facts.st_blocks * 512
    return sum(seen.values())


def signal_all(pids: tuple[int, ...], number: signal.Signals) -> None:
    """Send a signal to each process that still lives."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _kib(path: str, name: str) -> int:
    with suppress(*_GONE):
        for line in Path(path).read_bytes().split(b"\n"):
            if line.startswith(name.encode()):
                return int(line.split()[1])
    return 0
