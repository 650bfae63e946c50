"""Python environments for jobs: from hashed requirements, wheels only, prepared apart from every key, kept by digest.

uv runs in bubblewrap with the network, the index and nothing of the operator's: neither home, nor keys, nor variables.
Nothing of a package is ever run here: not its build, not its .pth files, not its own `python`. The environment is
mounted at /env while it is made, as it will be when a job sees it. A half-made one is never seen.
"""

from __future__ import annotations

import os
import platform
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import uv

from suanli_node.sandbox.bubblewrap import limiting, system_mounts
from suanli_node.sandbox.disk import disk_usage, make_folder
from suanli_node.sandbox.seccomp import program
from suanli_protocol.errors import ConfigurationError, ExecutionError, ProtocolError
from suanli_protocol.reasons import Reason
from suanli_protocol.requirements import read_requirements

MIB = 2**20
DEFAULT_INDEX = "default"
TIMEOUT_S = 300
SIZE_MIB = 8192
FILES_MAX = 400_000
TRANSCRIPT_BYTES_MAX = 256 * 1024
_LOOK_S = 0.05
_NETWORK_FILES = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/ssl/certs",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
)
# By the machine's own interpreter, without `site`: a package could replace the environment's, and `site` runs what its
# .pth files say. What does not compile is left as it is.
_COMPILE = "import compileall; compileall.compile_dir('/env', quiet=2, workers=0)"
_COMPILE_MEMORY_BYTES = 4 * 2**30
Check = Callable[[], None]


def _go_on() -> None:
    """The check of a preparation that nobody interrupts."""


@dataclass(frozen=True)
class PackageIndex:
    """Where packages come from, as the operator set it: a folder of wheels, an address, or uv's own default."""

    address: str  # may hold a password: never shown, never in an argument list
    folder: Path | None = None
    certificates: Path | None = None  # of the authorities to trust, if not uv's own

    @classmethod
    def parse(cls, text: str, certificates: Path | None = None) -> PackageIndex | None:
        """From a setting: a folder, an http(s) address, "default", or empty for none."""
        if not text:
            return None
        if text == DEFAULT_INDEX or text.startswith(("https://", "http://")):
            return cls(text, certificates=certificates)
        folder = Path(text).expanduser().resolve()
        if not folder.is_dir():
            raise ConfigurationError(f"--index: {text!r} is neither an http(s) address nor a folder",
                                     hint="name a folder of wheels, an address, or default")  # fmt: skip
        return cls("", folder=folder)

    def options(self) -> list[str]:
        """For uv's command line."""
        return ["--no-index", "--find-links", str(self.folder)] if self.folder else []

    def variables(self) -> dict[str, str]:
        """For uv's environment."""
        found = {"UV_DEFAULT_INDEX": self.address} if self.address not in ("", DEFAULT_INDEX) else {}
        if self.certificates is not None:
            found["SSL_CERT_FILE"] = str(self.certificates)
        return found

    def mounts(self) -> list[str]:
        """What uv must see of the machine to reach it."""
        paths = [Path(path) for path in _NETWORK_FILES] + [path for path in (self.folder, self.certificates) if path]
        return [part for path in paths if path.exists() for part in ("--ro-bind", str(path.resolve()), str(path))]


@dataclass(frozen=True)
class Prepared:
    """An environment to run in, and what preparing it printed."""

    name: str
    transcript: str
    cached: bool


class EnvironmentStore:
    """The environments under one folder."""

    def __init__(self, root: Path, index: PackageIndex | None = None) -> None:
        self._root, self._index = root, index

    def empty(self) -> Prepared:
        """The environment without packages: it brings `python` and `python3`."""
        return self._ensure(empty_name(), "", TIMEOUT_S, SIZE_MIB, _go_on)

    def prepare(
        self, requirements: str, *, timeout_s: int = TIMEOUT_S, size_mib: int = SIZE_MIB, check: Check = _go_on
    ) -> Prepared:
        """The environment of hashed requirements; ExecutionError with what uv said if it cannot be made.

        `check` is called all the while; what it raises ends the preparation at once.
        """
        try:
            packages = read_requirements(requirements)
        except ProtocolError as error:
            raise _failed(f"requirements: {error.detail}", hint=error.hint) from None
        if not packages:
            return self.empty()
        if self._index is None:
            raise _failed("this node prepares no environments", hint="ask for an offer with environments")
        pinned = "\n".join(packages) + "\n"
        return self._ensure(environment_name(pinned), pinned, timeout_s, size_mib, check)

    def _ensure(self, name: str, requirements: str, timeout_s: int, size_mib: int, check: Check) -> Prepared:
        target = self._root / name
        if target.is_dir():
            with suppress(OSError):
                os.utime(target)  # the least recently used go first
            return Prepared(name, f"environment {name[:16]} was prepared before\n", cached=True)
        with self._draft() as draft:
            transcript = _Preparation(draft, self._index, timeout_s, size_mib, check).run(requirements)
            with suppress(OSError):  # another preparation of the same environment was quicker
                (draft / "env").rename(target)
        if not target.is_dir():
            raise _failed(f"the environment could not be put in place at {target}", hint="is the disk full?")
        return Prepared(name, transcript, cached=False)

    @contextmanager
    def _draft(self) -> Iterator[Path]:
        draft = self._root / f".draft-{secrets.token_hex(8)}"
        make_folder(draft, 0o700)
        try:
            for part in ("env", "home"):
                make_folder(draft / part, 0o755)
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)


