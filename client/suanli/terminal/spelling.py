""" "Did you mean": the known word nearest to a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """The nearest known word, or "" if none is near."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def suggestion(word: str, known: Iterable[str]) -> str:
    """A hint such as "did you mean `budget`?", or the known words if none is near."""
    words = list(known)
    found = nearest(word, words)
    return f"did you mean `{found}`?" if found else f"known are: {', '.join(words)}"
