"""The demo as a person meets it: real processes from installed commands, broken and mended, taken down to nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from suanli.demo.process import start_time

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
SUANLI = str(Path(sys.executable).with_name("suanli"))
JOB = """
name: letter
run: printf 'dear auditor\\n' > "$SUANLI_OUTPUT_DIR/letter.txt"; cat /in/note.txt
inputs: [{source: ./note.txt, path: /in/note.txt}]
resources: {cpus: 0.5, memory: 256MB, disk: 256MB}
timeouts: {execution: 1m}
budget: 0.20
"""


class Person:
    """Somebody with a home of their own who types commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data" / "suanli"
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("SUANLI_")} | {
            "SUANLI_HOME": str(folder / "data"),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }

    def types(self, *arguments: str, timeout: float = 400) -> subprocess.CompletedProcess[str]:
        """Runs `suanli` with these arguments in an own folder."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        return subprocess.run(
            [SUANLI, *arguments], cwd=work, env=self._environment, capture_output=True, text=True, timeout=timeout
        )

    def asks(self, *arguments: str) -> Any:
        """The JSON that a command prints."""
        done = self.types(*arguments, "--json")
        return json.loads(done.stdout)

    @property
    def processes(self) -> dict[str, tuple[int, int]]:
        """The demo's programs as it wrote them down: name → (pid, start time)."""
        records = [json.loads(path.read_bytes()) for path in (self.data / "demo" / "run").glob("*.json")]
        return {record["name"]: (record["pid"], record["started"]) for record in records}


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """A person whose demo is taken down whatever happens."""
    somebody = Person(tmp_path)
    yield somebody
    somebody.types("demo", "down")


def kill(person: Person, name: str) -> None:
    """Ends a program of the demo as a crash would."""
    pid, started = person.processes[name]
    assert start_time(pid) == started
    os.kill(pid, signal.SIGKILL)


def children_of(folder: Path) -> list[str]:
    """Command lines of all processes that name the folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and int(place.name) != os.getpid() and "pytest" not in line:
            found.append(line)
    return found


def test_a_demo_from_up_to_down(person: Person) -> None:
    """Up, a job with its audit, a second lease, crashes, repair, a second up, down: nothing is left."""
    (person.folder / "note.txt").write_text("a note\n")
    (person.folder / "job.yaml").write_text(JOB)
    ran = person.types("demo", "run", str(person.folder / "job.yaml"), "-o", str(person.folder / "results"))
    assert ran.returncode == 0, ran.stderr
    assert "a note" in ran.stdout + ran.stderr
    assert "checks match" in ran.stdout
    assert (person.folder / "results" / "out" / "letter.txt").read_text() == "dear auditor\n"

    status = person.asks("demo", "status")
    assert status["up"] is True
    where = {process["name"]: process["url"] for process in status["processes"]}
    assert (where["chain"], where["market"]) == (status["chain"], status["market"])
    for node in ("lotus", "bamboo"):
        assert httpx.get(f"{where[node]}/v1/market", timeout=10).json()["name"] == node
    assert Path(status["keys"], "consumer.json").is_file()
    assert Path(status["logs"], "bamboo.log").is_file()
    assert status["token"].startswith("0x")
    assert sorted(offer["name"] for offer in status["offers"]) == ["bamboo", "lotus"]
    assert len({offer["prices"] for offer in status["offers"]}) == 2
    assert {party["name"] for party in status["parties"]} == {"market", "consumer", "arbiter", "lotus", "bamboo"}

    before = person.processes
    again = person.types("demo", "up")
    assert again.returncode == 0, again.stderr
    assert person.processes == before

    answer = person.types("run", "--yes", "--", "python", "-c", "print(6*7)")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "42"
    audit = person.asks("audit", "lease", "2")
    assert audit["ok"] is True
    assert audit["notChecked"] == []

    kill(person, "bamboo")
    kill(person, "chain")
    assert person.types("demo", "status").returncode == 7
    for _ in range(2):
        mended = person.types("demo", "up")
        assert mended.returncode == 0, mended.stderr
        kill(person, "chain")
    assert person.types("demo", "up").returncode == 0
    assert person.processes["market"] == before["market"]
    whole = person.asks("audit", "all")
    assert whole["ok"] is True
    assert len(whole["leases"]) == 2

    alive = person.processes
    down = person.types("demo", "down")
    assert down.returncode == 0, down.stderr
    assert str(person.folder / "results") in down.stderr
    assert all(start_time(pid) != started for pid, started in alive.values())
    assert children_of(person.data) == []
    assert not person.data.exists()
    assert (person.folder / "results" / "out" / "letter.txt").exists()
    assert person.types("demo", "down").returncode == 0


def test_a_ledger_that_was_lost_is_told(person: Person) -> None:
    """A devnet that was reset is named, with the way out; the way out works."""
    assert person.types("demo", "up").returncode == 0
    kept = person.types("demo", "down", "--keep")
    assert kept.returncode == 0, kept.stderr
    assert children_of(person.data) == []
    (person.data / "demo" / "chain" / "state.json").unlink()
    lost = person.types("demo", "up", "--json")
    assert lost.returncode == 2
    assert json.loads(lost.stderr.splitlines()[-1])["code"] == "devnet_reset"
    assert "demo down" in lost.stderr
    assert person.types("demo", "down").returncode == 0
    assert not person.data.exists()
