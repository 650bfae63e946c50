"""What a session tells whoever watches it: changes of phase with their figures, and lines of the job's log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from suanli.jobs.record import Record
from suanli_protocol.documents import LogLine


@dataclass(frozen=True)
class Change:
    """One step of a job: `text` is a line for a person, `figures` the same for programs.

    Kinds: queued, unmatched, leased, checked, sent, starting, running, succeeded, failed, cancelled, received, signed,
    stopped, settled; progress, in bytes, of long work; and notice, for anything else that a person should know.
    """

    kind: str
    text: str
    figures: dict[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.time)  # seconds of Unix UTC


class Watcher(Protocol):
    """Is told what happens, as it happens. May be called from two threads, never at once with the same method."""

    def changed(self, record: Record, change: Change) -> None:
        """A step was taken."""

    def lines(self, record: Record, lines: list[LogLine]) -> None:
        """The job, or its setup, printed something."""


class Deafened:
    """Tells a watcher of steps, and of output, until it can take no more of that, as when its disk is full.

    That stops no job. `trouble` is why it could not.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._deaf_to: set[str] = set()
        self.trouble: OSError | None = None

    def changed(self, record: Record, change: Change) -> None:
        """Tells of a step."""
        self._tell("steps", lambda: self._watcher.changed(record, change))

    def lines(self, record: Record, lines: list[LogLine]) -> None:
        """Tells of output."""
        self._tell("output", lambda: self._watcher.lines(record, lines))

    def _tell(self, what: str, say: Callable[[], None]) -> None:
        if what not in self._deaf_to:
            try:
                say()
            except OSError as error:
                self._deaf_to.add(what)
                self.trouble = self.trouble or error


class Silent:
    """A watcher that does nothing."""

    def changed(self, record: Record, change: Change) -> None:
        """Nothing."""

    def lines(self, record: Record, lines: list[LogLine]) -> None:
        """Nothing."""
