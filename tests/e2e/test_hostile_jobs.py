"""Jobs that attack their node. Each probe ends with 0 if it was held and with 1, saying how, if it got out.

A set of probes proves nothing unless they get out where nothing holds them: those that harm nobody are run without a
sandbox too, and must.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from suanli_node.engine.collect import CollectLimits, collect
from suanli_node.engine.environment import empty_name
from suanli_node.engine.executor import Executor, HostCapacity
from suanli_node.engine.runs import RunSpec, RunStatus
from suanli_node.sandbox.selftest import CPU
from suanli_protocol.errors import ExecutionError

pytestmark = pytest.mark.e2e
WAIT_S = 40.0
MIB = 2**20
SYSCALL = """
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    return libc.syscall(ctypes.c_long(number), *(a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments))
"""


@dataclass(frozen=True)
class Probe:
    """A program, and what it gets out by."""

    name: str
    script: str
    control: bool = False  # gets out without a sandbox, on every Linux and for every user, and harms nobody


READS = """
import os, sys
for path in sys.argv[1:]:
    for known in (path, "/proc/1/root" + path, f"/proc/{os.getppid()}/root" + path):
        if os.path.lexists(known):
            sys.exit(f"sees {known}")
"""
STRANGERS = """
import os, sys
pids = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {1, os.getpid(), os.getppid()}
if pids:
    sys.exit(f"sees processes {pids}")
"""
SOCKETS = """
import socket, sys
for kind, address in ((socket.AF_UNIX, "\\0" + sys.argv[2]), (socket.AF_UNIX, sys.argv[3]),
                      (socket.AF_INET, ("127.0.0.1", int(sys.argv[4])))):
    try:
        socket.socket(kind).connect(address)
    except OSError:
        continue
    sys.exit(f"connected to {address!r}")
"""
DESCRIPTORS = """
import os, sys
listing = os.open("/proc/self/fd", os.O_RDONLY)
held = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, listing}
held = [fd for fd in held if os.path.exists(f"/proc/self/fd/{fd}")]
if held or os.readlink("/proc/self/fd/0") != "/dev/null":
    sys.exit(f"inherits {held}")
"""
VARIABLES = """
import os, sys
odd = [name for name in os.environ if name.startswith(("RAY", "SSH", "AWS", "UV_", "PYTEST", "XDG"))]
if odd:
    sys.exit(f"inherits {odd}")
"""
TRACE = (
    SYSCALL
    + "import os\nchild = os.fork()\nif child == 0:\n    os.read(os.pipe()[0], 1)\n"
    + ("got = call(101, 0x4206, child, 0, 0)\nos.kill(child, 9)\nsys.exit(int(got == 0))\n")
)  # PTRACE_SEIZE
CALLS = {  # by number on x86-64; each would go well, or be refused for its arguments alone, without the filter
    "keyctl": "call(250, 0, -3, 0)",
    "add_key": "call(248, b'user', b'suanli', b'x', 1, -1)",
    "bpf": "call(321, 0, 0, 0)",
    "io_uring": "call(425, 8, ctypes.create_string_buffer(120).raw)",
    "userfaultfd": "call(323, 1)",
    "perf_event_open": "call(298, bytes(128), 0, -1, -1, 0)",
    "new user namespace": "call(272, 0x10000000)",
    "clone into a user namespace": "call(56, 0x10000011, 0, 0, 0, 0)",
    "clone3": "call(435, bytes(88), 88)",
    "mount": "call(165, b'none', b'/tmp', b'tmpfs', 0, 0)",
    "fsopen": "call(430, b'tmpfs', 0)",
    "setns": "call(308, 0, 0)",
    "read another's memory": "call(310, 1, 0, 0, 0, 0, 0)",
    "kernel log": "call(103, 3, 0, 0)",
    "device node": "call(133, b'/tmp/null', 0o20666, 0x103)",
    "local descriptor table": "call(154, 0, 0, 0)",
    "large System V memory": "call(29, 0, 64 << 20, 0o1600)",
    "vsock": "call(41, 40, 1, 0)",
    "AF_ALG": "call(41, 38, 5, 0)",
    "packet socket": "call(41, 17, 3, 0)",
    "SCTP": "call(41, 2, 1, 132)",
    "netfilter by netlink": "call(41, 16, 3, 12)",
    "raise the core limit": "__import__('resource').setrlimit(4, (1 << 20, 1 << 20))",
    "a higher priority": "call(141, 0, 0, -5)",
}
CONTROLLED_CALLS = frozenset({"keyctl", "large System V memory", "netfilter by netlink", "local descriptor table"})
REFUSED = (
    SYSCALL
    + """
