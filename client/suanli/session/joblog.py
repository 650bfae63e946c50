"""A job's log: fetched as it is written, opened with the consumer's key, summed up as the evidence sums it up.

What a job prints is a stranger's bytes: the file keeps them as they are.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from suanli.session.feed import BACKOFF_S
from suanli_protocol import wire
from suanli_protocol.documents import LogLine, LogSummary, hex32, read_log_chunk
from suanli_protocol.errors import IntegrityError, SuanliError, TimedOutError
from suanli_protocol.market_client import MarketClient
from suanli_protocol.sealing import Context, open_bytes
from suanli_protocol.signing import Signer

WAIT_S = 10  # how long the market may hold a request open for the next chunk
BYTES_MAX = 256 * 1024 * 1024  # of chunks: base64 and framing of a log at its cap, and room


class LogFollower:
    """Fetches one lease's log on its own thread, from the first chunk; `on_lines` is called with each chunk's lines."""

    def __init__(
        self, market: MarketClient, signer: Signer, lease: bytes, on_lines: Callable[[list[LogLine]], None], file: Path
    ) -> None:
        """`file` gets the chunks as they were sealed, for the evidence's digest."""
        self._market, self._key, self._lease = market, signer.encryption_key, lease
        self._on_lines, self._path = on_lines, file
        self._digest, self._size, self._count = hashlib.sha256(), 0, 0
        self._changed, self._ended = threading.Condition(), threading.Event()
        self._complete, self._caught_up = False, False
        self._failure: Exception | None = None
        self._trouble: SuanliError | None = None  # why nothing comes at the moment
        self._thread = threading.Thread(target=self._follow, name="log", daemon=True)

    def start(self) -> None:
        """Begin to fetch."""
        self._thread.start()

    def stop(self) -> None:
        """Fetch no more."""
        self._ended.set()

    @property
    def summary(self) -> LogSummary:
        """What has arrived so far."""
        return LogSummary(sha256=hex32(self._digest.digest()), size=self._size, chunks=self._count)

    def wait(self, chunks: int | None, timeout_s: float) -> LogSummary:
        """What has arrived once `chunks` have (None: all), or the time is over.

        What stopped the fetching is raised, such as IntegrityError for a false chunk; an error that may pass, once the
        time is over.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._complete and (chunks is None or self._count < chunks) and self._failure is None:
                left = deadline - time.monotonic()
                if left <= 0 and self._trouble is not None:
                    raise self._trouble
                if left <= 0:
                    break
                self._changed.wait(min(left, 1.0))
            if self._failure is not None:
                raise self._failure
            return self.summary

    def wait_caught_up(self, timeout_s: float) -> None:
        """Returns once all that the market had has arrived; TimedOutError if that takes longer."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (self._complete or self._caught_up) and self._failure is None:
                if time.monotonic() >= deadline:
                    raise TimedOutError(f"the log did not come within {timeout_s:g} s", hint="try again")
                self._changed.wait(0.5)
            if self._failure is not None:
                raise self._failure

    def _follow(self) -> None:
        try:
            self._fetch()
        except Exception as error:  # whatever it is, whoever waits for the log must know of it
            self._fail(error)

    def _fetch(self) -> None:
        failures = 0
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.open("wb") as file:
            while not self._ended.is_set() and not self._complete:
                try:
                    wait_s = WAIT_S if self._caught_up else 0
                    page = self._market.logs(self._lease, after=self._count - 1, wait_s=wait_s)
                    self._take(page, file)
                    failures, self._trouble = 0, None
                except SuanliError as error:
                    if not error.retryable:
                        raise
                    self._trouble = error
                    self._ended.wait(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                    failures += 1
                except RuntimeError:  # the connection was closed under a request that nobody waits for any more
                    if not self._ended.is_set():
                        raise

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def _take(self, page: wire.LogPage, file: BinaryIO) -> None:
        for chunk in page.chunks:
            if chunk.seq < self._count:
                continue
            if chunk.seq > self._count:
                raise IntegrityError(f"log: chunk {self._count} is missing")
            plain = open_bytes(wire.from_hex(chunk.data), self._key, Context(self._lease, "log", chunk.seq))
            lines = read_log_chunk(plain)
            file.write(plain)
            file.flush()
            self._add(plain)
            self._on_lines(lines)
        if page.complete or not page.chunks:
            with self._changed:
                self._complete, self._caught_up = page.complete, True
                self._changed.notify_all()

    def _add(self, plain: bytes) -> None:
        with self._changed:
            self._digest.update(plain)
            self._size += len(plain)
            self._count += 1
            self._changed.notify_all()
        if self._size > BYTES_MAX:
            raise IntegrityError(f"log: more than {BYTES_MAX} bytes")


def read_log_file(path: Path) -> list[LogLine]:
    """The lines of a log that was fetched earlier."""
    return read_log_chunk(path.read_bytes()) if path.is_file() else []
