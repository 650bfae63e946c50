"""A throw-away chain for tests: one Anvil process on a free loopback port, ended by its process id."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

import nodejs

ROOT = nodejs.ROOT
CHAIN_ID = 31337
START_TIMEOUT = 30.0


@dataclass(frozen=True)
class Anvil:
    """A running devnet: its JSON-RPC address, funded accounts, process id, state file (if it keeps one)."""

    url: str
    accounts: list[LocalAccount]
    pid: int
    state: Path | None = None

    def rpc(self, method: str, *params: object) -> object:
        """Calls one JSON-RPC method; raises RuntimeError with the node's words when it refuses."""
        return call(self.url, method, *params)


def call(url: str, method: str, *params: object) -> object:
    """One JSON-RPC request over HTTP; raises RuntimeError with the node's words when it refuses."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    answer = httpx.post(url, json=body, timeout=30.0).json()
    if "error" in answer:
        raise RuntimeError(f"{method}: {answer['error']}")
    return answer["result"]


def anvil_path() -> Path:
    """The Anvil binary: SUANLI_ANVIL, else node_modules, else PATH."""
    named = os.environ.get("SUANLI_ANVIL")
    packaged = sorted(ROOT.glob("node_modules/@foundry-rs/anvil-*/bin/anvil"))
    on_path = shutil.which("anvil")
    for candidate in (named, *packaged, on_path):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    raise FileNotFoundError("anvil: set SUANLI_ANVIL or install the Node packages (npm ci)")


def free_port() -> int:
    """A loopback TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_rpc(url: str, process: subprocess.Popen[bytes], timeout: float = START_TIMEOUT) -> None:
    """Returns when the node answers eth_chainId; RuntimeError: it died, TimeoutError: it is late."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the devnet ended with status {process.returncode} before it answered")
        try:
            call(url, "eth_chainId")
        except (httpx.HTTPError, ValueError):
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"the devnet did not answer within {timeout} s")


def stop_process(process: subprocess.Popen[Any]) -> None:
    """Ends a process: SIGTERM (Anvil then writes its state file), SIGKILL after ten seconds."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=10)


def mnemonic_accounts(count: int = 10) -> list[LocalAccount]:
    """The accounts that every development chain funds (the well-known test mnemonic)."""
    Account.enable_unaudited_hdwallet_features()
    words = " ".join(["test"] * 11 + ["junk"])
    return [Account.from_mnemonic(words, account_path=f"m/44'/60'/0'/0/{index}") for index in range(count)]


@contextmanager
def start_hardhat_node(output: Path, port: int | None = None) -> Iterator[Anvil]:
    """Runs `hardhat node` (automining, chain id 31337) while the context is open; `output` takes its files."""
    chosen = free_port() if port is None else port
    words = ["hardhat", "node", "--hostname", "127.0.0.1", "--port", str(chosen)]
    environment = nodejs.environment() | {"SUANLI_HARDHAT_OUTPUT": str(output)}
    with (output / "hardhat-node.log").open("wb") as log:
        process = subprocess.Popen(
            nodejs.command(words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=environment
        )
        try:
            url = f"http://127.0.0.1:{chosen}"
            wait_for_rpc(url, process)
            yield Anvil(url, mnemonic_accounts(), process.pid)
        finally:
            stop_process(process)


@contextmanager
def start_anvil(state: Path | None = None, port: int | None = None) -> Iterator[Anvil]:
    """Runs Anvil (automining, Osaka rules, chain id 31337) while the context is open.

    `state` names a file that is loaded if it exists and dumped each second and at the end.
    """
    chosen = free_port() if port is None else port
    with tempfile.TemporaryDirectory(prefix="suanli-anvil-") as folder:
        config = Path(folder) / "config.json"
        command = [str(anvil_path()), "--silent", "--host", "127.0.0.1", "--port", str(chosen)]
        command += ["--chain-id", str(CHAIN_ID), "--hardfork", "osaka", "--config-out", str(config)]
        if state is not None:
            command += ["--state", str(state), "--state-interval", "1"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=folder)
        try:
            url = f"http://127.0.0.1:{chosen}"
            wait_for_rpc(url, process)
            keys = json.loads(config.read_text())["private_keys"]
            yield Anvil(url, [Account.from_key(key) for key in keys], process.pid, state)
        finally:
            stop_process(process)
