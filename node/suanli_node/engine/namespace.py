"""The Ray host's own view of the machine: no network but `lo`, private /run and /dev/shm, keystores masked.

Called once, by the first process of fresh network, pid, mount and ipc namespaces, before Ray starts. Sandboxes find
what they mount under /run/suanli, where a job's own user can reach it though the operator's home is closed to it.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from suanli_node.sandbox.disk import make_folder

RUNS = Path("/run/suanli/runs")
ENVIRONMENTS = Path("/run/suanli/environments")
PYTHON = Path("/run/suanli/python")
RAY = Path("/run/ray")  # short: a Unix socket's path holds 107 bytes
_SHARED_MEMORY_BYTES = 256 * 2**20
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


@dataclass(frozen=True)
class StateFolder:
    """The node's state as this part of it knows it."""

    path: Path

    @property
    def runs(self) -> Path:
        """One folder a run."""
        return self.path / "runs"

    @property
    def environments(self) -> Path:
        """One folder a prepared environment."""
        return self.path / "environments"

    @property
    def ray(self) -> Path:
        """Ray's session; worthless once the host has ended."""
        return self.path / "ray"

    @property
    def socket(self) -> Path:
        """Where the host answers."""
        return self.path / "ray_host.sock"

    @property
    def lock(self) -> Path:
        """Held as long as the host's namespaces live."""
        return self.path / "ray_host.lock"

    @property
    def log(self) -> Path:
        """What the host prints."""
        return self.path / "ray_host.log"

    @property
    def process(self) -> Path:
        """The host's pid outside its namespace, and when it began."""
        return self.path / "ray_host.json"

    def create(self) -> None:
        """Make the folders. The top one is closed to all others; a job's own user passes the ones below."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)
        for part, mode in ((self.runs, 0o711), (self.environments, 0o711), (self.ray, 0o700)):
            make_folder(part, mode)


def enter(state: StateFolder, mask: list[Path]) -> None:
    """Bring `lo` up and arrange the mounts."""
    loopback_up()
    _mount("-t", "tmpfs", "-o", "mode=755,nosuid,nodev", "tmpfs", "/run")
    for source, target in (
        (state.runs, RUNS),
        (state.environments, ENVIRONMENTS),
        (Path(sys.base_prefix), PYTHON),
        (state.ray, RAY),
    ):
        target.mkdir(parents=True)
        _mount("--bind", str(source), str(target))
    _mount("-t", "tmpfs", "-o", f"size={_SHARED_MEMORY_BYTES},mode=1777,nosuid,nodev", "tmpfs", "/dev/shm")  # noqa: S108 (ours alone)
    for path in mask:
        if path.is_relative_to("/run"):
            continue  # gone with what the machine has there, such as a service manager's credentials
        if path.is_dir():
            _mount("-t", "tmpfs", "-o", "size=4k,mode=0,ro", "tmpfs", str(path))
        else:
            _mount("--bind", "/dev/null", str(path))


def loopback_up() -> None:
    """Switch the loopback interface on; a fresh network namespace has it off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sh14x", b"lo", 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(handle, _SIOCGIFFLAGS, request))
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=20, stdin=subprocess.DEVNULL)
