"""Plain archives: what travels between the parties, packed reproducibly and unpacked as if by an enemy.

The same sources give the same bytes: sorted by name, no times, no owners, two modes. Unpacking knows regular files and
directories only, keeps within limits, follows no link, replaces no file and writes nowhere but below its folder.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from suanli_protocol.archive_header import (
    BLOCK_BYTES,
    LONG_NAME_BYTES_MAX,
    SIZE_MAX,
    EntryType,
    Header,
    padding,
    read_header,
    write_header,
)
from suanli_protocol.documents import ArchiveManifest, OutputFile, hex32
from suanli_protocol.errors import ExecutionError, IntegrityError, UsageError

CHUNK_BYTES = 1024 * 1024
END_BYTES = 2 * BLOCK_BYTES
TAIL_BYTES_MAX = 20 * BLOCK_BYTES  # other writers pad to whole records
COMPONENT_BYTES_MAX = 255
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Source:
    """One file or directory to pack: its name in the archive, its content or where it lies, its mode (bit 0o100)."""

    name: str
    content: Path | bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """How much an archive may unpack to."""

    entries: int = 20_000  # files and directories, with those that a name implies
    total_bytes: int = 1 << 30
    file_bytes: int = 1 << 30
    path_bytes: int = 1024
    depth: int = 32


class _Name:
    """A checked name: relative, of plain components."""

    def __init__(self, text: str) -> None:
        self.parts = tuple(text.removesuffix("/").split("/"))
        self.text = "/".join(self.parts)
        fault = self._fault(text)
        if fault:
            raise ValueError(f"{text!r:.200} {fault}")

    def _fault(self, text: str) -> str:
        if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text):
            return "has control characters"
        if text.startswith("/"):
            return "is absolute"
        if any(part in ("", ".", "..") for part in self.parts):
            return "has an empty, '.' or '..' component"
        if any(len(part.encode("utf-8", "surrogateescape")) > COMPONENT_BYTES_MAX for part in self.parts):
            return f"has a component longer than {COMPONENT_BYTES_MAX} bytes"
        return ""

    @property
    def parents(self) -> Iterator[tuple[str, ...]]:
        """The folders above, outermost first."""
        return (self.parts[:count] for count in range(1, len(self.parts)))


# Packing


def pack(entries: Iterable[Source], out: BinaryIO) -> ArchiveManifest:
    """Writes the archive and returns what its receiver must find.

    UsageError names a source that is a link, a special file, has no portable name, or comes twice.
    """
    digest, size, unpacked, files = hashlib.sha256(), 0, 0, 0

    def write(data: bytes) -> None:
        nonlocal size
        out.write(data)
        digest.update(data)
        size += len(data)

    for name, source in _sorted(entries):
        if isinstance(source.content, Path) and stat.S_ISDIR(_lstat(source.content).st_mode):
            write(write_header(Header(name.text.encode() + b"/", 0, EntryType.DIRECTORY)))
            continue
        with _opened(source) as (content, length):
            write(write_header(Header(name.text.encode(), length, EntryType.FILE, bool(source.mode & 0o100))))
            for chunk in _exactly(content, length, source.name):
                write(chunk)
            write(bytes(padding(length)))
        unpacked, files = unpacked + length, files + 1
    write(bytes(END_BYTES))
    return ArchiveManifest(sha256=hex32(digest.digest()), size=size, unpacked=unpacked, files=files)


def _sorted(entries: Iterable[Source]) -> list[tuple[_Name, Source]]:
    """By components, so that a folder stands before what it holds."""
    named: dict[tuple[str, ...], tuple[_Name, Source]] = {}
    for source in entries:
        name = _source_name(source)
        if name.parts in named:
            raise UsageError(f"{name.text} comes twice", hint="name each file once")
        named[name.parts] = (name, source)
    for name, _ in named.values():
        for parent in name.parents:
            above = named.get(parent)
            if above is not None and not (isinstance(above[1].content, Path) and above[1].content.is_dir()):
                raise UsageError(f"{above[0].text} is a file and the folder of {name.text} at once")
    return [named[parts] for parts in sorted(named)]


def _source_name(source: Source) -> _Name:
    try:
        source.name.encode()
        return _Name(source.name)
    except UnicodeEncodeError:
        raise UsageError(f"{source.name!r}: the name is not UTF-8", hint="rename the file or exclude it") from None
    except ValueError as error:
        raise UsageError(f"the name {error}", hint="rename the file or exclude it") from None


def _lstat(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


@contextmanager
def _opened(source: Source) -> Iterator[tuple[Iterator[bytes], int]]:
    """The content in chunks and its length; the type is checked on the open file, so that it cannot be swapped."""
    if isinstance(source.content, bytes):
        yield iter([source.content]), len(source.content)
        return
    try:
        descriptor = os.open(source.content, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        what = "is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise UsageError(f"{source.content}: {what}", hint=_PLAIN_ONLY) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(f"{source.content} is no regular file", hint=_PLAIN_ONLY)
        if found.st_size > SIZE_MAX:
            raise UsageError(f"{source.content} has {found.st_size} bytes, at most {SIZE_MAX} can be packed")
        yield iter(lambda: os.read(descriptor, CHUNK_BYTES), b""), found.st_size
    finally:
        os.close(descriptor)


_PLAIN_ONLY = "only regular files and folders travel: exclude it or copy what it points to"


def _exactly(content: Iterator[bytes], length: int, name: str) -> Iterator[bytes]:
    left = length
    for chunk in content:
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise UsageError(f"{name} changed while it was packed", hint="pack again when nothing writes to it")


# Unpacking


def unpack(src: BinaryIO, into: Path, limits: UnpackLimits) -> list[OutputFile]:
    """Unpacks below `into` (made if missing) and returns the files in the archive's order.

    IntegrityError names the first entry that is refused; what was unpacked until then stays for the caller to remove.
    ExecutionError: the disk is full or refuses.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        root = os.open(into, _DIRECTORY)
    except OSError as error:
        raise ExecutionError(f"{into}: {error.strerror}", hint="unpack into a folder that can be written") from None
    try:
        return _Unpacker(src, root, limits).run()
    finally:
        os.close(root)


