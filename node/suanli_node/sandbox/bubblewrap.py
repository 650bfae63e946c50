"""Tier B: bubblewrap. Own namespaces, a read-only root of a few folders, no network, no capability, a call filter.

Limits are set before the job's first instruction, partly while the cell waits at a barrier, so that nothing in the
job's environment can slip past them. When the node runs as root, the cell runs under a user of its own, so that the
limit on processes binds it and no file of root is its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

from suanli_node.sandbox.cgroup import Cgroup, CgroupLimits, group_name
from suanli_node.sandbox.disk import DiskUsage, file_system_usage
from suanli_node.sandbox.interface import Cell, Ending
from suanli_node.sandbox.process_tree import TreeUsage, measure, signal_all
from suanli_node.sandbox.seccomp import program
from suanli_protocol.errors import ConfigurationError, ExecutionError

MIB = 2**20
START_TIMEOUT_S = 20.0
JOB_UID = 1000  # inside
_FIRST_OWN_UID = 1_800_000_000
_OWN_UIDS = 2**20
_OPEN_FILES = 4096
_SCRATCH_FOLDERS = ("/tmp", "/dev/shm")  # noqa: S108 (inside)
_PR_SET_CHILD_SUBREAPER = 36
_ADDRESS_SPACE_SLACK = 8 * 2**30  # reserved but untouched memory that common libraries ask for
_SYSTEM_FOLDERS = ("/usr",)
_SYSTEM_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/mime.types",
                 "/etc/fonts")  # fmt: skip
_LIMIT_NAMES = {
    resource.RLIMIT_NPROC: "nproc",
    resource.RLIMIT_NOFILE: "nofile",
    resource.RLIMIT_FSIZE: "fsize",
    resource.RLIMIT_AS: "as",
    resource.RLIMIT_CORE: "core",
    resource.RLIMIT_MEMLOCK: "memlock",
    resource.RLIMIT_MSGQUEUE: "msgqueue",
}
_PASSWD = f"job:x:{JOB_UID}:{JOB_UID}::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
_GROUP = f"job:x:{JOB_UID}:\nnogroup:x:65534:\n"
_HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


class Bubblewrap:
    """The default sandbox."""

    tier = "B"

    def __init__(self, python: Path | None = None) -> None:
        """`python`: where the interpreter's prefix can be reached if not at its own path (see `namespace`)."""
        self._python = python or Path(sys.base_prefix)

    def require(self) -> None:
        """ConfigurationError if bwrap, a new enough one, or libseccomp is missing."""
        if shutil.which("bwrap") is None:
            raise ConfigurationError("bubblewrap is not installed: jobs have no sandbox",
                                     hint="apt-get install bubblewrap")  # fmt: skip
        told = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, timeout=10, check=False)
        if "--disable-userns" not in told.stdout + told.stderr:
            raise ConfigurationError("this bubblewrap is too old", hint="install bubblewrap 0.8 or newer")
        program()

    def start(self, cell: Cell) -> BubblewrapPrisoner:
        """Start the cell; it runs when this returns."""
        user = own_uid(cell.name) if is_true_root() else None
        if user is not None:
            for folder in (cell.work, cell.inputs, cell.out):
                give(folder, user)
        return _Start(cell, self._python, user).go()


class BubblewrapPrisoner:
    """A cell that runs."""

    def __init__(
        self, process: subprocess.Popen[bytes], status: int, stdout: int, stderr: int, init: int, group: Cgroup
    ) -> None:
        self._process, self._status, self._init, self._group = process, status, init, group
        self._init_handle = os.pidfd_open(init)
        self.stdout, self.stderr = stdout, stderr
        self.done = os.pidfd_open(process.pid)

    def usage(self) -> TreeUsage:
        """What runs below the cell's first process, and that one itself, use."""
        return measure(self._init)

    def scratch(self) -> DiskUsage:
        """What lies in the cell's memory file systems, which it sees as /tmp and /dev/shm."""
        used = DiskUsage()
        for folder in _SCRATCH_FOLDERS:
            inside = Path(f"/proc/{self._init}/root{folder}")
            with suppress(OSError):  # as long as bubblewrap still builds the cell, it sees the machine's
                if inside.stat().st_dev != Path(folder).stat().st_dev:
                    used += file_system_usage(inside)
        return used

    def out_of_processes(self) -> bool:
        """True once the group refused a process."""
        return self._group.refused_processes() > 0

    def out_of_memory(self) -> bool:
        """True once the group's memory did not suffice."""
        return self._group.memory_kills() > 0

    def send(self, number: signal.Signals) -> None:
        """Signal all processes but the cell's first, which is bubblewrap's own."""
        signal_all(self.usage().pids[1:], number)

    def kill(self) -> None:
        """Kill the first process of the cell's pid namespace: the kernel then ends all others."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._init_handle, signal.SIGKILL)

    def ending(self) -> Ending:
        """Reap the cell. The exit code is what the job's program gave, 128 + n if signal n ended it."""
        _, wait_status, outer = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(wait_status)
        self.kill()
        used = [outer]
        with suppress(
            ChildProcessError
        ):  # bubblewrap itself reaped the cell's first process, which had reaped the rest
            used.append(os.wait4(self._init, 0)[2])  # or it left that to us
        told = json_lines(read_all(self._status))
        code = next((line["exit-code"] for line in told if "exit-code" in line), None)
        killed, refused, counted_ms = self.out_of_memory(), self.out_of_processes(), self._group.cpu_ms()
        self._group.remove()
        for descriptor in (self._status, self._init_handle, self.done):
            os.close(descriptor)
        reaped_ms = int(sum(one.ru_utime + one.ru_stime for one in used) * 1000)
        return Ending(code, max(reaped_ms, counted_ms), killed, refused)


