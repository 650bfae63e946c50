"""The doctor's own engine does not outlive the doctor, however that one is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.e2e
BEGIN_S, END_S = 60.0, 30.0


def host_in(folder: Path) -> psutil.Process | None:
    """The Ray host that the doctor began, once it has said so."""
    for told in folder.glob("suanli-doctor-*/ray_host.json"):
        try:
            return psutil.Process(json.loads(told.read_bytes())["pid"])
        except (OSError, ValueError, psutil.NoSuchProcess):
            continue
    return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "its terminal's end"])
def test_a_doctor_that_is_ended_takes_its_engine_along(tmp_path: Path, number: signal.Signals) -> None:
    nowhere = "http://127.0.0.1:9"
    command = [sys.executable, "-m", "suanli_node.cli", "doctor", "--market", nowhere, "--chain", nowhere]
    command += ["--escrow", "0x" + "11" * 20, "--keystore", str(tmp_path / "none"), "--state", str(tmp_path / "state")]
    doctor = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + BEGIN_S
    while (host := host_in(tmp_path)) is None:
        assert doctor.poll() is None
        assert time.monotonic() < deadline, "it begins no engine"
        time.sleep(0.05)
    below = [host, *host.children(recursive=True)]
    doctor.send_signal(number)
    assert doctor.wait(END_S) == 128 + number
    _, alive = psutil.wait_procs(below, END_S)
    assert alive == []
    assert list(tmp_path.glob("suanli-doctor-*")) == []
