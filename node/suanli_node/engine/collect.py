"""What a run leaves: regular files from /out and from the declared paths of /work, taken without following any link.

Whatever is no plain file with one name (links, pipes, devices, sockets, hard links, odd names) is refused by name and
left behind; the plain files are taken all the same, so that one odd entry loses nothing else.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from suanli_node.engine.runs import RunFolder
from suanli_node.sandbox.disk import DEPTH_MAX, open_up
from suanli_protocol.archive import Source
from suanli_protocol.errors import ExecutionError
from suanli_protocol.reasons import Reason

OUTPUT_FOLDER = "out"
PATH_CHARACTERS_MAX = 1024  # as many as a document names
NAMED_CHARACTERS = 300  # of a path that is refused
# Control characters, line separators, what turns the direction of writing, and bytes that are no UTF-8
_DECEIVING = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Collected:
    """Files to pack, named as the consumer will find them; what was refused and why; declared but missing."""

    files: list[Source] = field(default_factory=list)
    bytes: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CollectLimits:
    """How much is taken."""

    bytes: int = 1 << 30
    files: int = 10_000


def collect(folder: RunFolder, declared: Sequence[str], limits: CollectLimits) -> Collected:
    """Files of the output folder as out/…, declared ones by their path below the work folder.

    For a run that is over. ExecutionError with code output_exceeded if there are too many or too large files.
    """
    for part in (folder.work, folder.out):
        open_up(part)
    found = Collected()
    _Walk(folder.out, found, limits).take((), OUTPUT_FOLDER)
    for path in declared:
        parts = declared_parts(path)
        before = len(found.files), len(found.refused)
        _Walk(folder.work, found, limits).take(parts, "/".join(parts))
        nothing = before == (len(found.files), len(found.refused))
        if nothing and not any(source.name.startswith(f"{'/'.join(parts)}/") for source in found.files):
            found.missing.append(path)
    return found


def declared_parts(path: str) -> tuple[str, ...]:
    """The components of a declared path; ExecutionError if it leads out of the work folder."""
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\0" in path:
        raise ExecutionError(f"output {path!r:.200} does not lie below the work folder", code=Reason.BAD_JOB.value,
                             hint="declare paths relative to the work folder")  # fmt: skip
    return parts


class _Walk:
    """Takes files below one root, by open folders, so that no link on the way can lead elsewhere."""

    def __init__(self, root: Path, found: Collected, limits: CollectLimits) -> None:
        self._root, self._found, self._limits = root, found, limits
        self._names = {source.name for source in found.files}

    def take(self, parts: tuple[str, ...], name: str) -> None:
        """Take the file or folder at `parts`, to be called `name`; nothing if it does not exist."""
        handle = os.open(self._root, _FOLDER)
        try:
            for index, part in enumerate(parts[:-1]):
                try:
                    below = os.open(part, _FOLDER, dir_fd=handle)
                except FileNotFoundError:
                    return
                except OSError:
                    self._refuse("/".join(parts[: index + 1]), "is no folder")
                    return
                os.close(handle)
                handle = below
            if parts:
                self._entry(handle, parts[-1], self._root.joinpath(*parts), name, depth=0)
            else:
                self._content(handle, self._root, name, depth=0)
        finally:
            os.close(handle)

    def _entry(self, above: int, last: str, path: Path, name: str, depth: int) -> None:
        try:
            facts = os.stat(last, dir_fd=above, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:  # a declared name that no file can have
            self._refuse(name, f"cannot be looked at ({error.strerror})")
            return
        if _DECEIVING.search(last):
            self._refuse(name, "has control characters or broken UTF-8 in its name")
        elif len(name) > PATH_CHARACTERS_MAX:
            self._refuse(name, f"has a path of more than {PATH_CHARACTERS_MAX} characters")
        elif stat.S_ISDIR(facts.st_mode):
            handle = os.open(last, _FOLDER, dir_fd=above)
            try:
                self._content(handle, path, name, depth + 1)
            finally:
                os.close(handle)
        elif not stat.S_ISREG(facts.st_mode):
            self._refuse(name, f"is a {_kind(facts.st_mode)}")
        elif facts.st_nlink != 1:
            self._refuse(name, "has more than one name (hard link)")
        else:
            self._add(path, name, facts)

    def _content(self, handle: int, path: Path, name: str, depth: int) -> None:
        if depth > DEPTH_MAX:
            self._refuse(name, "is nested too deep")
            return
        for entry in _sorted_names(handle):
            self._entry(handle, entry, path / entry, f"{name}/{entry}", depth)

    def _add(self, path: Path, name: str, facts: os.stat_result) -> None:
        if name in self._names:
            return  # declared twice, or below a folder that was declared too
        self._names.add(name)
        self._found.bytes += facts.st_size
        if self._found.bytes > self._limits.bytes or len(self._found.files) >= self._limits.files:
            raise ExecutionError(
                f"the outputs exceed {self._limits.bytes >> 20} MiB or {self._limits.files} files",
                code=Reason.OUTPUT_EXCEEDED.value, hint="write less, or ask for more",
            )  # fmt: skip
        mode = 0o755 if facts.st_mode & 0o100 else 0o644
        self._found.files.append(Source(name, path, mode))

    def _refuse(self, name: str, why: str) -> None:
        if len(self._found.refused) < 100:
            self._found.refused.append((name.encode("utf-8", "backslashreplace").decode()[:NAMED_CHARACTERS], why))


def _sorted_names(handle: int) -> Iterator[str]:
    with os.scandir(handle) as entries:
        yield from sorted(entry.name for entry in entries)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")
