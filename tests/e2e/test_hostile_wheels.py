"""Wheels that attack the node while it prepares an environment: nothing of them runs, nothing is written elsewhere."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from suanli_node.engine.environment import EnvironmentStore, PackageIndex, _Preparation
from suanli_protocol.errors import ExecutionError

pytestmark = pytest.mark.e2e
PAYLOAD = "import os; open('/env/ran', 'w').close()\n"
FAKE_PYTHON = "#!/bin/sh\necho > /env/ran\n"
INFO, DATA = "evil-1.0.dist-info", "evil-1.0.data"


@dataclass
class Bench:
    """A folder of wheels, and a store that takes from it."""

    root: Path

    def __post_init__(self) -> None:
        self.wheels, self.environments = self.root / "wheels", self.root / "environments"
        self.wheels.mkdir()
        self.environments.mkdir()
        self.store = EnvironmentStore(self.environments, PackageIndex.parse(str(self.wheels)))

    def wheel(self, files: Mapping[str, str]) -> str:
        """A wheel with these files besides its own, and the hashed requirement for it."""
        path = self.wheels / "evil-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr("evil.py", "here = True")
            for name, content in files.items():
                wheel.writestr(name, content)
            wheel.writestr(f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
            wheel.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            names = [*wheel.namelist(), f"{INFO}/RECORD"]
            wheel.writestr(f"{INFO}/RECORD", "".join(f"{name},,\n" for name in names))
        return f"evil==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"

    def strays(self) -> list[Path]:
        """What lies where nothing may lie, or shows that the payload ran."""
        found = [path for path in self.root.rglob("*") if path.name in ("ran", "escaped")]
        return [path for path in found if path.parent.name != "site-packages"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("name", ["evil.pth", "sitecustomize.py", "usercustomize.py"])
def test_nothing_of_a_package_runs_while_it_is_installed(bench: Bench, name: str) -> None:
    prepared = bench.store.prepare(bench.wheel({name: PAYLOAD}))
    (site,) = (bench.environments / prepared.name).glob("lib/python*/site-packages")
    assert (site / name).read_text() == PAYLOAD
    assert list(site.glob("__pycache__/evil.*.pyc")), "modules are compiled all the same"
    assert bench.strays() == []


@pytest.mark.parametrize(
    "name",
    [
        *("../escaped", "../../../../escaped", "/env/../escaped", "evil/../../../../../../escaped"),
        *(f"{DATA}/data/../../escaped", f"{DATA}/scripts/../../../../../escaped"),
    ],
)
def test_paths_that_lead_out_write_nothing(bench: Bench, name: str) -> None:
    with suppress(ExecutionError):  # uv refuses some, and drops the others
        bench.store.prepare(bench.wheel({name: "x"}))
    assert bench.strays() == []
    assert not list(bench.environments.glob(".draft*"))


@pytest.mark.parametrize("name", [f"{DATA}/data/bin/python", f"{DATA}/data/bin/python3", f"{DATA}/scripts/python"])
def test_a_package_that_brings_a_python_of_its_own_is_not_run(bench: Bench, name: str) -> None:
    with suppress(ExecutionError):
        bench.store.prepare(bench.wheel({name: FAKE_PYTHON}))
    assert bench.strays() == []


def test_a_module_that_does_not_compile_harms_nobody(bench: Bench) -> None:
    prepared = bench.store.prepare(bench.wheel({"broken.py": "def (", "deep.py": "-" * 200_000 + "1"}))
    assert (bench.environments / prepared.name / "bin" / "python").exists()


LOOK = """
import os, socket, sys
for path in sys.argv[1:]:
    try:
        found = os.listdir(path) if os.path.isdir(path) else [open(path, "rb").read(1)]
    except OSError:
        continue
    if found:
        sys.exit(f"reads {path}")
if [name for name in os.environ if name not in ("HOME", "TMPDIR", "PATH", "NO_COLOR", "PWD", "LC_CTYPE")
        and not name.startswith("UV_")] or any("password" in value for value in os.environ.values()):
    sys.exit(f"inherits {dict(os.environ)}")
if [name for _, name in socket.if_nameindex() if name != "lo"] or len(open("/proc/net/unix").readlines()) > 1:
    sys.exit("has a network")
"""


def test_what_prepares_sees_nothing_of_the_operator(bench: Bench) -> None:
    """Were something of a package run after all, this is all that it would find."""
    (bench.root / "key.json").write_text("a key")
    draft = bench.environments / "draft"
    for part in ("env", "home"):
        (draft / part).mkdir(parents=True)
    index = PackageIndex("http://user:password@127.0.0.1:1/simple")
    own = (bench.root, bench.root / "key.json", Path.home() / ".ssh", Path(__file__))
    hidden = [*map(str, own), "/run", "/etc/shadow", "/etc/ssl/private", "/var", "/sys"]
    preparation = _Preparation(draft, index, timeout_s=30, size_mib=64, check=lambda: None)
    python = str(Path(sys.executable).resolve())
    assert preparation._confined((python, "-I", "-S", "-c", LOOK, *hidden), {}) == (0, "")


def test_a_preparation_can_be_interrupted(bench: Bench) -> None:
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise InterruptedError("the lease was stopped")

    with pytest.raises(InterruptedError):
        bench.store.prepare(bench.wheel({}), check=stop)
    assert list(bench.environments.iterdir()) == []
