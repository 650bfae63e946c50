"""What may be asked of a run, and the folder that holds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from suanli_node.engine.runs import RunFolder, RunPhase, RunSpec, RunStatus, lost, write_json
from suanli_node.engine.supervisor import cell_of, verdict_of
from suanli_node.sandbox.disk import DEPTH_MAX, disk_usage, remove_tree
from suanli_node.sandbox.interface import Ending
from suanli_node.sandbox.process_tree import measure, proportional_bytes
from suanli_node.sandbox.selftest import canaries
from suanli_node.supply.inventory import limited, take_inventory
from suanli_node.upkeep import FREE_MIB_MIN
from suanli_protocol.errors import ConfigurationError, ExecutionError, NotFoundError


@pytest.mark.parametrize(
    "wrong",
    [
        {"lease_id": "../x"},
        {"lease_id": ""},
        {"lease_id": "a/b"},
        {"argv": ()},
        {"shell": "true"},
        {"argv": ("a\0b",)},
        {"env": {"1X": "y"}},
        {"env": {"A=B": "y"}},
        {"env": {"A": "x" * 200_000}},
        {"environment": "../other"},
        {"environment": ".draft-1"},
        {"memory_mib": 0},
        {"seconds": -1},
    ],
)
def test_impossible_specs_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ExecutionError):
        RunSpec(**{"lease_id": "lease", "argv": ("true",), **wrong})  # type: ignore[arg-type]


def test_spec_and_status_survive_the_disk(tmp_path: Path) -> None:
    folder = RunFolder.under(tmp_path, "lease")
    with pytest.raises(NotFoundError):
        folder.status()
    folder.create()
    spec = RunSpec("lease", argv=("echo", "ü"), env={"A": "b"})
    status = replace(RunStatus("lease"), phase=RunPhase.RUNNING, started_at=5)
    folder.write_status(status)
    assert not folder.started()
    folder.write_spec(spec)
    assert folder.started()
    assert folder.spec() == spec
    assert folder.status() == status
    assert RunSpec.from_json({**spec.to_json(), "colour": "of another version"}) == spec
    assert (folder.path / "spec.json").stat().st_mode & 0o77 == 0
    assert lost(status, "why").reason == "worker_lost"
    folder.ask_to_stop("first")
    folder.ask_to_stop("second")
    assert folder.stop_reason() == "first"
    folder.remove()
    assert not folder.path.exists()


def test_a_file_that_was_written_has_its_name_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after `write_json` returned loses neither the content nor the name."""
    synced: list[tuple[str, bool]] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), (tmp_path / "record.json").exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_json(tmp_path / "record.json", {"a": 1})
    (draft, there_before), folder = synced
    assert draft.startswith(str(tmp_path / ".record.json."))
    assert not there_before
    assert folder == (str(tmp_path), True)


def test_shell_and_argv_reach_the_cell_unchanged(tmp_path: Path) -> None:
    folder = RunFolder.under(tmp_path, "lease")
    spec = RunSpec("lease", argv=("echo", "$HOME; rm -rf /", "a b"), env={"PATH": "/mine"})
    cell = cell_of(spec, folder, tmp_path)
    said = subprocess.run(list(cell.argv), capture_output=True, text=True, check=True, timeout=10).stdout
    assert said == "$HOME; rm -rf / a b\n"
    assert cell.env["PATH"] == "/mine"
    assert cell.env["SUANLI_OUTPUT_DIR"] == "/out"


def test_verdicts() -> None:
    spec = RunSpec("lease", argv=("x",))
    assert verdict_of(Ending(0, 1, False, True), spec)[0] == "ok"
    assert verdict_of(Ending(1, 1, False, False), spec)[0] == "exit_nonzero"
    assert verdict_of(Ending(1, 1, False, True), spec)[0] == "process_limit"
    assert verdict_of(Ending(137, 1, True, False), spec)[0] == "memory_exceeded"
    assert verdict_of(Ending(None, 1, False, False, "why"), spec) == ("sandbox_failed", "why")


