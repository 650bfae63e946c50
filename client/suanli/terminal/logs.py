"""How `suanli logs` prints: bytes as they were into a pipe, text without control sequences on a terminal."""

from __future__ import annotations

import base64
import sys
import time
from collections import deque
from datetime import datetime

from suanli.handle import Line
from suanli.terminal.plain import as_json, for_terminal
from suanli_protocol.errors import UsageError
from suanli_protocol.units import parse_duration


def since_ms(text: str) -> int:
    """A moment in ms of Unix UTC: a time ago (10m), or a date with or without time, local unless it says its zone."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        pass
    try:
        return int(time.time() * 1000) - 1000 * parse_duration(text, name="--since")
    except UsageError:
        raise UsageError(f"--since: {text!r} is no time", hint="write 10m, 2h30m or 2026-01-31T18:00") from None


class LogView:
    """Prints lines as they come; with `tail` keeps the last N until `close`."""

    def __init__(self, *, source: str | None, tail: int | None, since_ms: int, jsonl: bool, is_terminal: bool) -> None:
        self._source, self._tail, self._jsonl, self._is_terminal = source, tail, jsonl, is_terminal
        self._since_ms = since_ms
        self._kept: deque[Line] = deque(maxlen=tail)

    def add(self, line: Line) -> None:
        """Prints or keeps one piece of the log."""
        if line.at_ms < self._since_ms or (self._source is not None and line.source != self._source):
            return
        if self._tail is None:
            self._print(line)
        else:
            self._kept.extend(_split(line))

    def close(self) -> None:
        """Prints what was kept."""
        for line in self._kept:
            self._print(line)
        self._kept.clear()

    def _print(self, line: Line) -> None:
        if self._jsonl:
            data = base64.b64encode(line.data).decode()
            value = {"kind": "log", "atMs": line.at_ms, "source": line.source, "text": line.text, "data": data}
            sys.stdout.write(as_json(value) + "\n")
        elif self._is_terminal:
            sys.stdout.write(for_terminal(line.data))
        else:
            sys.stdout.buffer.write(line.data)
        sys.stdout.flush()


def _split(line: Line) -> list[Line]:
    parts = line.data.splitlines(keepends=True)
    return [Line(line.source, for_terminal(part).removesuffix("\n"), part, line.at_ms) for part in parts]