@dataclass
class _Unpacker:
    src: BinaryIO
    root: int
    limits: UnpackLimits
    total: int = 0
    files: dict[tuple[str, ...], OutputFile] = field(default_factory=dict)
    folders: dict[tuple[str, ...], bool] = field(default_factory=dict)  # True once it had an entry of its own

    def run(self) -> list[OutputFile]:
        while (header := self._next()) is not None:
            name = self._checked(header)
            try:
                if header.type is EntryType.DIRECTORY:
                    self._add_folder(name)
                else:
                    self._add_file(name, header)
            except FileExistsError:
                raise IntegrityError(f"archive entry {name.text!r} is there already") from None
            except OSError as error:
                raise ExecutionError(
                    f"{name.text!r} cannot be unpacked: {error.strerror}", hint="is the disk full?"
                ) from None
        return list(self.files.values())

    # Reading

    def _take(self, size: int, what: str) -> bytes:
        parts, left = [], size
        while left and (part := self.src.read(left)):
            parts.append(part)
            left -= len(part)
        if left:
            raise IntegrityError(f"the archive ends within {what}")
        return b"".join(parts)

    def _skip_padding(self, size: int, what: str) -> None:
        if any(self._take(padding(size), what)):
            raise IntegrityError(f"there is data in the padding of {what}")

    def _next(self) -> Header | None:
        """The next file or directory under its full name; None at the end."""
        block = self._take(BLOCK_BYTES, "a header")
        if not any(block):
            self._end()
            return None
        header = read_header(block)
        if header.type is not EntryType.LONG_NAME:
            return header
        if not 0 < header.size <= min(LONG_NAME_BYTES_MAX, self.limits.path_bytes + 2):
            raise IntegrityError(f"an archive entry has a name of {header.size} bytes")
        name = self._take(header.size, "a long name").removesuffix(b"\0")
        self._skip_padding(header.size, "a long name")
        following = read_header(self._take(BLOCK_BYTES, "a header"))
        if following.type is EntryType.LONG_NAME:
            raise IntegrityError("an archive entry has two long names")
        return Header(name, following.size, following.type, following.executable)

    def _end(self) -> None:
        if any(self._take(BLOCK_BYTES, "its end")):
            raise IntegrityError("the archive's end is marked by half")
        left = TAIL_BYTES_MAX
        while part := self.src.read(left + 1):
            left -= len(part)
            if any(part) or left < 0:
                raise IntegrityError("there is data after the archive's end")

    # Checking

    def _checked(self, header: Header) -> _Name:
        limits = self.limits
        try:
            name = _Name(header.name.decode())
        except UnicodeDecodeError:
            raise IntegrityError(f"the name of archive entry {header.name!r:.200} is not UTF-8") from None
        except ValueError as error:
            raise IntegrityError(f"the name of archive entry {error}") from None
        label = f"archive entry {name.text!r:.200}"
        if header.type is EntryType.FILE and header.name.endswith(b"/"):
            raise IntegrityError(f"{label} is a file with the name of a folder")
        if len(header.name) > limits.path_bytes:
            raise IntegrityError(f"{label}: the name has more than {limits.path_bytes} bytes")
        if len(name.parts) > limits.depth:
            raise IntegrityError(f"{label} lies more than {limits.depth} folders deep")
        if header.size > limits.file_bytes:
            raise IntegrityError(f"{label} has {header.size} bytes, at most {limits.file_bytes} are taken")
        self.total += header.size
        if self.total > limits.total_bytes:
            raise IntegrityError(f"{label}: the files have more than {limits.total_bytes} bytes in all")
        return name

    def _count(self, name: _Name) -> None:
        if len(self.files) + len(self.folders) >= self.limits.entries:
            raise IntegrityError(f"archive entry {name.text!r}: more than {self.limits.entries} files and folders")

    # Writing

    def _add_folder(self, name: _Name) -> None:
        if name.parts in self.files or self.folders.get(name.parts):
            raise IntegrityError(f"archive entry {name.text!r} comes twice")
        with self._folder(name, name.parts):
            self.folders[name.parts] = True

    def _add_file(self, name: _Name, header: Header) -> None:
        if name.parts in self.files or name.parts in self.folders:
            raise IntegrityError(f"archive entry {name.text!r} comes twice")
        self._count(name)
        with self._folder(name, name.parts[:-1]) as folder:
            descriptor = os.open(name.parts[-1], _CREATE, 0o600, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            digest = self._copy(file, header.size, f"{name.text!r}")
            os.fchmod(descriptor, 0o755 if header.executable else 0o644)
        self.files[name.parts] = OutputFile(path=name.text, size=header.size, sha256=hex32(digest))

    def _copy(self, file: BinaryIO, size: int, what: str) -> bytes:
        digest, left = hashlib.sha256(), size
        while left:
            chunk = self._take(min(left, CHUNK_BYTES), what)
            digest.update(chunk)
            file.write(chunk)
            left -= len(chunk)
        self._skip_padding(size, what)
        return digest.digest()

    @contextmanager
    def _folder(self, name: _Name, parts: tuple[str, ...]) -> Iterator[int]:
        """The folder's descriptor, reached step by step from the root without following a link."""
        current = os.dup(self.root)
        try:
            for depth, part in enumerate(parts, 1):
                self._make_folder(name, parts[:depth], current)
                deeper = os.open(part, _DIRECTORY, dir_fd=current)
                os.close(current)
                current = deeper
            yield current
        finally:
            os.close(current)

    def _make_folder(self, name: _Name, parts: tuple[str, ...], above: int) -> None:
        if parts in self.folders:
            return
        if parts in self.files:
            raise IntegrityError(f"archive entry {name.text!r}: {'/'.join(parts)!r} is a file before it")
        self._count(name)
        os.mkdir(parts[-1], 0o755, dir_fd=above)
        self.folders[parts] = False
