"""The log of a run: output as bytes, framed with sequence number, time and source, readable while it grows.

One frame: sequence u64 · milliseconds of Unix UTC u64 · source u8 · length u32 (big-endian), then the bytes.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

FRAME = struct.Struct(">QQBI")
ENTRY_BYTES_MAX = 64 * 1024
READ_BYTES_MAX = 1024 * 1024


class Source(IntEnum):
    """Where an entry came from."""

    STDOUT = 1
    STDERR = 2
    SETUP = 3  # preparing the run, before the job began
    NODE = 4  # the node's own word, such as why it stopped the job


@dataclass(frozen=True)
class LogEntry:
    """A piece of output: whole lines where lines are short, never more than ENTRY_BYTES_MAX bytes."""

    sequence: int
    at_ms: int
    source: Source
    data: bytes


class LogWriter:
    """Appends entries to a log; one writer per log."""

    def __init__(self, path: Path, *, limit: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        self._limit = limit
        self._sequence = 0
        self.written = 0  # bytes of content

    @property
    def full(self) -> bool:
        """True once the limit is reached; what comes after is dropped."""
        return self.written >= self._limit

    def append(self, source: Source, data: bytes, at_ms: int) -> None:
        """Write `data` as entries. The node's own word is always written, other output up to the limit."""
        room = len(data) if source is Source.NODE else max(0, self._limit - self.written)
        data = data[:room]
        for begin in range(0, len(data), ENTRY_BYTES_MAX):
            piece = data[begin : begin + ENTRY_BYTES_MAX]
            os.write(self._descriptor, FRAME.pack(self._sequence, at_ms, source, len(piece)) + piece)
            self._sequence += 1
            self.written += len(piece)

    def close(self) -> None:
        """Make the log durable and close it."""
        if self.written:
            os.fsync(self._descriptor)
        os.close(self._descriptor)


class LineBuffer:
    """Holds back the unfinished last line of a stream, so that an entry ends at a line's end where it can."""

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        """Bytes that are ready to be written: all finished lines, or everything once the tail grows long."""
        data = self._tail + data
        end = len(data) if len(data) >= ENTRY_BYTES_MAX else data.rfind(b"\n") + 1
        self._tail = data[end:]
        return data[:end]

    def flush(self) -> bytes:
        """The unfinished line."""
        tail, self._tail = self._tail, b""
        return tail


def read_log(path: Path, offset: int, *, limit: int = READ_BYTES_MAX) -> tuple[list[LogEntry], int]:
    """Whole entries from byte `offset` of the log, about `limit` bytes of them, and the offset to go on from."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(max(limit, FRAME.size + ENTRY_BYTES_MAX))
    except FileNotFoundError:
        return [], offset
    entries, position = [], 0
    while position + FRAME.size <= len(data):
        sequence, at_ms, source, length = FRAME.unpack_from(data, position)
        end = position + FRAME.size + length
        if end > len(data):
            break
        entries.append(LogEntry(sequence, at_ms, Source(source), data[position + FRAME.size : end]))
        position = end
    return entries, offset + position
