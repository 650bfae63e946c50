"""A stranger's text as a terminal may show it: nothing in it moves the cursor, sets a title or hides what follows."""

from __future__ import annotations

import json
import re
from typing import Any

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # OSC: titles, links, clipboard
    r"|\x1b[P^_X][^\x1b]*\x1b\\"  # DCS, PM, APC, SOS
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, modes
    r"|\x1b[ -/]*[0-~]"
)
_UNSHOWN = (
    "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"  # C1, directions, breaks, halves of pairs
)
_CONTROLS = re.compile(f"[\x00-\x08\x0b-\x1f{_UNSHOWN}]")
_UNESCAPED = re.compile(f"[{_UNSHOWN}]")  # what JSON leaves as it is


def plain(text: str) -> str:
    """The text without control sequences, and without control characters but tab and line feed."""
    without = _ESCAPES.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")
    return _CONTROLS.sub("\ufffd", without)


def for_terminal(data: bytes) -> str:
    """The same of bytes, as a job prints them."""
    return plain(data.decode("utf-8", "replace"))


def one_line(text: str) -> str:
    """The same in one line, each run of blanks one blank."""
    return " ".join(plain(text).split())


def as_json(value: Any, *, indent: int | None = None) -> str:
    """JSON in which what a terminal could obey is written as escapes."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
