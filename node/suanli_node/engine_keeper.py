"""The node's engine: brought up, tested once, measured, and brought up again when it has ended.

A death on the way (of the host, of the agent, of a canary's worker) says nothing about the sandbox: it is tried again.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suanli_node.engine.devices import Devices
from suanli_node.engine.executor import Executor, HostCapacity
from suanli_node.engine.namespace import StateFolder as EngineFolder
from suanli_node.engine.runs import write_json
from suanli_node.retry import pauses
from suanli_node.sandbox.selftest import selftest
from suanli_node.settings import Settings, StateFolder
from suanli_node.supply.accelerators import shared_devices
from suanli_node.supply.inventory import Inventory
from suanli_protocol.capacity import Lanes
from suanli_protocol.errors import ExecutionError, SuanliError, TimedOutError
from suanli_protocol.units import MILLI

PATIENCE_S = 150.0  # for an engine that dies while it is brought up
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """An engine that is up. `held`: the canaries that its sandbox held; `facts`: what its host says of itself."""

    executor: Executor
    held: tuple[str, ...]
    facts: dict[str, Any]

    def capacity(self, inventory: Inventory) -> Lanes:
        """What can be sold: the inventory, or less while an engine that was brought up with less has runs."""
        cpus = min(inventory.cpus_milli, self.facts["cpus_milli"])
        memory = min(inventory.memory_mib, self.facts["memory_mib"])
        if (cpus, memory) != (inventory.cpus_milli, inventory.memory_mib):
            log.warning(
                "the engine has %d mCPU and %d MiB until its runs have ended; then restart the node", cpus, memory
            )
        accelerators = min(len(inventory.accelerators), self.facts["accelerators"])
        return Lanes(cpus, memory, accelerators * MILLI, inventory.disk_mib)


def bring_up_engine(settings: Settings, state: StateFolder, inventory: Inventory) -> Engine:
    """The engine of the state folder, started if none lives.

    ConfigurationError if its sandbox does not hold; ExecutionError or TimedOutError if it died for PATIENCE_S seconds.
    """
    deadline = time.monotonic() + PATIENCE_S
    for pause in pauses():
        try:
            return _bring_up(settings, state, inventory)
        except (ExecutionError, TimedOutError) as error:
            if time.monotonic() + pause > deadline:
                raise
            log.warning("the engine is brought up once more: %s", error.detail)
        time.sleep(pause)
    raise AssertionError("pauses never end")


def keep_engine(settings: Settings, state: StateFolder, inventory: Inventory, executor: Executor) -> None:
    """Bring the engine up again if it has ended; its runs are lost, and are reported so."""
    if not executor.host_lives():
        log.error("the engine has ended and is started again")
        bring_up_engine(settings, state, inventory)


def _bring_up(settings: Settings, state: StateFolder, inventory: Inventory) -> Engine:
    nodes = tuple(accelerator.device for accelerator in inventory.accelerators)
    devices = Devices(nodes, shared_devices() if nodes else ())
    host = HostCapacity(inventory.cpus_milli, inventory.memory_mib, devices)
    _resize(state, host)
    executor = Executor.start_or_attach(state.executor, host, mask=settings.secrets)
    held = _tested(executor, state, settings.secrets)
    return Engine(executor, held, executor.health())


def _resize(state: StateFolder, wanted: HostCapacity) -> None:
    """End an engine of another size, if nothing runs in it: the next one has the size that is wanted."""
    executor = Executor(EngineFolder(state.executor))
    if not state.executor.is_dir() or not executor.host_lives():
        return
    try:
        facts = executor.health()
    except SuanliError:
        return
    if (facts["cpus_milli"], facts["memory_mib"]) == (wanted.cpus_milli, wanted.memory_mib):
        return
    if any(not status.final for status in executor.runs()):
        log.warning("the engine has another size than is wanted, and is busy: it keeps it for now")
        return
    log.info("the engine is started anew: it has another size than is wanted")
    executor.shutdown()


def _tested(executor: Executor, state: StateFolder, hidden: tuple[Path, ...]) -> tuple[str, ...]:
    """The result of the self-test, which is made once for each engine: a busy one has no room for canaries."""
    engine = json.loads(EngineFolder(state.executor).process.read_bytes())
    if state.selftest.exists():
        known = json.loads(state.selftest.read_bytes())
        if known["engine"] == engine:
            return tuple(known["held"])
    held = selftest(executor, hidden, say=log.debug)
    write_json(state.selftest, {"engine": engine, "held": list(held)})
    return held
