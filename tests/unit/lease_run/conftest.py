"""The clock that a lease's claim is timed by, and waits so short that a test need not wait."""

from __future__ import annotations

import threading

import pytest

from suanli_node.leases import execution, hold, setbacks
from support.lease_scene import Clock


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stands while a lease is worked on. A killed thread says nothing, and a look at the chain is due at once."""
    clock = Clock()
    monkeypatch.setattr(hold, "time", clock)
    monkeypatch.setattr(threading, "excepthook", lambda *_: None)
    monkeypatch.setattr(execution, "CHAIN_LOOK_S", 0.02)
    monkeypatch.setattr(setbacks, "AGAIN_S", 0.01)
    return clock
