"""How the doctors' findings stand on a screen: a mark, a name, what was found, and below it what to do.

What is too long for the screen goes on below its own beginning; no word is cut, so that an address can be copied whole.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from unicodedata import combining, east_asian_width

MARK_CELLS, NAME_CELLS = 5, 10
DETAIL_CELLS_MIN = 20  # on a screen too narrow for anything better


def screen_cells() -> int | None:
    """The width of the terminal that stdout is; None for a file or pipe, where every line stays whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def finding_lines(mark: str, name: str, detail: str, fix: str = "", *, cells: int | None = None) -> list[str]:
    """The lines of one finding on a screen of that width; the mark is padded to MARK_CELLS."""
    head = f"{mark:<{MARK_CELLS}} {name:<{NAME_CELLS}} "
    room = None if cells is None else max(DETAIL_CELLS_MIN, cells - len(head))
    texts = [part for text in (detail, fix) for line in text.splitlines() for part in _folded(line, room)]
    first, *rest = texts or [""]
    return [f"{head}{first}".rstrip(), *(f"{'':{len(head)}}{text}" for text in rest)]


def _folded(text: str, room: int | None) -> Iterator[str]:
    if room is None or _cells(text) <= room:
        yield text
        return
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if line and _cells(longer) > room:
            yield line
            longer = word
        line = longer
    yield line


def _cells(text: str) -> int:
    """How many cells of a screen a text takes."""
    return sum(0 if combining(sign) else 2 if east_asian_width(sign) in "WF" else 1 for sign in text)
