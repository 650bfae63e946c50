"""A terminal, or a pipe, as a watcher of a session: phases on stderr, the job's own output where the job wrote it."""

from __future__ import annotations

import base64
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from suanli.jobs.record import Record
from suanli.session.progress import Change
from suanli.terminal.console import Console, let_go, shown, style
from suanli.terminal.plain import as_json, for_terminal, plain
from suanli.terminal.progressline import ProgressLine
from suanli_protocol.documents import LogLine

_COLOURS = {"succeeded": "green", "settled": "green", "failed": "red", "cancelled": "yellow", "notice": "yellow"}


class Screen:
    """Prints changes and lines as they come. `jsonl` prints both as JSON lines on stdout instead."""

    def __init__(self, console: Console, *, jsonl: bool = False, phases: bool = True, log: bool = True) -> None:
        self._console, self._jsonl, self._phases, self._log = console, jsonl, phases, log
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._at_line_start = True
        self._progress = ProgressLine(console)

    def changed(self, record: Record, change: Change) -> None:
        """One aligned line a step."""
        if self._jsonl:
            self._line({"kind": change.kind, "job": record.id, "at": change.at, "text": change.text, **change.figures})
            return
        if not self._phases or self._console.quiet:
            return
        if change.kind == "progress":
            self._progress.show(change)
            return
        with self._to(sys.stderr) as stream:
            self._fresh_line()
            word = style(f"{change.kind:<10}", _COLOURS.get(change.kind), bold=change.kind in _COLOURS)
            passed = style(f"{time.monotonic() - self._began:6.1f} s", dim=True)
            stream.write(shown(f"{passed}  {word} {plain(change.text)}\n"))

    def lines(self, record: Record, lines: list[LogLine]) -> None:
        """stdout to stdout, stderr to stderr, what the provider says of the setup dimly to stderr."""
        for line in lines if self._log else ():
            if self._jsonl:
                text = for_terminal(line.content)
                data = base64.b64encode(line.content).decode()
                figures = {"source": line.source, "text": text, "data": data, "atMs": line.at_ms}
                self._line({"kind": "log", "job": record.id, **figures})
            elif line.source in ("stdout", "stderr"):
                self._write(line)
            elif not self._console.quiet:
                self._dim(line)

    def _write(self, line: LogLine) -> None:
        is_error = line.source == "stderr" or self._console.json
        with self._to(sys.stderr if is_error else sys.stdout) as stream:
            self._progress.clear()
            if stream.isatty():
                stream.write(for_terminal(line.content))
            else:
                stream.buffer.write(line.content)
            if stream.isatty():
                self._at_line_start = line.content.endswith(b"\n")

    def _dim(self, line: LogLine) -> None:
        with self._to(sys.stderr) as stream:
            self._fresh_line()
            for part in for_terminal(line.content).splitlines():
                stream.write(shown(style(f"          {line.source:<10} {part}", dim=True)) + "\n")

    def _fresh_line(self) -> None:
        self._progress.clear()
        if not self._at_line_start:
            sys.stderr.write("\n")
            self._at_line_start = True

    def _line(self, value: dict[str, object]) -> None:
        with self._to(sys.stdout) as stream:
            stream.write(as_json(value) + "\n")

    @contextmanager
    def _to(self, stream: TextIO) -> Iterator[TextIO]:
        """The stream, for one writer at a time; once its reader has left, what is written goes nowhere."""
        with self._lock:
            try:
                yield stream
                stream.flush()
            except OSError as error:
                let_go(stream)
                if not isinstance(error, BrokenPipeError):
                    raise
