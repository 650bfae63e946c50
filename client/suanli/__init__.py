"""Suanli for consumers: `import suanli` is the library, `suanli` the command.

The names below are loaded when they are first used: importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suanli.client import Client
    from suanli.handle import JobHandle
    from suanli.jobs.job import Job
    from suanli.plan import Plan

_PLACES = {
    "Client": "suanli.client",
    "Job": "suanli.jobs.job",
    "JobHandle": "suanli.handle",
    "Plan": "suanli.plan",
}
__all__ = ["Client", "Job", "JobHandle", "Plan"]


def __getattr__(name: str) -> Any:
    """One of the public names, imported now."""
    if name not in _PLACES:
        raise AttributeError(f"module 'suanli' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
