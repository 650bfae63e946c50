"""Upkeep: what leases leave behind is bounded. Environments by size, the least recently used first; papers by age."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from suanli_node.sandbox.disk import disk_usage, remove_tree

MIB = 2**20
GRACE_S = 600  # what was used so recently may be about to be run in
DRAFT_S = 3 * 3600  # longer than any preparation takes
DAY_S = 86_400
FREE_MIB_MIN = 1024  # below this nothing new is sold
DRAFT = ".draft-"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Environment:
    """A prepared environment on the disk."""

    path: Path
    mib: int
    used_at: float  # seconds of Unix UTC; a use sets the folder's time

    @classmethod
    def read(cls, path: Path) -> Environment:
        """Its size and last use."""
        size = disk_usage(path, bytes_max=2**62, files_max=2**62).bytes
        return cls(path, -(-size // MIB), path.stat().st_mtime)


def trim_environments(folder: Path, limit_mib: int, in_use: Iterable[str], *, now: float | None = None) -> list[str]:
    """Delete environments until the rest fits, longest unused first; the names of those deleted.

    None that a lease needs is touched, nor one used within the last ten minutes.
    """
    now = time.time() if now is None else now
    kept = set(in_use)
    found = [Environment.read(path) for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    excess = sum(environment.mib for environment in found) - limit_mib
    gone: list[str] = []
    for environment in sorted(found, key=lambda environment: environment.used_at):
        if excess <= 0:
            break
        if environment.path.name in kept or now - environment.used_at < GRACE_S:
            continue
        doomed = environment.path.with_name(f"{DRAFT}{environment.path.name}")  # gone at once for whoever looks
        environment.path.rename(doomed)
        remove_tree(doomed)
        excess -= environment.mib
        gone.append(environment.path.name)
    if gone:
        log.info("%d environments were deleted to keep the cache under %d MiB", len(gone), limit_mib)
    return gone


def drop_drafts(folder: Path, *, now: float | None = None) -> None:
    """Delete what killed preparations have left."""
    now = time.time() if now is None else now
    for path in folder.glob(f"{DRAFT}*"):
        if now - path.stat().st_mtime > DRAFT_S:
            remove_tree(path)


def drop_old(folders: Iterable[Path], days: int, *, now: float | None = None) -> int:
    """Delete papers of leases that ended so many days ago; how many."""
    limit, count = (time.time() if now is None else now) - days * DAY_S, 0
    for folder in folders:
        for path in folder.glob("*.json"):
            if path.stat().st_mtime < limit:
                path.unlink()
                count += 1
    return count


def free_mib(path: Path) -> int:
    """What is free on the disk under a path."""
    return shutil.disk_usage(path).free // MIB