class _Preparation:
    """One making of an environment inside a draft folder."""

    def __init__(self, draft: Path, index: PackageIndex | None, timeout_s: int, size_mib: int, check: Check) -> None:
        self._draft, self._index, self._size, self._check = draft, index, size_mib * MIB, check
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s

    def run(self, requirements: str) -> str:
        """What uv printed; ExecutionError if it failed or exceeded its limits."""
        python = str(Path(sys.executable).resolve())
        said = self._uv("venv", "--no-project", "--allow-existing", "--python", python, "/env")
        if requirements:
            (self._draft / "home" / "requirements.txt").write_text(requirements)
            said += self._uv(
                "pip", "install", "--python", "/env/bin/python", "--require-hashes", "--only-binary", ":all:",
                "--no-deps", "--link-mode", "copy", "--strict",
                *(self._index.options() if self._index else []), "-r", "/draft/requirements.txt", index=self._index,
            )  # fmt: skip
            self._confined((python, "-I", "-S", "-c", _COMPILE), {resource.RLIMIT_AS: _COMPILE_MEMORY_BYTES})
        return said

    def _uv(self, *arguments: str, index: PackageIndex | None = None) -> str:
        code, said = self._confined(("/uv", *arguments), {}, index)
        if code != 0:
            raise _failed(f"uv failed: {said.strip()[-2000:]}")
        return said

    def _confined(
        self, command: tuple[str, ...], limits: dict[int, int], index: PackageIndex | None = None
    ) -> tuple[int, str]:
        """The exit code and output of a command that sees the draft, and the index if it is given one."""
        limits = {resource.RLIMIT_FSIZE: self._size, resource.RLIMIT_CORE: 0, **limits}
        with (
            tempfile.TemporaryFile(dir=self._draft) as output,
            _readable(program()) as call_filter,
            _readable("\0".join(self._settings(index, call_filter)).encode()) as settings,
        ):
            process = subprocess.Popen(
                [*limiting(limits), "bwrap", "--args", str(settings), "--", *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={"PATH": os.defpath}, cwd="/",
                pass_fds=(settings, call_filter), umask=0o022, start_new_session=True,
            )  # fmt: skip
            try:
                excess = self._watch(process)
            finally:
                _kill(process)
            output.seek(0)
            said = output.read(TRANSCRIPT_BYTES_MAX).decode(errors="replace")
        if excess:
            raise _failed(f"{excess}: {said.strip()[-2000:]}")
        return process.returncode, said

    def _watch(self, process: subprocess.Popen[bytes]) -> str:
        """Until the process has ended or exceeded a limit: which one, or nothing."""
        while not (excess := self._excess()):
            self._check()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_S)
                return self._excess()
        return excess

    def _excess(self) -> str:
        if time.monotonic() > self._deadline:
            return f"preparing took longer than {self._timeout_s} s"
        used = disk_usage(self._draft, bytes_max=self._size, files_max=FILES_MAX)
        if used.bytes > self._size or used.files > FILES_MAX:
            return f"the environment exceeds {self._size // MIB} MiB or {FILES_MAX} files"
        return ""

    def _settings(self, index: PackageIndex | None, call_filter: int) -> list[str]:
        """Bubblewrap's settings, variables among them: they travel by descriptor, never in an argument list."""
        variables = {
            "HOME": "/draft", "TMPDIR": "/draft", "UV_CACHE_DIR": "/draft/cache", "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1", "PATH": "/usr/bin:/bin",
            **(index.variables() if index else {}),
        }  # fmt: skip
        network = ["--share-net"] if index and not index.folder else []
        base = Path(sys.base_prefix)
        settings = [
            "--unshare-all", *network, "--die-with-parent", "--new-session", "--cap-drop", "ALL",
            "--seccomp", str(call_filter), *system_mounts(),
            *(["--ro-bind", str(base), str(base)] if not base.is_relative_to("/usr") else []),
            *(index.mounts() if index else []), "--ro-bind", uv.find_uv_bin(), "/uv",
            "--proc", "/proc", "--dev", "/dev", "--bind", str(self._draft / "env"), "/env",
            "--bind", str(self._draft / "home"), "/draft", "--remount-ro", "/", "--chdir", "/draft", "--clearenv",
        ]  # fmt: skip
        for name, value in variables.items():
            settings += ["--setenv", name, value]
        return settings


@contextmanager
def _readable(data: bytes) -> Iterator[int]:
    """A descriptor to read `data` from."""
    descriptor = os.memfd_create("preparation")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End what still runs, and wait for it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment_name(requirements: str) -> str:
    """The digest over the requirements and the interpreter that they are for."""
    about = f"{sys.version}\0{platform.machine()}\0{sys.base_prefix}\0{requirements}"
    return sha256(about.encode()).hexdigest()


def empty_name() -> str:
    """The name of the environment without packages."""
    return environment_name("")


def _failed(detail: str, hint: str = "correct the requirements file") -> ExecutionError:
    return ExecutionError(detail, hint=hint, code=Reason.ENVIRONMENT_FAILED.value)