class _Start:
    """The steps from a cell to a prisoner."""

    def __init__(self, cell: Cell, python: Path, user: int | None) -> None:
        self._cell, self._python, self._user = cell, python, user
        self._inherited: list[int] = []

    def go(self) -> BubblewrapPrisoner:
        """Start bubblewrap, confine what waits behind its barrier, lift the barrier."""
        adopt_orphans()
        stdout, stdout_far = os.pipe()
        stderr, stderr_far = os.pipe()
        status, status_far = os.pipe()
        barrier_far, barrier = os.pipe()
        self._inherited += [status_far, barrier_far]
        settings = self._file("\0".join(self._settings(status_far, barrier_far)).encode())
        confined = [*being(self._user), *limiting(self._limits())]
        command = [*confined, "bwrap", "--args", str(settings), "--", *self._cell.argv]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stdout_far, stderr=stderr_far, pass_fds=self._inherited,
            env={"PATH": os.defpath}, cwd="/",
        )  # fmt: skip
        for descriptor in [*self._inherited, stdout_far, stderr_far]:
            os.close(descriptor)
        group, init = Cgroup(), 0
        try:
            init = first_process(status)
            group = Cgroup.create(group_name(self._cell.name), self._group_limits())
            self._confine(init, group)
            prisoner = BubblewrapPrisoner(process, status, stdout, stderr, init, group)
        except (OSError, ValueError) as error:
            if init:
                with suppress(ProcessLookupError):
                    os.kill(init, signal.SIGKILL)
            process.kill()
            process.wait()
            group.remove()
            os.set_blocking(stderr, False)
            complaint = read_all(stderr).decode(errors="replace").strip() or repr(error)
            for descriptor in (barrier, status, stdout, stderr):
                os.close(descriptor)
            raise ExecutionError(f"the sandbox did not start: {complaint}", code="sandbox_failed",
                                 hint="suanli-node doctor") from error  # fmt: skip
        with suppress(BrokenPipeError):
            os.write(barrier, b"\n")
        os.close(barrier)
        return prisoner

    def _limits(self) -> dict[int, int]:
        """Per-process limits. The one on processes counts what else our own user runs, so it waits for `_confine`.

        A user of the run's own is limited above its control group: the group binds first, and tells when it did.
        """
        cell = self._cell
        limits = {
            resource.RLIMIT_NOFILE: _OPEN_FILES,
            resource.RLIMIT_FSIZE: cell.file_mib * MIB,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_MEMLOCK: 64 * 1024,
            resource.RLIMIT_MSGQUEUE: 0,
        }
        if not cell.devices:  # a driver reserves more addresses than there is memory
            limits[resource.RLIMIT_AS] = max(4 * cell.memory_mib * MIB, cell.memory_mib * MIB + _ADDRESS_SPACE_SLACK)
        if self._user is not None:
            limits[resource.RLIMIT_NPROC] = hard_processes(hard_processes(cell.processes))  # above the group's limit
        return limits

    def _confine(self, init: int, group: Cgroup) -> None:
        """Limit the waiting cell as a whole. Inside its own user namespace only its own processes count."""
        group.add(init)
        if self._user is None:
            bound = within_hard_limit(resource.RLIMIT_NPROC, hard_processes(self._cell.processes))
            resource.prlimit(init, resource.RLIMIT_NPROC, (bound, bound))

    def _group_limits(self) -> CgroupLimits:
        cell = self._cell
        return CgroupLimits(hard_processes(cell.processes), cell.memory_mib * MIB, cell.cpus_milli)

    def _settings(self, status: int, barrier: int) -> list[str]:
        cell, scratch = self._cell, str(self._cell.scratch_mib * MIB)
        settings = [
            "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup",
            "--disable-userns", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
            "--uid", str(JOB_UID), "--gid", str(JOB_UID), "--hostname", "job",
            "--json-status-fd", str(status), "--block-fd", str(barrier), "--seccomp", str(self._file(program())),
            *system_mounts(), *self._text_file("/etc/passwd", _PASSWD), *self._text_file("/etc/group", _GROUP),
            *self._text_file("/etc/hosts", _HOSTS), *self._python_mounts(),
            "--proc", "/proc", "--dev", "/dev", "--size", scratch, "--perms", "1777", "--tmpfs", "/dev/shm",  # noqa: S108 (inside)
            "--size", scratch, "--perms", "1777", "--tmpfs", "/tmp",  # noqa: S108 (inside)
            *(word for path in cell.devices for word in ("--dev-bind", path, path)),
            "--bind", str(cell.work), "/work", "--ro-bind", str(cell.inputs), "/in", "--bind", str(cell.out), "/out",
            "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/work", "--clearenv",
        ]  # fmt: skip
        for name, value in cell.env.items():
            settings += ["--setenv", name, value]
        return settings

    def _python_mounts(self) -> list[str]:
        """The environment, and the interpreter that it refers to at its own path, unless that is part of /usr."""
        mounts = ["--ro-bind", str(self._cell.environment), "/env"]
        if not Path(sys.base_prefix).is_relative_to("/usr"):
            mounts += ["--ro-bind", str(self._python), sys.base_prefix]
        return mounts

    def _text_file(self, path: str, text: str) -> list[str]:
        return ["--perms", "0444", "--ro-bind-data", str(self._file(text.encode())), path]

    def _file(self, data: bytes) -> int:
        """An inherited descriptor to read `data` from."""
        descriptor = os.memfd_create("cell")
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        self._inherited.append(descriptor)
        return descriptor


