"""The line that says how far a long piece of work is: on a terminal alone, rewritten in place, gone before the next."""

from __future__ import annotations

import shutil
import sys

from suanli.session.progress import Change
from suanli.terminal.console import Console, shown, style

CLEAR = "\r\x1b[2K"


class ProgressLine:
    """Shows changes of the kind `progress` on stderr; `clear` makes room for a line that stays."""

    def __init__(self, console: Console) -> None:
        self._is_wanted = not console.quiet and not console.json and not console.jsonl and sys.stderr.isatty()
        self._is_shown = False

    def show(self, change: Change) -> None:
        """Rewrites the line."""
        if self._is_wanted:
            room = shutil.get_terminal_size().columns - 1
            sys.stderr.write(CLEAR + shown(style(f"{'':10}{change.text}"[:room], dim=True)))
            sys.stderr.flush()
            self._is_shown = True

    def clear(self) -> None:
        """Takes the line away."""
        if self._is_shown:
            sys.stderr.write(CLEAR)
            sys.stderr.flush()
            self._is_shown = False
