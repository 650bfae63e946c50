"""Fault points: silent unless asked for, and then one death at the named place."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from suanli_protocol import faults

ROOT = Path(faults.__file__).resolve().parents[2]
CODE = """
import sys
from suanli_protocol.faults import reach
for point in sys.argv[1:]:
    reach(point)
print("lived")
"""


def process(wanted: str, *points: str) -> subprocess.CompletedProcess[str]:
    """A process that comes to these points."""
    environment = {**os.environ, "SUANLI_FAULT": wanted}
    return subprocess.run(
        [sys.executable, "-c", CODE, *points], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_nothing_happens_unless_it_was_asked_for() -> None:
    assert faults.inherited() == {}
    faults.reach("role.thing.step")
    assert process("", "a.b.c").stdout == "lived\n"
    assert process("a.b.c", "a.b", "a.b.d").stdout == "lived\n"


def test_a_process_dies_at_the_point_or_the_nth_time() -> None:
    assert process("a.b.c", "x", "a.b.c").returncode == -signal.SIGKILL
    assert process("a.b.c:3", "a.b.c", "x", "a.b.c").returncode == 0
    assert process("a.b.c:3", "a.b.c", "x", "a.b.c", "a.b.c").returncode == -signal.SIGKILL


def test_a_file_strikes_once_and_shows_where(tmp_path: Path) -> None:
    assert process(str(tmp_path), "a.b.c").stdout == "lived\n"
    (tmp_path / "a.b.c").touch()
    assert process(str(tmp_path), "a.b", "a.b.c").returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert re.fullmatch(r"a\.b\.c\.\d+", left.name)
    assert process(str(tmp_path), "a.b.c").stdout == "lived\n"


def test_every_point_is_named_role_thing_step_and_stands_once() -> None:
    found = [
        (path.relative_to(ROOT).parts[0], re.sub(r"{.*?}", "*", name))
        for folder in ("client", "market", "node")
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'faults\.reach\(f?"([^"]+)"\)', path.read_text())
    ]
    names = [name for _, name in found]
    assert len(names) == len(set(names)) > 30
    roles = {"client": {"client"}, "market": {"market"}, "node": {"node", "agent", "worker"}}
    assert [name for role, name in found if name.count(".") != 2 or name.split(".")[0] not in roles[role]] == []
