"""What travels with a job: its work folder, inputs and requirements as one plain, reproducible archive.

In the archive: `work/…`, `in/…` (the mount points of the job file) and `requirements.txt`. .gitignore and
.suanliignore are respected in the work folder, .git never travels. Links and special files are refused by name, and so
is everything beyond the cap, before anything is signed or sent.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from suanli.jobs.job import Job
from suanli.jobs.requirements import read_hashed
from suanli.session.moving import Counted, Moving, Tell
from suanli_protocol.documents import ArchiveManifest, PythonEnvironment, hex32, sha256
from suanli_protocol.errors import NotFoundError, UsageError
from suanli_protocol.units import format_bytes

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

BYTES_MAX = 1024**3
ENTRIES_MAX = 20_000  # files and folders; a provider unpacks no more
IGNORE_FILES = (".gitignore", ".suanliignore")
NEVER = ".git"


@dataclass(frozen=True)
class Member:
    """A file of the bundle: its name in the archive, where it lies, its size and mode."""

    name: str
    path: Path
    size: int
    mode: int


@dataclass(frozen=True)
class Bundle:
    """A job's archive on this machine. `manifest` is None if the job needs none."""

    path: Path | None = None
    manifest: ArchiveManifest | None = None
    python: PythonEnvironment | None = None
    mounts: tuple[str, ...] = ()


def build(job: Job, into: Path, *, limit: int = BYTES_MAX, tell: Tell | None = None) -> Bundle:
    """Packs what the job names into the file `into`; UsageError or NotFoundError names the path that is wrong.

    `tell` hears how far it is.
    """
    from suanli_protocol.archive import Source, pack

    requirements = read_hashed(job.requirements) if job.requirements is not None else None
    python = PythonEnvironment(version=job.python, requirements=hex32(sha256(requirements))) if requirements else None
    members = capped(collect(job), limit)
    if not members and requirements is None:
        return Bundle()
    sources = [Source(member.name, member.path, member.mode) for member in members]
    if requirements is not None:
        sources.append(Source("requirements.txt", requirements, 0o644))
    with into.open("wb") as out:
        moving = Moving(tell or (lambda _: None), "packing", sum(member.size for member in members))
        manifest = pack(sources, cast(BinaryIO, Counted(out, moving)))
    if manifest.size > limit:
        into.unlink()
        raise _too_large(manifest.size, limit)
    return Bundle(into, manifest, python, tuple(item.path for item in job.inputs))


def collect(job: Job) -> Iterator[Member]:
    """The files that would travel, without packing them."""
    if job.workdir is not None:
        yield from _work_folder(job.workdir)
    for item in job.inputs:
        target = "in/" + item.path.removeprefix("/in/")
        found = _status(item.source)
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(item.source, target, None)
        else:
            yield _member(item.source, target)


def capped(members: Iterator[Member], limit: int) -> list[Member]:
    """The members; UsageError naming the largest one if they are too many or too large, or two have one name."""
    kept: list[Member] = []
    names: set[str] = set()
    folders: set[str] = set()
    total = 0
    for member in members:
        if member.name in names:
            raise UsageError(f"two inputs would both be {member.name}", hint="give them different paths", code="bundle")
        names.add(member.name)
        kept.append(member)
        total += member.size
        folders.update(str(parent) for parent in PurePosixPath(member.name).parents)
        if len(kept) + len(folders) > ENTRIES_MAX:
            raise UsageError(
                f"more than {ENTRIES_MAX} files and folders would travel, the last is {member.path}",
                hint="leave folders out in .suanliignore",
                code="bundle",
            )
    if total > limit:
        largest = max(kept, key=lambda member: member.size)
        raise _too_large(total, limit, largest)
    return kept


def _too_large(total: int, limit: int, largest: Member | None = None) -> UsageError:
    detail = f"{format_bytes(total)} would travel, at most {format_bytes(limit)} may"
    if largest is not None:
        detail += f"; the largest file is {largest.path} ({format_bytes(largest.size)})"
    return UsageError(detail, hint="leave files out in .suanliignore", code="bundle")


def _work_folder(root: Path) -> Iterator[Member]:
    if not stat.S_ISDIR(_status(root).st_mode):
        raise UsageError(f"workdir: {root} is not a folder", hint="name the folder that the job runs in", code="bundle")
    yield from _walk(root, "work", _Ignored(root))


class _Ignored:
    """Whether a path of the work folder is left out; each folder's own ignore files count below it, as in git."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._specs: dict[Path, GitIgnoreSpec | None] = {}

    def _spec(self, folder: Path) -> GitIgnoreSpec | None:
        if folder not in self._specs:
            self._specs[folder] = _read_ignore(folder)
        return self._specs[folder]

    def __call__(self, path: Path, *, is_folder: bool) -> bool:
        verdict = False
        folders = [self._root]
        for part in path.relative_to(self._root).parts[:-1]:
            folders.append(folders[-1] / part)
        for folder in folders:
            spec = self._spec(folder)
            if spec is not None:
                found = spec.check_file(path.relative_to(folder).as_posix() + ("/" if is_folder else "")).include
                verdict = verdict if found is None else found
        return verdict


def _read_ignore(folder: Path) -> GitIgnoreSpec | None:
    lines: list[str] = []
    for name in IGNORE_FILES:
        file = folder / name
        if file.is_file() and not file.is_symlink():
            lines += file.read_text(errors="replace").splitlines()
    if not lines:
        return None
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(lines)


def _walk(folder: Path, target: str, ignored: _Ignored | None) -> Iterator[Member]:
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path, name = Path(entry.path), f"{target}/{entry.name}"
        is_folder = entry.is_dir(follow_symlinks=False)
        if ignored is not None and (entry.name == NEVER or ignored(path, is_folder=is_folder)):
            continue
        if is_folder:
            yield from _walk(path, name, ignored)
        else:
            yield _member(path, name)


def _status(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"there is no {path}", hint="check the path in the job file") from None


def _member(path: Path, name: str) -> Member:
    status = _status(path)
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(
            f"{path} is {_kind(status.st_mode)}: only plain files and folders travel",
            hint="leave it out in .suanliignore, or put a copy in its place",
            code="bundle",
        )
    if any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise UsageError(
            f"{str(path)!r} has characters in its name that cannot travel", hint="rename it", code="bundle"
        )
    return Member(name, path, status.st_size, 0o755 if status.st_mode & 0o100 else 0o644)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
