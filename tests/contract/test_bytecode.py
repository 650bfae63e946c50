"""Two toolchains, one bytecode: what py-solc-x compiles, what Hardhat compiles, and what is committed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import nodejs
from suanli_protocol.abi import artifact

CODE_LIMIT = 24_576  # bytes, EIP-170


def test_committed_artifacts_are_what_py_solc_x_compiles() -> None:
    check = subprocess.run(
        [sys.executable, str(nodejs.ROOT / "contracts" / "compile.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert check.returncode == 0, check.stderr


def test_hardhat_compiles_the_same_bytes(tmp_path: Path) -> None:
    sources = {name: f"contracts/{name}.sol" for name in ("LeaseEscrow", "DevCredit")}
    subprocess.run(
        nodejs.command(["hardhat", "build", *sources.values()]),
        cwd=nodejs.ROOT,
        env=nodejs.environment() | {"SUANLI_HARDHAT_OUTPUT": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        timeout=240,
        check=True,
    )
    for name, source in sources.items():
        built = json.loads((tmp_path / "artifacts" / source / f"{name}.json").read_text())
        committed = artifact(name)
        assert built["abi"] == committed["abi"]
        assert built["bytecode"] == committed["bytecode"]
        assert built["deployedBytecode"] == committed["deployedBytecode"]


@pytest.mark.parametrize("name", ["LeaseEscrow", "DevCredit"])
def test_code_fits_on_any_chain(name: str) -> None:
    assert 0 < len(bytes.fromhex(artifact(name)["deployedBytecode"][2:])) < CODE_LIMIT


def test_unknown_artifacts_are_not_found() -> None:
    with pytest.raises(FileNotFoundError):
        artifact("HashProbe")