try:
    got = {call}
except (OSError, ValueError):
    got = -1
if got != -1 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS, errno.EACCES, 0):
    sys.exit(f"answered {{got}}, {{errno.errorcode.get(ctypes.get_errno())}}")
"""
)
WRITES = """
import os, sys
for folder, _, _ in os.walk("/"):
    if folder.startswith(("/proc/", "/work", "/out", "/tmp", "/dev/shm", "/dev/pts")):
        continue
    try:
        os.close(os.open(folder + "/.suanli-probe", os.O_CREAT | os.O_WRONLY))
    except OSError:
        continue
    os.unlink(folder + "/.suanli-probe")
    sys.exit(f"wrote to {folder}")
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/env/pyvenv.cfg"):
    try:
        open(path, "r+b").close()
    except OSError:
        continue
    sys.exit(f"opens {path} to write")
"""
LINKS = """
import os, sys
for path in ("/in/input", "/env/pyvenv.cfg", "/usr/bin/env"):
    try:
        os.link(path, "/out/linked")
    except OSError:
        continue
    sys.exit(f"linked {path}")
"""
PRIVILEGES = """
import os, subprocess, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
    if int(status[name], 16):
        sys.exit(f"holds {name} {status[name]}")
if status["NoNewPrivs"].strip() != "1" or os.getuid() == 0:
    sys.exit("may gain privileges")
for root, _, names in os.walk("/usr/bin"):
    for name in names:
        facts = os.lstat(os.path.join(root, name))
        if facts.st_mode & 0o6000 and not os.statvfs(root).f_flag & os.ST_NOSUID:
            sys.exit(f"{name} changes its user")
"""
DEVICES = """
import os, sys
allowed = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin", "stdout", "stderr",
           "core"}
odd = set(os.listdir("/dev")) - allowed
for path in ("/dev/kmsg", "/dev/mem", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/proc/kcore", "/proc/kmsg", "/sys"):
    if os.access(path, os.R_OK):
        odd.add(path)
if odd:
    sys.exit(f"has {odd}")
"""
PROBES = (
    Probe("reads", READS, control=True),
    Probe("strangers", STRANGERS, control=True),
    Probe("sockets", SOCKETS, control=True),
    Probe("descriptors", DESCRIPTORS),
    Probe("variables", VARIABLES, control=True),
    Probe("trace", TRACE, control=True),
    Probe("writes", WRITES),
    Probe("links", LINKS),
    Probe("privileges", PRIVILEGES, control=True),
    Probe("devices", DEVICES),
    *(Probe(name, REFUSED.format(call=call), name in CONTROLLED_CALLS) for name, call in CALLS.items()),
)


@dataclass(frozen=True)
class Flood:
    """A program that takes more than it may, and the reasons by which it may end."""

    name: str
    script: str
    reasons: frozenset[str]
    limits: Mapping[str, int] = field(default_factory=dict)


def floods() -> Iterator[Flood]:
    """Each ends in a few seconds, by its limit."""
    disk, memory = frozenset({"disk_exceeded"}), frozenset({"memory_exceeded"})
    yield Flood("many large files, and gone", """
        for number in range(4): open(f"/out/{number}", "wb").write(bytes(15 * 2**20))
        """, disk, {"disk_mib": 16})  # fmt: skip
    yield Flood("many small files, and gone", """
        import os
        for number in range(6000): os.close(os.open(f"/work/{number}", os.O_CREAT))
        """, disk)  # fmt: skip
    yield Flood("a million empty files", """
        import os
        for number in range(1_000_000): os.close(os.open(f"/out/{number}", os.O_CREAT))
        """, disk)  # fmt: skip
    yield Flood("folders without end", """
        import os
        while True: os.mkdir("d"); os.chdir("d")
        """, disk)  # fmt: skip
    yield Flood("sparse terabyte", """
        open("/out/sparse", "wb").truncate(2**40)
        """, frozenset({"exit_nonzero"}))  # fmt: skip
    yield Flood("scratch memory", """
        import time
        held = bytearray(b"x") * (30 * 2**20)
        for folder in ("/tmp", "/dev/shm"):
            for number in range(2): open(f"{folder}/{number}", "wb").write(bytes(30 * 2**20))
        time.sleep(20)
        """, memory, {"memory_mib": 128})  # fmt: skip
    yield Flood("a line without end", """
        import os
        while True: os.write(1, b"x" * 2**20)
        """, frozenset({"log_exceeded"}), {"log_bytes": MIB})  # fmt: skip
    yield Flood("deaf to SIGTERM, without output", """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN); os.close(1); os.close(2)
        while True: time.sleep(1)
        """, frozenset({"timeout"}), {"seconds": 1})  # fmt: skip


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    executor = Executor.start_or_attach(tmp_path_factory.mktemp("node") / "state", HostCapacity(2000, 4096))
    yield executor
    executor.shutdown()


@pytest.fixture(scope="module")
def prey(tmp_path_factory: pytest.TempPathFactory, executor: Executor) -> Iterator[tuple[str, ...]]:
    """What probes aim at: a secret file, an abstract and a named Unix socket, a TCP port, the node's own state."""
    folder = tmp_path_factory.mktemp("prey")
    (folder / "secret").write_text("a key")
    abstract = f"suanli-test-{secrets.token_hex(8)}"
    with (
        closing(socket.socket(socket.AF_UNIX)) as first,
        closing(socket.socket(socket.AF_UNIX)) as second,
        socket.create_server(("127.0.0.1", 0)) as third,
    ):
        first.bind("\0" + abstract)
        first.listen()
        second.bind(str(folder / "socket"))
        second.listen()
        other = executor.folder("another-run")
        state = executor.state
        yield (str(folder / "secret"), abstract, str(folder / "socket"), str(third.getsockname()[1]),
               str(other.work), str(state.socket), str(state.ray), "/run/ray", "/etc/shadow")  # fmt: skip


