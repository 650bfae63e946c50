"""A process that dies and is started again: its command, its present life, and what all its lives printed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY_S = 120.0
OWN = ("SUANLI_", "XDG_")


@dataclass
class Service:
    """One role of the world as a process. `killed` counts deaths by SIGKILL, `ends` keeps every other unasked end."""

    name: str
    command: list[str]
    settings: Mapping[str, str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    lives: int = 0
    killed: int = 0
    last_status: int | None = None
    ends: list[str] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """What the present life prints."""
        return self.folder / f"{self.name}.{self.lives}.log"

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Begins the next life."""
        self.lives += 1
        environment = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**environment, **self.settings},
            )

    def ready(self, timeout: float = READY_S) -> dict[str, Any]:
        """What it said when it was ready; RuntimeError with its words if it ended before, or is late."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for line in self.log.read_text(errors="replace").splitlines():
                if line.startswith("ready "):
                    found: dict[str, Any] = json.loads(line.removeprefix("ready "))
                    return found
            if not self.alive:
                break
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} did not get ready: {self.last_words()}")

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=20)

    def noticed_dead(self) -> bool:
        """Whether it has died since the last look; an end of its own is kept with its last words."""
        if self.process is None or self.process.poll() is None:
            return False
        status = self.last_status = self.process.returncode
        self.process = None
        if status == -signal.SIGKILL:
            self.killed += 1
        elif status != 0:
            self.ends.append(f"{self.name} ended with {status}: {self.last_words()}")
        return True

    def end(self) -> None:
        """SIGTERM, then SIGKILL after a while."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def last_words(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace").strip()[-1500:]