def being(user: int | None) -> list[str]:
    """A command that becomes a user without groups, to be put before the command that shall be one; None: who we are.

    Were the user given to subprocess, that would copy this large process first, for many times as long.
    """
    return [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def limiting(limits: dict[int, int]) -> list[str]:
    """A command that sets per-process limits, to be put before the command that shall have them."""
    return ["prlimit", *(f"--{_LIMIT_NAMES[key]}={within_hard_limit(key, value)}" for key, value in limits.items())]


def within_hard_limit(limit: int, value: int) -> int:
    """The value, or our own hard limit where that is lower: it cannot be raised."""
    _, hard = resource.getrlimit(limit)
    return value if hard == resource.RLIM_INFINITY else min(value, hard)


def system_mounts() -> list[str]:
    """The parts of the machine's system that each job may read."""
    mounts: list[str] = []
    for path in _SYSTEM_FOLDERS + tuple(file for file in _SYSTEM_FILES if Path(file).exists()):
        mounts += ["--ro-bind", path, path]
    for link in _SYSTEM_LINKS:
        if Path(link).is_symlink():
            mounts += ["--symlink", str(Path(link).readlink()), link]
        elif Path(link).is_dir():
            mounts += ["--ro-bind", link, link]
    return mounts


def hard_processes(processes: int) -> int:
    """The kernel's limit: a little above the stated one, so that reaching it is seen and named before it binds."""
    return processes + 16


@cache
def adopt_orphans() -> None:
    """Become the parent of descendants that lose theirs, so that this process can reap and account for them."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def is_true_root() -> bool:
    """True if this process is root of the machine, not merely of a user namespace."""
    return os.geteuid() == 0 and Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def own_uid(name: str) -> int:
    """A user that owns nothing else on the machine, the same for the same name."""
    return _FIRST_OWN_UID + int.from_bytes(sha256(name.encode()).digest()[:4]) % _OWN_UIDS


def give(folder: Path, user: int) -> None:
    """Make a user the owner of a folder and all that is in it; links are given, never followed."""
    for path, folders, files, handle in os.fwalk(folder):
        del path
        os.chown(".", user, user, dir_fd=handle)
        for name in folders + files:
            os.chown(name, user, user, dir_fd=handle, follow_symlinks=False)


def first_process(status: int) -> int:
    """The pid of a cell's first process, from bubblewrap's status; ValueError if it ends before saying."""
    text = b""
    while b"\n" not in text:
        ready, _, _ = select.select([status], [], [], START_TIMEOUT_S)
        piece = os.read(status, 4096) if ready else b""
        if not piece:
            raise ValueError("bubblewrap ended or hung before the job began")
        text += piece
    return int(json_lines(text)[0]["child-pid"])


def json_lines(text: bytes) -> list[dict[str, int]]:
    """The JSON documents of bubblewrap's status."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def read_all(descriptor: int) -> bytes:
    """Everything up to the end of a stream whose writers are gone."""
    pieces = []
    with suppress(BlockingIOError):
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
    return b"".join(pieces)
