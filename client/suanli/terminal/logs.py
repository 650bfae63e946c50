"""How `suanli logs` prints: bytes as they were into a pipe, text without control sequences on a terminal."""

from __future__ import annotations

import base64
import json
import sys
from collections import deque

from suanli.handle import Line
from suanli.session.joblog import for_terminal


class LogView:
    """Prints lines as they come; with `tail` keeps the last N until `close`."""

    def __init__(self, *, source: str | None, tail: int | None, jsonl: bool, is_terminal: bool) -> None:
        self._source, self._tail, self._jsonl, self._is_terminal = source, tail, jsonl, is_terminal
        self._kept: deque[Line] = deque(maxlen=tail)

    def add(self, line: Line) -> None:
        """Prints or keeps one piece of the log."""
        if self._source is not None and line.source != self._source:
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
            sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        elif self._is_terminal:
            sys.stdout.write(for_terminal(line.data))
        else:
            sys.stdout.buffer.write(line.data)
        sys.stdout.flush()


def _split(line: Line) -> list[Line]:
    parts = line.data.splitlines(keepends=True)
    return [Line(line.source, for_terminal(part).removesuffix("\n"), part, line.at_ms) for part in parts]