def test_disk_usage_follows_no_link_and_refuses_depth(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("/usr")
    used = disk_usage(tmp_path, bytes_max=2**40, files_max=1000)
    assert 100_000 <= used.bytes < 300_000
    assert used.files == 2
    deep = tmp_path.joinpath(*["d"] * (DEPTH_MAX + 2))
    deep.mkdir(parents=True)
    assert disk_usage(tmp_path, bytes_max=2**40, files_max=1000).files == 1001


def test_remove_tree_takes_very_deep_folders(tmp_path: Path) -> None:
    root, here = tmp_path / "root", os.open(tmp_path, os.O_RDONLY)
    name = "root"
    for _ in range(1500):
        os.mkdir(name, 0o700, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here, name = below, "d"
    os.close(here)
    remove_tree(root)
    assert not root.exists()


def test_process_tree_sees_itself_and_its_children() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 30 & wait"]) as shell:
        try:
            polls = 500
            while len(measure(shell.pid).pids) < 2 and polls:
                polls -= 1
                time.sleep(0.02)
            tree = measure(shell.pid)
            assert len(tree.pids) == 2
            assert tree.resident_bytes >= proportional_bytes(tree.pids) > 0
        finally:
            for pid in reversed(measure(shell.pid).pids):
                os.kill(pid, 9)


def test_inventory_is_plausible_and_limited(tmp_path: Path) -> None:
    found = take_inventory(tmp_path / "not" / "yet")
    assert 0 < found.cpus_milli <= (os.cpu_count() or 1) * 1000
    assert found.memory_mib > 0
    assert found.disk_mib > 0
    assert found.cpu_model
    assert limited(found, memory_mib=1).memory_mib == 1
    assert limited(found, cpus_milli=found.cpus_milli).cpus_milli == found.cpus_milli
    with pytest.raises(ConfigurationError, match="cpus_milli"):
        limited(found, cpus_milli=found.cpus_milli + 1)


@pytest.mark.parametrize(
    ("here", "kept"),
    [
        ((64_000, 256 * 1024, 4 * 2**20), (4000, 16 * 1024, (4 * 2**20 - FREE_MIB_MIN) // 16 + FREE_MIB_MIN)),
        ((2000, 4096, 40 * 1024), (125, 1024, 4096)),
        ((1000, 1024, 1026), (100, 512, FREE_MIB_MIN + 1)),
    ],
    ids=["large", "small", "tiny"],
)
def test_the_node_keeps_a_reserve_for_itself(
    tmp_path: Path, here: tuple[int, int, int], kept: tuple[int, int, int]
) -> None:
    """Else a job that uses all that was leased starves the records and the supervisor that it is billed by."""
    cpus, memory, disk = here
    machine = replace(take_inventory(tmp_path), cpus_milli=cpus, memory_mib=memory, disk_mib=disk)
    sold = limited(machine)
    assert (cpus - sold.cpus_milli, memory - sold.memory_mib, disk - sold.disk_mib) == kept
    assert min(sold.cpus_milli, sold.memory_mib, sold.disk_mib) > 0


def test_no_operator_can_sell_the_disk_that_records_need(tmp_path: Path) -> None:
    machine = replace(take_inventory(tmp_path), disk_mib=10_000)
    assert limited(machine, disk_mib=10_000 - FREE_MIB_MIN).disk_mib == 10_000 - FREE_MIB_MIN
    with pytest.raises(ConfigurationError, match="disk_mib"):
        limited(machine, disk_mib=10_000 - FREE_MIB_MIN + 1)
    assert limited(replace(machine, disk_mib=FREE_MIB_MIN)).disk_mib == 0, "it starts, for the leases that it has"


def test_what_leases_hold_of_the_disk_is_not_missing_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a node that sells most of its disk could not be started again while jobs use it."""
    (tmp_path / "runs" / "lease" / "work").mkdir(parents=True)
    (tmp_path / "runs" / "lease" / "work" / "data").write_bytes(os.urandom(4 * 2**20))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)  # others write meanwhile
    free = take_inventory(tmp_path).disk_mib
    assert take_inventory(tmp_path, tmp_path / "runs").disk_mib - free in (4, 5)
    assert take_inventory(tmp_path, tmp_path / "never made").disk_mib == free


def test_canaries_get_out_without_a_sandbox(tmp_path: Path) -> None:
    """The control run: a set of programs that never gets out anywhere would prove nothing."""
    (tmp_path / "secret").write_text("s")
    arguments = {
        "files": [str(tmp_path)],
        "writes": [str(tmp_path)],
        "processes": ["5"],
        "memory": ["16"],
        "cpu": ["0.01"],
    }
    for canary in canaries(()):
        command = [sys.executable, "-c", canary.program, *arguments.get(canary.name, [])]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 1, (canary.name, ended.stdout, ended.stderr)
