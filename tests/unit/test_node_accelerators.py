"""Accelerators: what becomes of the management library's facts, and which device nodes a run may open.

The facts are those that the library states of such cards; there is none on the machines that these tests run on, so
what a driver does with the device nodes is not tested here.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from suanli_node.engine.devices import Devices
from suanli_node.engine.runs import RunSpec
from suanli_node.supply.accelerators import Facts, ask, find_accelerators, is_device, whole
from suanli_node.supply.inventory import limited, take_inventory
from suanli_protocol.errors import ConfigurationError, ExecutionError

H100 = Facts(minor=0, model="NVIDIA H100 80GB HBM3", memory_bytes=85_520_809_984, split=False)
T4 = Facts(minor=3, model="Tesla T4", memory_bytes=16_106_127_360, split=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with device nodes of the names that a driver makes; they are /dev/zero by another name."""
    for minor in (0, 3):
        try:
            os.mknod(tmp_path / f"nvidia{minor}", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        except PermissionError:
            pytest.skip("only root can make device nodes")
    return tmp_path


def test_whole_devices_are_for_sale_under_their_own_minor_number(folder: Path) -> None:
    found = whole([H100, T4], folder)
    assert [(one.label, Path(one.device).name) for one in found] == [
        ("NVIDIA H100 80GB HBM3, 81559 MiB", "nvidia0"),
        ("Tesla T4, 15360 MiB", "nvidia3"),
    ]


def test_what_is_split_or_has_no_device_node_is_not(folder: Path) -> None:
    (folder / "nvidia5").write_text("no device")
    others = [replace(H100, split=True), replace(T4, minor=5), replace(T4, minor=7)]
    assert whole([*others, T4], folder) == whole([T4], folder)


def test_without_a_driver_there_are_none() -> None:
    if is_device(Path("/dev/nvidiactl")):
        pytest.skip("this machine has a driver")
    nvml = pytest.importorskip("pynvml")
    assert ask(nvml) == ()
    assert find_accelerators() == ()


def test_an_operator_may_keep_some_back_and_cannot_sell_more(folder: Path, tmp_path: Path) -> None:
    inventory = replace(take_inventory(tmp_path), accelerators=whole([H100, T4], folder))
    assert len(limited(inventory).accelerators) == 2
    assert limited(inventory, accelerators=1).accelerators == inventory.accelerators[:1]
    assert limited(inventory, accelerators=0).accelerators == ()
    with pytest.raises(ConfigurationError, match="3 are asked for, 2 were found"):
        limited(inventory, accelerators=3)


def test_a_run_gets_the_nodes_of_what_it_was_given_and_no_other() -> None:
    devices = Devices(("/dev/nvidia0", "/dev/nvidia3"), ("/dev/nvidiactl",))
    assert devices.of(["1"]) == ("/dev/nvidia3", "/dev/nvidiactl")
    assert devices.of(["1", "0"]) == ("/dev/nvidia3", "/dev/nvidia0", "/dev/nvidiactl")
    assert devices.of([]) == ()


def test_a_spec_counts_whole_ones() -> None:
    spec = RunSpec("a", shell="true", accelerators=2)
    assert RunSpec.from_json(spec.to_json()) == spec
    with pytest.raises(ExecutionError, match="accelerators"):
        RunSpec("a", shell="true", accelerators=-1)
