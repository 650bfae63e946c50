"""How far a long piece of work is, in bytes: told a few times a second, and not at all if it is over before that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from suanli.session.progress import Change
from suanli_protocol.units import format_bytes

PACE_S = 0.5
Tell = Callable[[Change], None]


class Moving:
    """Counts the bytes of one piece of work such as "packing" or "uploading inputs"; `total` is what there will be."""

    def __init__(self, tell: Tell, what: str, total: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._what, self.total, self._clock = tell, what, total, clock
        self.done = 0
        self._told_at = self._began = clock()

    def add(self, size: int) -> None:
        """So many bytes more are done."""
        self.at(self.done + size)

    def at(self, done: int) -> None:
        """So many bytes are done in all."""
        self.done = done
        now = self._clock()
        is_last = done >= self.total and self._told_at > self._began
        if now - self._told_at >= PACE_S or is_last:
            self._told_at = now
            self._tell(self._change(now))

    def _change(self, now: float) -> Change:
        pace = self.done / max(now - self._began, 0.001)
        text = f"{self._what}: {format_bytes(self.done)} of {format_bytes(self.total)}, {format_bytes(int(pace))}/s"
        return Change("progress", text, {"what": self._what, "done": self.done, "total": self.total})

    def through(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The pieces, counted as they pass."""
        for piece in pieces:
            yield piece
            self.add(len(piece))


class Counted:
    """A binary file whose reads and writes are counted; nothing else of a file is offered."""

    def __init__(self, file: BinaryIO, moving: Moving) -> None:
        self._file, self._moving = file, moving

    def seek(self, place: int) -> int:
        """Goes to a place: what lies before it counts as done."""
        self._moving.at(place)
        return self._file.seek(place)

    def read(self, size: int = -1) -> bytes:
        """The next bytes; they count once they are asked for."""
        data = self._file.read(size)
        self._moving.add(len(data))
        return data

    def write(self, data: Any) -> int:
        """Writes bytes."""
        written = self._file.write(data)
        self._moving.add(len(data))
        return written
