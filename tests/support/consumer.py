"""A person at the command line: a home, a key, and what each command answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suanli_protocol.keystore import SCRYPT_N_DEVNET, create
from support.market import PASSWORD, World

RUN_TIMEOUT_S = 180


@dataclass
class Done:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def problem(self) -> dict[str, Any]:
        """The error object of --json: the last line of stderr that is one."""
        lines = [line for line in self.err.splitlines() if line.startswith("{")]
        found: dict[str, Any] = json.loads(lines[-1])
        return found


@dataclass
class Consumer:
    """A person with a home, a key and the command line."""

    home: Path
    settings: dict[str, str]

    def environment(self, **changes: str) -> dict[str, str]:
        """The environment of a command."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("SUANLI_", "XDG_"))}
        return own | {
            "SUANLI_HOME": str(self.home / "data"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            **self.settings,
            **changes,
        }

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        """A command that runs on."""
        return subprocess.Popen(
            [sys.executable, "-m", "suanli.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=self.environment(**changes),
        )

    def __call__(self, *arguments: str, **changes: str) -> Done:
        """Runs a command to its end."""
        process = self.start(*arguments, **changes)
        try:
            out, err = process.communicate(timeout=RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"suanli {arguments} did not end:\n{out}\n{err}") from None
        return Done(process.returncode, out, err)


def a_consumer(world: World, market: str, home: Path, *, money: str = "5") -> Consumer:
    """A new consumer with a key; funded through the command line."""
    home.mkdir()
    password = home / "password"
    password.touch(mode=0o600)
    password.write_text(PASSWORD)
    create(home / "key.json", PASSWORD, scrypt_n=SCRYPT_N_DEVNET)
    settings = {
        "SUANLI_MARKET": market,
        "SUANLI_CHAIN": world.url,
        "SUANLI_ESCROW": world.escrow.address,
        "SUANLI_KEYSTORE": str(home / "key.json"),
        "SUANLI_PASSWORD_FILE": str(password),
    }
    made = Consumer(home, settings)
    if money:
        funded = made("wallet", "fund", money)
        assert funded.status == 0, funded.err
    return made
