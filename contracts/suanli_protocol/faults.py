"""Fault points: named places where a test has a process die, to show that nothing is lost or doubled there.

`reach("role.thing.step")` does nothing unless SUANLI_FAULT stood in the environment when the process began:
    name, name:n    the process is killed when it reaches the point for the n-th time (1 if unstated)
    /folder         it is killed when it reaches a point that a file in the folder is named after; the file is first
                    renamed to `name.<pid>`, so that one file strikes once and shows where
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

VARIABLE = "SUANLI_FAULT"
_wanted = os.environ.get(VARIABLE, "")
_lock = threading.Lock()
_reached = 0


def reach(point: str) -> None:
    """The process has come to this point, and dies there by SIGKILL if a test wants it to."""
    if _wanted and _is_wanted(point):
        os.kill(os.getpid(), signal.SIGKILL)


def inherited() -> dict[str, str]:
    """What a process that gets a clean environment is given of ours."""
    return {VARIABLE: _wanted} if _wanted else {}


def _is_wanted(point: str) -> bool:
    if _wanted.startswith("/"):
        with suppress(FileNotFoundError):
            os.rename(f"{_wanted}/{point}", f"{_wanted}/{point}.{os.getpid()}")  # noqa: PTH104 (one call, atomic)
            return True
        return False
    name, _, count = _wanted.partition(":")
    return point == name and _nth(int(count or 1))


def _nth(count: int) -> bool:
    global _reached
    with _lock:
        _reached += 1
        return _reached == count
