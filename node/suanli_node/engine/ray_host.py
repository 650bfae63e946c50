"""The Ray host: one long-lived, keyless process per node, pid 1 of its own namespaces.

It holds Ray's head, the driver and the agent, and answers the node's daemon over a Unix socket with JSON lines:
{"call": name, "arguments": {…}} → {"result": …} or {"error": {code, detail, hint, retryable}}. It outlives the daemon.
When it ends, the kernel ends everything in its pid namespace: Ray, supervisors, jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from suanli_node.engine.devices import Devices
from suanli_node.engine.namespace import RAY, RUNS, StateFolder, enter
from suanli_node.sandbox.cgroup import enforced
from suanli_node.sandbox.process_tree import children
from suanli_protocol.errors import ExecutionError, SuanliError

OBJECT_STORE_BYTES = 80 * 2**20
WORKER_IDLE_MS = 60_000  # a worker beyond one a core is kept so long: to start one costs a second of a core
CALL_TIMEOUT_S = 20.0
REAP_S = 10.0
LINE_BYTES_MAX = 4 * 2**20
Handler = Callable[..., Awaitable[Any]]


class RayHost:
    """Answers calls by way of the agent."""

    def __init__(self, state: StateFolder, facts: dict[str, Any], devices: Devices) -> None:
        import ray

        from suanli_node.engine import agent

        self._ray, self._state, self._facts = ray, state, facts
        self._agent: Any = (
            ray.remote(agent.Agent)
            .options(
                name=agent.NAME, namespace=agent.NAMESPACE, lifetime="detached", get_if_exists=True,
                num_cpus=0, max_restarts=-1, max_task_retries=0, max_concurrency=1000,
            )
            .remote(str(RUNS), devices)
        )  # fmt: skip
        self._ready = ray.remote(max_retries=0)(agent.ready)
        self._calls: dict[str, Handler] = {
            "start": self._start,
            "wait": self._wait,
            "stop": self._stop,
            "health": self._health,
            "shutdown": self._shutdown,
        }

    def warm_up(self, workers: int) -> None:
        """Have workers import what a run needs, so that the first run is as quick as the others."""
        self._ray.get([self._ready.options(num_cpus=1).remote() for _ in range(workers)], timeout=60)

    async def serve(self) -> None:
        """Answer until told to shut down."""
        self._state.socket.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        folder = os.open(self._state.path, os.O_PATH)
        previous = os.umask(0o177)
        listener.bind(f"/proc/self/fd/{folder}/{self._state.socket.name}")  # short, however deep the folder lies
        os.umask(previous)
        os.close(folder)
        server = await asyncio.start_unix_server(self._converse, sock=listener, limit=LINE_BYTES_MAX)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 0)
        reaping = asyncio.create_task(reap_orphans())
        async with server:
            await server.serve_forever()
        reaping.cancel()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One call after the other on one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            return {"result": await self._calls[request["call"]](**request["arguments"])}
        except SuanliError as error:
            return {"error": error.as_problem()}
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, SuanliError) else ExecutionError(str(error.cause))
            return {"error": cause.as_problem()}
        except Exception as error:
            return {"error": ExecutionError(f"{type(error).__name__}: {error}", code="ray_host").as_problem()}

    async def _ask(self, reference: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """A Ray result; ExecutionError if Ray does not answer in time."""
        try:
            return await asyncio.wait_for(_result(reference), timeout_s)
        except TimeoutError:
            raise ExecutionError(
                f"Ray did not answer within {timeout_s:.0f} s", code="ray_stuck", hint="restart the node"
            ) from None

    async def _start(self, spec: dict[str, Any]) -> None:
        await self._ask(self._agent.start.remote(spec))

    async def _wait(self, lease_id: str, phase: str, log_size: int, timeout_s: float) -> Any:
        return await self._ask(
            self._agent.wait.remote(lease_id, phase, log_size, timeout_s), timeout_s + CALL_TIMEOUT_S
        )

    async def _stop(self, lease_id: str, reason: str) -> None:
        await self._ask(self._agent.stop.remote(lease_id, reason))

    async def _health(self, probe: bool) -> dict[str, Any]:
        """Facts, and whether agent and (if asked) new tasks answer."""
        active = await self._ask(self._agent.alive.remote())
        if probe:
            await self._ask(self._ready.options(num_cpus=0).remote())
        return {**self._facts, "ray": self._ray.__version__, "runs": active}

    async def _shutdown(self) -> None:
        self._state.socket.unlink(missing_ok=True)
        asyncio.get_running_loop().call_later(0.05, os._exit, 0)


async def reap_orphans() -> None:
    """Reap what died after its parent: pid 1 inherits it."""
    while True:
        await asyncio.sleep(REAP_S)
        for pid in children(os.getpid()):
            with suppress(OSError):
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    os.waitpid(pid, os.WNOHANG)


async def _result(reference: Any) -> Any:
    return await reference


def start_ray(cpus: int, memory_mib: int, accelerators: int) -> None:
    """A Ray head on `lo` alone, without dashboard, statistics or memory monitor (limits are the sandbox's)."""
    home = RAY / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    os.environ.update(
        HOME=str(home),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_memory_monitor_refresh_ms="0",
        RAY_DEDUP_LOGS="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        RAY_enable_metrics_collection="0",
        RAY_idle_worker_killing_time_threshold_ms=str(WORKER_IDLE_MS),
    )
    import ray

    ray.init(
        num_cpus=cpus,
        num_gpus=accelerators,
        _memory=memory_mib * 2**20,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        namespace="suanli",
        _temp_dir=str(RAY),
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
    )


def main(arguments: list[str] | None = None) -> None:
    """Arrange the namespaces, start Ray, answer."""
    parser = argparse.ArgumentParser(prog="suanli-ray-host")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--cpus-milli", type=int, required=True)
    parser.add_argument("--memory-mib", type=int, required=True)
    parser.add_argument("--accelerator", action="append", default=[])
    parser.add_argument("--shared-device", action="append", default=[])
    parser.add_argument("--mask", type=Path, action="append", default=[])
    parser.add_argument("--keep", type=int, required=True, help="descriptor of the lock, not to be inherited")
    options = parser.parse_args(arguments)
    if os.getpid() != 1:
        sys.exit("suanli-ray-host must be pid 1 of its own namespace: it is started by the node's daemon")
    os.set_inheritable(options.keep, False)
    state = StateFolder(options.state)
    enter(state, options.mask)
    cpus = -(-options.cpus_milli // 1000)
    devices = Devices(tuple(options.accelerator), tuple(options.shared_device))
    start_ray(cpus, options.memory_mib, len(devices.accelerators))
    facts = {
        "cpus_milli": options.cpus_milli,
        "memory_mib": options.memory_mib,
        "accelerators": len(devices.accelerators),
        "sandbox": "B",
        "limits": list(enforced()),
    }
    host = RayHost(state, facts, devices)
    host.warm_up(cpus)
    asyncio.run(host.serve())


if __name__ == "__main__":
    main()
