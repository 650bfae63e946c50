"""Folders that a stranger writes: how much they hold, and how they are removed whatever is in them."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

DEPTH_MAX = 64
REMOVE_TIMEOUT_S = 300


@dataclass(frozen=True)
class DiskUsage:
    """Blocks in bytes, and the number of files, folders and links."""

    bytes: int = 0
    files: int = 0

    def __add__(self, other: DiskUsage) -> DiskUsage:
        return DiskUsage(self.bytes + other.bytes, self.files + other.files)


def disk_usage(root: Path, *, bytes_max: int, files_max: int) -> DiskUsage:
    """The usage below a folder; counting ends once a maximum is passed. Links are counted, never followed.

    Folders nested deeper than DEPTH_MAX count as one file too many: nobody needs them, and they make walkers stumble.
    """
    used, files = 0, 0
    waiting = [(str(root), 0)]
    while waiting and used <= bytes_max and files <= files_max:
        path, depth = waiting.pop()
        if depth > DEPTH_MAX:
            return DiskUsage(used, files_max + 1)
        with suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                files += 1
                if files > files_max:
                    break
                with suppress(OSError):
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
    return DiskUsage(used, files)


def file_system_usage(root: Path) -> DiskUsage:
    """The usage of the whole file system that a folder lies on; OSError if it is gone."""
    facts = os.statvfs(root)
    return DiskUsage((facts.f_blocks - facts.f_bfree) * facts.f_frsize, facts.f_files - facts.f_ffree)


def make_folder(path: Path, mode: int) -> None:
    """Make a folder with exactly this mode, whatever the umask; one that exists is left as it is."""
    try:
        path.mkdir()
    except FileExistsError:
        return
    path.chmod(mode)


def open_up(root: Path) -> None:
    """Make folders and files readable for their owner, who may not be root; links are left alone."""
    if os.geteuid() != 0:
        _tool("chmod", "-R", "u+rwX", "--", str(root))


def remove_tree(root: Path) -> None:
    """Delete a folder, however deep, and closed to its owner or not; links are deleted, never followed."""
    if root.exists():
        open_up(root)
        _tool("rm", "-rf", "--one-file-system", "--", str(root))


def _tool(*command: str) -> None:
    subprocess.run(command, check=False, timeout=REMOVE_TIMEOUT_S, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
