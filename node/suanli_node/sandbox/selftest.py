"""The self-test: canary programs that try to break out, run as jobs are run. A node offers nothing if one succeeds.

Each canary ends with 0 if it was held and with 1, saying how, if it was not; run without a sandbox they do get out.
The one that takes more CPU than it leased harms nobody's secrets: a machine that cannot hold it still sells, and its
offer says so by not naming it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from suanli_node.engine.executor import Executor
from suanli_node.engine.runs import RunSpec, RunStatus
from suanli_protocol.errors import ConfigurationError, ExecutionError, NotFoundError
from suanli_protocol.reasons import Reason

TIMEOUT_S = 60
PREFIX = "canary-"
CPUS_MILLI = 100  # each canary leases
CPU_SHARE_MAX = 0.2  # of one core: twice what it leases, for that is measured over a few periods of the limit only
TRIES = 3  # of a canary whose worker dies: that says nothing about the sandbox

NETWORK = """
import socket, sys
interfaces = [name for _, name in socket.if_nameindex() if name != "lo"]
routes = open("/proc/net/route").read().splitlines()[1:]
unix = open("/proc/net/unix").read().splitlines()[1:]
if interfaces or routes or unix:
    sys.exit(f"network: {interfaces} {routes} {len(unix)} unix sockets")
"""

FILES = """
import os, sys
for path in sys.argv[1:]:
    try:
        found = os.listdir(path) if os.path.isdir(path) else [open(path, "rb").read(1)]
    except OSError:
        continue
    if found:
        sys.exit(f"read {path}")
if any("bwrap" not in open(f"/proc/{pid}/cmdline").read() and pid not in ("1", str(os.getpid()))
       for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getppid()):
    sys.exit("sees other processes")
"""

WRITES = """
import os, sys
for folder in sys.argv[1:]:
    path = os.path.join(folder, ".suanli-canary")
    try:
        with open(path, "x"):
            pass
    except OSError:
        continue
    os.unlink(path)
    sys.exit(f"wrote to {folder}")
"""

PROCESSES = """
import os, sys
waiting, parent_lives = os.pipe()
for count in range(int(sys.argv[1])):
    try:
        pid = os.fork()
    except OSError:
        sys.exit(0)
    if pid == 0:
        os.close(parent_lives)
        os.read(waiting, 1)
        os._exit(0)
print(f"started {count + 1} processes")
sys.exit(1)
"""

MEMORY = """
import sys
held = []
for count in range(int(sys.argv[1])):
    try:
        held.append(bytearray(b"x") * 2**20)
    except MemoryError:
        sys.exit(0)
print(f"held {count + 1} MiB")
sys.exit(1)
"""

PRIVILEGES = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
held = (libc.unshare(0x10000000) != 0 and libc.ptrace(0, 0, 0, 0) != 0
        and int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0
        and status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2")
sys.exit(0 if held else "privileges: " + repr({name: status[name] for name in ("CapEff", "NoNewPrivs", "Seccomp")}))
"""

CPU = """
import os, sys, time
cores = min(8, len(os.sched_getaffinity(0)))
begun = time.monotonic()
for _ in range(4 * cores):
    if os.fork() == 0:
        while time.monotonic() < begun + 0.6:
            pass
        os._exit(0)
for _ in range(4 * cores):
    os.wait()
used, wall = sum(os.times()[2:4]), time.monotonic() - begun
if used > wall * float(sys.argv[1]):
    sys.exit(f"used {used:.2f} s of CPU in {wall:.2f} s")
"""


@dataclass(frozen=True)
class Canary:
    """A program, its arguments, and how an ending shows that it was held."""

    name: str
    program: str
    arguments: tuple[str, ...] = ()
    memory_mib: int = 256
    processes: int = 64
    reasons: tuple[Reason, ...] = (Reason.OK,)
    limit: str = ""  # the controller that alone can hold it, which a machine may lack


def canaries(hidden: tuple[Path, ...]) -> tuple[Canary, ...]:
    """The programs; `hidden` are paths that exist and that no job may see."""
    keys = str(Path("~root/.ssh").expanduser())
    read = ("/home", "/var", "/etc/shadow", "/etc/ssh", keys, "/run", "/sys", *map(str, hidden))
    write = ("/", "/usr", "/usr/bin", "/etc", "/env", "/in", "/dev", "/proc", "/opt", "/var")
    return (
        Canary("network", NETWORK),
        Canary("files", FILES, read),
        Canary("writes", WRITES, write),
        Canary("privileges", PRIVILEGES),
        Canary("processes", PROCESSES, ("500",), reasons=(Reason.OK, Reason.PROCESS_LIMIT)),
        Canary("memory", MEMORY, ("4096",), memory_mib=128, reasons=(Reason.OK, Reason.MEMORY_EXCEEDED)),
        Canary("cpu", CPU, (str(CPU_SHARE_MAX),), limit="cpu"),
    )


def selftest(executor: Executor, hidden: tuple[Path, ...], *, say: Callable[[str], None] = print) -> tuple[str, ...]:
    """The names of the canaries that were held; ConfigurationError that names the first that was not and had to be.

    ExecutionError if the engine loses one again and again.
    """
    _sweep(executor)
    held, limits = [], executor.health().get("limits", ())
    for canary in canaries(hidden):
        if canary.limit and canary.limit not in limits:
            say(f"no limit: {canary.name}")
            continue
        status, output = _judged(executor, canary)
        if status.reason not in canary.reasons and canary.limit:
            say(f"not held: {canary.name}: {output}")
            continue
        if status.reason not in canary.reasons:
            raise ConfigurationError(
                f"the sandbox does not hold: canary {canary.name!r} ended with {status.reason}: {output}",
                hint="suanli-node doctor says what is missing; no offer is made like this",
            )
        say(f"held: {canary.name}")
        held.append(canary.name)
    return tuple(held)


def _sweep(executor: Executor) -> None:
    """Ends and removes what a self-test that was broken off left."""
    for path in executor.state.runs.glob(f"{PREFIX}*"):
        with suppress(NotFoundError):  # one that was never started
            if not executor.status(path.name).final:
                executor.stop(path.name, Reason.STOPPED)
                executor.wait(path.name, TIMEOUT_S)
        executor.forget(path.name)


def _judged(executor: Executor, canary: Canary) -> tuple[RunStatus, str]:
    """How the canary ended in a worker that lived to see it."""
    for _ in range(TRIES):
        status, output = _run(executor, canary)
        if status.reason != Reason.WORKER_LOST:
            return status, output
    raise ExecutionError(f"the engine lost canary {canary.name!r} {TRIES} times: {status.detail}", code="ray_host")


def _run(executor: Executor, canary: Canary) -> tuple[RunStatus, str]:
    """How one canary ended, and what it said."""
    lease_id = f"{PREFIX}{canary.name}-{secrets.token_hex(4)}"
    executor.start(
        RunSpec(
            lease_id,
            argv=("python", "-c", canary.program, *canary.arguments),
            cpus_milli=CPUS_MILLI,
            memory_mib=canary.memory_mib,
            disk_mib=64,
            processes=canary.processes,
            seconds=20,
        )
    )
    status = executor.wait(lease_id, TIMEOUT_S)
    entries, _ = executor.read_log(lease_id, 0)
    if status.final:
        executor.forget(lease_id)
    return status, b"".join(entry.data for entry in entries).decode(errors="replace").strip()[-500:]
