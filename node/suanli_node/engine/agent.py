"""The agent: a named, detached Ray actor that owns all runs of a provider's cluster.

It starts each as a Ray task with the lease's resources, so that Ray places it, and never a second time. The task only
supervises; the job is its sandboxed child. What must last is in the run's folder, so that an agent that begins anew
knows every run: those that its predecessor was running died with it and are called lost.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import ray

from suanli_node.engine.devices import Devices
from suanli_node.engine.environment import empty_name
from suanli_node.engine.namespace import ENVIRONMENTS, PYTHON
from suanli_node.engine.runs import RunFolder, RunPhase, RunSpec, RunStatus, lost
from suanli_node.engine.supervisor import MIB, supervise
from suanli_node.sandbox.bubblewrap import Bubblewrap
from suanli_node.sandbox.cgroup import discard
from suanli_protocol import faults
from suanli_protocol.errors import NotFoundError

NAME, NAMESPACE = "agent", "suanli"


def supervise_run(runs: str, lease_id: str, agent: Any, devices: Devices) -> None:
    """The Ray task of one run."""
    folder = RunFolder.under(Path(runs), lease_id)
    environment = ENVIRONMENTS / (folder.spec().environment or empty_name())
    given = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    supervise(folder, environment, Bubblewrap(PYTHON), lambda: agent.changed.remote(lease_id), devices.of(given))


def ready() -> bool:
    """The Ray task that shows that tasks run; it also makes a worker import what a run needs."""
    Bubblewrap(PYTHON).require()
    return True


class Agent:
    """Owns the runs under one folder. Its methods are Ray calls; all are short but `wait`."""

    def __init__(self, runs: str, devices: Devices) -> None:
        self._runs, self._devices = Path(runs), devices
        self._changes: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._following: set[asyncio.Task[None]] = set()
        self._task = ray.remote(max_retries=0)(supervise_run)
        self._call_lost()

    async def start(self, data: dict[str, Any]) -> None:
        """Start a run, unless its lease was ever started here."""
        spec = RunSpec.from_json(data)
        folder = RunFolder.under(self._runs, spec.lease_id)
        folder.create()
        if folder.started():
            return
        folder.write_status(RunStatus(spec.lease_id))
        folder.write_spec(spec)
        faults.reach("agent.run.recorded")
        reference = self._task.options(
            num_cpus=spec.cpus_milli / 1000,
            memory=spec.memory_mib * MIB,
            num_gpus=spec.accelerators,
            name=f"run {spec.lease_id}",
        ).remote(str(self._runs), spec.lease_id, ray.get_runtime_context().current_actor, self._devices)
        faults.reach("agent.run.submitted")
        following = asyncio.create_task(self._follow(folder, spec, reference))
        self._following.add(following)
        following.add_done_callback(self._following.discard)

    async def wait(self, lease_id: str, phase: str, log_size: int, timeout_s: float) -> dict[str, Any]:
        """The run's status, as soon as its phase or the size of its log differ from these, or after the timeout."""
        folder = RunFolder.under(self._runs, lease_id)
        deadline = time.monotonic() + timeout_s
        while True:
            status = folder.status()
            left = deadline - time.monotonic()
            if (status.phase, status.log_size) != (phase, log_size) or status.final or left <= 0:
                return status.to_json()
            try:
                await asyncio.wait_for(self._changes[lease_id].wait(), left)
            except TimeoutError:
                continue

    async def changed(self, lease_id: str) -> None:
        """Wake those who wait for this run."""
        self._changes.pop(lease_id, asyncio.Event()).set()

    async def stop(self, lease_id: str, reason: str) -> None:
        """Ask a run to stop; NotFoundError if there is none."""
        folder = RunFolder.under(self._runs, lease_id)
        folder.status()
        folder.ask_to_stop(reason)
        faults.reach("agent.stop.recorded")

    async def alive(self) -> int:
        """How many runs are followed."""
        return len(self._following)

    async def _follow(self, folder: RunFolder, spec: RunSpec, reference: Any) -> None:
        """Until the run's task has ended; a run that it left unfinished is lost."""
        finished: asyncio.Future[None] = asyncio.ensure_future(_outcome(reference))
        await asyncio.wait({finished}, timeout=spec.start_seconds)
        if not finished.done() and folder.status().phase is RunPhase.STARTING:
            ray.cancel(reference, force=True)
            detail = f"Ray did not place the run within {spec.start_seconds} s"
        else:
            detail = "the run's supervisor died"
        try:
            await finished
            faults.reach("agent.run.finished")
        except Exception as error:
            detail = f"{detail}: {type(error).__name__}"
        if self._settle(folder, detail):
            await asyncio.to_thread(discard, spec.lease_id)
        await self.changed(spec.lease_id)

    def _call_lost(self) -> None:
        """Close what an earlier agent left open."""
        for path in self._runs.iterdir():
            folder = RunFolder(path)
            if folder.started():
                self._settle(folder, "the node's Ray host ended under the run")

    def _settle(self, folder: RunFolder, detail: str) -> bool:
        """Call a run lost that is not final and of which nothing lives any more; true if it was one."""
        try:
            status = folder.status()
        except NotFoundError:
            return False
        if not status.final:
            folder.write_status(lost(status, detail))
        return not status.final


async def _outcome(reference: Any) -> None:
    await reference
