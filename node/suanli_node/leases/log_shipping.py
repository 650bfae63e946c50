"""Log shipping: output leaves the node sealed, in order, as it is written.

A chunk is cut once: where it ends stands in the lease's ledger before it is sent, so that after a restart the same
chunks, and so the same digest, come out again. Sending one twice is harmless; the market keeps the first.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from suanli_node.engine.runlog import FRAME, LogEntry, Source
from suanli_node.retry import Halted, persist
from suanli_protocol import wire
from suanli_protocol.documents import LogLine, LogSummary, hex32, write_log_chunk
from suanli_protocol.errors import TimedOutError

Part = Literal["setup", "run"]  # the two logs of a lease, in this order
ReadLog = Callable[[int], tuple[list[LogEntry], int]]  # whole entries from an offset, and the offset after them
Seal = Callable[[bytes, int], bytes]  # plain chunk, seq
Post = Callable[[wire.LogPage], None]
SourceName = Literal["stdout", "stderr", "setup", "system"]

CHUNK_BYTES = 128 * 1024  # of plain text; above the largest single entry in base64
PAGE_CHUNKS = 8
PAGE_S = 0.02  # output within so short a time travels together
LOOK_S = 0.2
LEAVING_S = 5.0
_NAMES: dict[Source, SourceName] = {
    Source.STDOUT: "stdout",
    Source.STDERR: "stderr",
    Source.SETUP: "setup",
    Source.NODE: "system",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cut:
    """Where a chunk ends: the log that it was cut from, and the offset after its last entry."""

    part: Part
    end: int


def line_of(entry: LogEntry) -> LogLine:
    """A log entry as the consumer reads it."""
    data = base64.b64encode(entry.data).decode()
    return LogLine(at_ms=entry.at_ms, source=_NAMES[entry.source], data=data)


def cut_chunk(entries: Iterable[LogEntry], begin: int) -> tuple[bytes, int]:
    """The next chunk, of at least one and as many entries as fit, and the offset after it; begins at `begin`."""
    chunk, end = b"", begin
    for entry in entries:
        line = write_log_chunk([line_of(entry)])
        if chunk and len(chunk) + len(line) > CHUNK_BYTES:
            break
        chunk += line
        end += FRAME.size + len(entry.data)
    return chunk, end


class LogShipper:
    """Ships the logs of one lease on its own thread. `open_run` once there is a run, then `finish` or `abandon`.

    `receipt_ends`: whoever takes the log sees from the receipt, which counts its chunks, that it is complete.
    """

    def __init__(
        self, ledger: Path, logs: Mapping[Part, ReadLog], seal: Seal, post: Post, *, receipt_ends: bool = False
    ) -> None:
        self._receipt_ends = receipt_ends
        self._ledger, self._logs, self._seal, self._post = ledger, logs, seal, post
        self._offsets: dict[Part, int] = {"setup": 0, "run": 0}
        self._digest, self._size, self._count = hashlib.sha256(), 0, 0
        self._unsent: list[bytes] = []  # plain chunks; the first has the seq count - len(unsent)
        self._run_open = False
        self._finishing, self._wake, self._halt = threading.Event(), threading.Event(), threading.Event()
        self._failure: Exception | None = None
        self._replay()
        self._thread = threading.Thread(target=self._ship, name="log-shipper", daemon=True)

    def start(self) -> None:
        """Begin to ship."""
        self._thread.start()

    def look(self) -> None:
        """There may be new output."""
        self._wake.set()

    def open_run(self) -> None:
        """The setup log is complete; from now on the run's log is shipped."""
        self._run_open = True
        self._wake.set()

    def finish(self, timeout_s: float | None = None) -> LogSummary:
        """Ship all that is left, mark the log complete, and sum it up.

        Halted if the shipper was abandoned meanwhile; the market's refusal if it will not take the log; TimedOutError
        if it cannot be reached for so long: then all is cut, `summary` is final, and another shipper can send it.
        """
        self._finishing.set()
        self._wake.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive() and not self._halt.is_set():
            self.abandon()
            self._thread.join(LEAVING_S)  # if it is not gone then it hangs in sending, where it cuts nothing
            self._cut_all("setup")
            if self._run_open:
                self._cut_all("run")
            raise TimedOutError(f"the log was not taken within {timeout_s:.0f} s")
        if self._failure is not None:
            raise self._failure
        if self._halt.is_set():
            raise Halted("log shipping")
        return self.summary

    def abandon(self) -> None:
        """Stop shipping; what is in the ledger can be taken up later."""
        self._halt.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Until it writes nothing more, or the time is over; call after `abandon`."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def summary(self) -> LogSummary:
        """The log as cut so far."""
        return LogSummary(sha256=hex32(self._digest.digest()), size=self._size, chunks=self._count)

    def _replay(self) -> None:
        """Cut again what was cut before, as the ledger says."""
        for cut in read_ledger(self._ledger):
            begin = self._offsets[cut.part]
            entries, position = [], begin
            while position < cut.end:
                more, position = self._logs[cut.part](position)
                if not more:
                    break
                entries += more
            kept = entries_until(entries, begin, cut.end)
            self._take(write_log_chunk(map(line_of, kept)), cut)
            self._run_open = self._run_open or cut.part == "run"

    def _take(self, chunk: bytes, cut: Cut) -> None:
        self._digest.update(chunk)
        self._size += len(chunk)
        self._count += 1
        self._offsets[cut.part] = cut.end
        self._unsent.append(chunk)

    def _sealed(self, chunk: bytes, seq: int) -> wire.LogChunk:
        return wire.LogChunk(seq=seq, data=wire.to_hex(self._seal(chunk, seq)))

    def _ship(self) -> None:
        try:
            while not self._halt.is_set():
                finishing = self._finishing.is_set()  # read before cutting: what is written later is not ours to miss
                run_open = self._run_open
                self._cut_all("setup")
                if run_open:
                    self._cut_all("run")
                self._send(complete=finishing)
                if finishing:
                    return
                if self._wake.wait(LOOK_S) and not self._finishing.is_set():
                    self._finishing.wait(PAGE_S)
                self._wake.clear()
        except Halted:
            return
        except Exception as error:
            log.error("a log cannot be shipped: %s", error)
            self._failure = error  # told to whoever waits in `finish`

    def _cut_all(self, part: Part) -> None:
        while len(self._unsent) < PAGE_CHUNKS or self._finishing.is_set():
            begin = self._offsets[part]
            entries, _ = self._logs[part](begin)
            if not entries:
                return
            chunk, end = cut_chunk(entries, begin)
            cut = Cut(part, end)
            append_to_ledger(self._ledger, cut)
            self._take(chunk, cut)

    def _send(self, *, complete: bool) -> None:
        while self._unsent or (complete and not self._receipt_ends):
            batch = self._unsent[:PAGE_CHUNKS]
            first = self._count - len(self._unsent)
            last = complete and len(batch) == len(self._unsent)
            page = wire.LogPage(chunks=[self._sealed(chunk, first + i) for i, chunk in enumerate(batch)], complete=last)
            persist(partial(self._post, page), self._halt, "shipping a log")
            del self._unsent[: len(batch)]
            if last:
                return


def entries_until(entries: Iterable[LogEntry], begin: int, end: int) -> list[LogEntry]:
    """Those of the entries, the first at offset `begin`, that lie before offset `end`."""
    kept, position = [], begin
    for entry in entries:
        position += FRAME.size + len(entry.data)
        if position > end:
            break
        kept.append(entry)
    return kept


def append_to_ledger(ledger: Path, cut: Cut) -> None:
    """Record where a chunk ends."""
    with ledger.open("a", encoding="ascii") as file:
        file.write(json.dumps([cut.part, cut.end]) + "\n")


def read_ledger(ledger: Path) -> list[Cut]:
    """All cuts in order; a last line that was torn off is none."""
    if not ledger.exists():
        return []
    lines = ledger.read_text(encoding="ascii").splitlines(keepends=True)
    cuts = (json.loads(line) for line in lines if line.endswith("\n"))
    return [Cut(part, int(end)) for part, end in cuts]
