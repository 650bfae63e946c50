"""Control groups of both versions: where a run's groups lie, what is written into them, and whose processes move.

The kernel's files are played by plain ones; that they bind is shown where the sandbox really runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from suanli_node.sandbox import cgroup
from suanli_node.sandbox.cgroup import LEAF, Cgroup, CgroupLimits
from suanli_node.supply.inventory import cpu_quota_milli, memory_limit_bytes

LIMITS = CgroupLimits(processes=80, memory_bytes=2**30, cpus_milli=1500)


@dataclass
class Kernel:
    """Hierarchies under a folder, and what /proc says of our own group."""

    root: Path
    own: list[str] = field(default_factory=list)

    def group(self, path: str, given: str = "", *, procs: str = "") -> Path:
        """A version 2 group, whose children have the controllers `given`."""
        folder = self.root / path.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.controllers").write_text("cpuset cpu io memory pids")
        (folder / "cgroup.subtree_control").write_text(given)
        (folder / "cgroup.procs").write_text(procs)
        if folder != self.root:
            (folder / "cgroup.type").write_text("domain")
        return folder


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel(tmp_path / "cgroup")
    kernel.root.mkdir()
    read_text = Path.read_text

    def read(path: Path, *arguments: str, **options: str) -> str:
        if str(path) == "/proc/self/cgroup":
            return "\n".join(kernel.own)
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(cgroup, "ROOT", kernel.root)
    monkeypatch.setattr(Path, "read_text", read)
    return kernel


def read(folder: Path, *files: str) -> list[str]:
    return [(folder / file).read_text() for file in files]


def test_version_2_limits_a_run_in_one_group_beside_the_nodes_leaf(kernel: Kernel) -> None:
    kernel.group("/")
    service = kernel.group("/node.service", "cpu memory pids")
    kernel.group(f"/node.service/{LEAF}")
    kernel.own = [f"0::/node.service/{LEAF}"]
    group = Cgroup.create("suanli-1", LIMITS)
    assert group.controllers == ("cpu", "memory", "pids")
    folder = service / "suanli-1"
    assert read(folder, "cpu.max", "memory.max", "memory.oom.group", "pids.max") == [
        "150000 100000",
        str(2**30),
        "1",
        "80",
    ]
    group.add(77)
    assert read(folder, "cgroup.procs") == ["77"]
    (folder / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 1\n")
    (folder / "pids.events").write_text("max 5\n")
    (folder / "cpu.stat").write_text("usage_usec 2500999\nuser_usec 1\n")
    assert (group.memory_kills(), group.refused_processes(), group.cpu_ms()) == (2, 5, 2500)


def test_only_controllers_that_children_get_are_used(kernel: Kernel) -> None:
    kernel.group("/")
    kernel.group("/node.scope", "memory")
    kernel.own = [f"0::/node.scope/{LEAF}"]
    kernel.group(f"/node.scope/{LEAF}")
    assert Cgroup.create("suanli-1", LIMITS).controllers == ("memory",)


def test_version_1_limits_a_run_in_a_group_for_each_controller(kernel: Kernel) -> None:
    for controller in ("cpu", "memory", "pids"):
        (kernel.root / controller / "own").mkdir(parents=True)
    kernel.own = ["3:cpu:/own", "2:memory:/own", "1:pids:/own", "0::/"]
    group = Cgroup.create("suanli-1", LIMITS)
    assert group.controllers == ("cpu", "memory", "pids")
    assert read(kernel.root / "cpu/own/suanli-1", "cpu.cfs_period_us", "cpu.cfs_quota_us") == ["100000", "150000"]
    assert read(kernel.root / "memory/own/suanli-1", "memory.limit_in_bytes") == [str(2**30)]
    (kernel.root / "memory/own/suanli-1/memory.oom_control").write_text("oom_kill_disable 0\noom_kill 4\n")
    assert (group.memory_kills(), group.cpu_ms()) == (4, 0)


def test_a_machine_may_have_some_of_each(kernel: Kernel) -> None:
    """Version 1 holds some controllers, and the version 2 hierarchy beside it the others."""
    (kernel.root / "memory").mkdir()
    unified = kernel.group("/unified", "cpu pids")
    (unified / "cgroup.type").unlink()
    kernel.own = ["2:memory:/", "0::/"]
    group = Cgroup.create("suanli-1", LIMITS)
    assert group.controllers == ("cpu", "memory", "pids")
    assert (kernel.root / "memory/suanli-1").is_dir()
    assert (unified / "suanli-1").is_dir()


def test_without_any_hierarchy_nothing_binds_and_nothing_is_made(kernel: Kernel) -> None:
    kernel.own = ["0::/"]
    assert (cgroup.homes(), cgroup.enforced(), cgroup.own_group()) == ([], (), None)
    cgroup.settle()
    assert list(kernel.root.iterdir()) == []


def test_a_scope_is_divided_and_all_its_processes_stand_in_its_leaf(kernel: Kernel) -> None:
    kernel.group("/")
    scope = kernel.group("/run-1.scope", procs="11\n12\n")
    kernel.own = ["0::/run-1.scope"]
    moved: list[str] = []
    write_text = Path.write_text

    def write(path: Path, text: str) -> int:
        if path == scope / LEAF / "cgroup.procs":
            moved.append(text)
            left = [pid for pid in (scope / "cgroup.procs").read_text().split() if pid != text]
            write_text(scope / "cgroup.procs", "\n".join(left))
        return write_text(path, text)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "write_text", write)
        cgroup.settle()
    assert moved == ["11", "12"]
    assert (scope / "cgroup.subtree_control").read_text() == "+pids", "each of them is asked for by itself"
    cgroup.settle()
    assert moved == ["11", "12"], "once is enough"


@pytest.mark.parametrize("path", ["/system.slice/node.service", "/user.slice/user@0.service"])
def test_the_group_of_a_service_is_its_managers(kernel: Kernel, path: str) -> None:
    kernel.group("/")
    service = kernel.group(path, procs="11\n")
    kernel.own = [f"0::{path}"]
    cgroup.settle()
    assert not (service / LEAF).exists()
    assert cgroup.homes() == []


def test_what_limits_any_group_above_ours_limits_what_can_be_sold(kernel: Kernel) -> None:
    kernel.group("/")
    above, own = kernel.group("/a.slice"), kernel.group(f"/a.slice/{LEAF}")
    kernel.own = [f"0::/a.slice/{LEAF}"]
    for folder, cpu, memory in ((above, "250000 100000", str(3 * 2**30)), (own, "max 100000", "max")):
        (folder / "cpu.max").write_text(cpu)
        (folder / "memory.max").write_text(memory)
    assert (cpu_quota_milli(), memory_limit_bytes()) == (2500, 3 * 2**30)