def finished(executor: Executor, script: str, *arguments: str, **wanted: int) -> tuple[RunStatus, str]:
    """The final status and output of a script run as a job."""
    lease_id = f"lease-{secrets.token_hex(6)}"
    limits = {"cpus_milli": 500, "memory_mib": 256, "disk_mib": 64, "seconds": 20, **wanted}
    (executor.folder(lease_id).inputs / "input").write_text("given")
    command = ("python", "-c", textwrap.dedent(script), *arguments)
    executor.start(RunSpec(lease_id, argv=command, **limits))  # type: ignore[arg-type]
    status = executor.wait(lease_id, WAIT_S)
    assert status.final, status
    entries, _ = executor.read_log(lease_id, 0)
    return status, b"".join(entry.data for entry in entries).decode(errors="replace")[-500:]


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_it_is_held(executor: Executor, prey: tuple[str, ...], probe: Probe) -> None:
    status, said = finished(executor, probe.script, *prey)
    assert (status.reason, status.exit_code) == ("ok", 0), said
    executor.forget(status.lease_id)


@pytest.mark.parametrize("probe", [probe for probe in PROBES if probe.control], ids=lambda probe: probe.name)
def test_without_a_sandbox_it_gets_out(prey: tuple[str, ...], probe: Probe, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", probe.script, *prey], cwd=tmp_path, env={**os.environ, "RAY_SECRET": "x"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("flood", list(floods()), ids=lambda flood: flood.name)
def test_a_flood_ends_by_its_limit(executor: Executor, flood: Flood) -> None:
    status, said = finished(executor, flood.script, **flood.limits)
    assert status.reason in flood.reasons, (status, said)
    executor.forget(status.lease_id)
    assert not executor.state.runs.joinpath(status.lease_id).exists()


SUPERVISE_WITHOUT_GROUPS = """
import json, sys
from pathlib import Path
from suanli_node.engine.runs import RunFolder, RunSpec
from suanli_node.engine.supervisor import supervise
from suanli_node.sandbox import bubblewrap, cgroup
cgroup.homes = list
bubblewrap.is_true_root = lambda: False
folder = RunFolder(Path(sys.argv[1]))
folder.create()
folder.write_spec(RunSpec.from_json(json.loads(sys.argv[3])))
supervise(folder, Path(sys.argv[2]), bubblewrap.Bubblewrap(), lambda: None)
print(folder.status().reason)
"""


@pytest.mark.parametrize("flood", [flood for flood in floods() if "memory" in flood.name], ids=lambda flood: flood.name)
def test_where_no_control_group_binds_the_supervisor_does(executor: Executor, tmp_path: Path, flood: Flood) -> None:
    spec = RunSpec("bare", argv=("python", "-c", textwrap.dedent(flood.script)), seconds=10, **flood.limits)  # type: ignore[arg-type]
    environment = executor.state.environments / empty_name()
    words = ["-c", SUPERVISE_WITHOUT_GROUPS, str(tmp_path / "bare"), str(environment), json.dumps(spec.to_json())]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout.strip() in flood.reasons


def test_where_no_control_group_binds_a_small_lease_can_use_every_core(executor: Executor, tmp_path: Path) -> None:
    """The control run of the canary `cpu`: nothing else of the sandbox holds it."""
    spec = RunSpec("bare", argv=("python", "-c", CPU, "0.15"), cpus_milli=100, seconds=20)
    environment = executor.state.environments / empty_name()
    words = ["-c", SUPERVISE_WITHOUT_GROUPS, str(tmp_path / "bare"), str(environment), json.dumps(spec.to_json())]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout.strip() == "exit_nonzero", done.stderr


def test_what_is_left_behind_dies_with_the_run(executor: Executor) -> None:
    mark = f"mark{secrets.token_hex(8)}"
    script = """
    import os, signal, sys, time
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.execvp("python", ["python", "-c", "import time; time.sleep(60)", sys.argv[1]])
            os._exit(0)
    time.sleep(0.3)
    """
    status, _ = finished(executor, script, mark)
    assert status.reason == "ok"
    assert [p for p in psutil.process_iter(["cmdline"]) if mark in (p.info["cmdline"] or [])] == []


def test_killing_all_it_sees_hurts_only_itself(executor: Executor) -> None:
    script = "import os; os.kill(1, 9); os.fork() or os.pause(); os.kill(-1, 9); os.kill(os.getpid(), 9)"
    status, _ = finished(executor, script.replace("os.pause", "__import__('signal').pause"))
    assert (status.reason, status.exit_code) == ("exit_nonzero", 128 + signal.SIGKILL)
    assert finished(executor, "print('next')")[1] == "next\n"


def test_outputs_that_were_swapped_for_links_are_refused(executor: Executor, prey: tuple[str, ...]) -> None:
    """A race cannot be won: outputs are taken when nothing of the job lives any more."""
    script = """
    import os, sys, time
    if os.fork() == 0:
        while True:
            for make in (lambda: open("/out/a", "w").close(), lambda: os.symlink(sys.argv[1], "/out/a")):
                make(); os.unlink("/out/a")
    os.mkdir("/work/d"); os.symlink("/", "/work/d/root"); os.symlink(sys.argv[1], "/out/b")
    for name in ("new\\nline", "bell\\a", "turned\\u202egnp.exe", "x" * 255, "-rf", " "):
        open(f"/out/{name}", "w").close()
    time.sleep(0.2)
    """
    status, said = finished(executor, script, *prey)
    assert status.reason == "ok", said
    declared = ["d/root" + prey[0], "d/root/etc/passwd", "d"]
    found = collect(executor.folder(status.lease_id), declared, CollectLimits())
    assert {source.name for source in found.files} - {"out/a"} == {"out/" + "x" * 255, "out/-rf", "out/ "}
    refused = {"out/b", "out/new\nline", "out/bell\a", "out/turned\u202egnp.exe", "d/root"}
    assert refused <= {name for name, _ in found.refused}
    assert all(isinstance(source.content, Path) and source.content.is_relative_to(executor.state.runs)
               and not source.content.is_symlink() for source in found.files)  # fmt: skip


def test_more_outputs_than_asked_for_are_not_taken(executor: Executor) -> None:
    status, _ = finished(executor, "for n in range(50): open(f'/out/{n}', 'wb').truncate(60 * 2**20)")
    with pytest.raises(ExecutionError) as caught:
        collect(executor.folder(status.lease_id), [], CollectLimits(bytes=100 * MIB))
    assert caught.value.code == "output_exceeded"
