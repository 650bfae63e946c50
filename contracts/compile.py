"""Compiles the contracts with py-solc-x and writes the ABI and bytecode that the packages carry.

`python contracts/compile.py` writes; `--check` writes nothing and fails when a committed file differs.
Hardhat reads the same compiler.json and gives the same bytecode (tests/contract/test_bytecode.py).
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import solcx

import nodejs

HERE = Path(__file__).resolve().parent
COMPILER: dict[str, Any] = json.loads((HERE / "compiler.json").read_text())
OUTPUT = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"]
SHIPPED = HERE / "suanli_protocol" / "abi"
TEST_ONLY = nodejs.ROOT / "tests" / "support" / "abi"
ARTIFACTS = {
    "contracts/LeaseEscrow.sol": SHIPPED,
    "contracts/DevCredit.sol": SHIPPED,
    "contracts/mocks/HashProbe.sol": TEST_ONLY,
}


@contextmanager
def solc() -> Iterator[Path]:
    """One executable that behaves like a native solc, of the version that compiler.json asks for."""
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "solc"
        words = shlex.join([sys.executable, str(HERE / "solc.py")])
        binary.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        binary.chmod(0o700)
        found = str(solcx.wrapper.get_solc_version(binary))
        if found != COMPILER["version"]:
            raise RuntimeError(f"solc {found} is installed, compiler.json asks for {COMPILER['version']}")
        yield binary


def compile_contract(binary: Path, source: str) -> dict[str, Any]:
    """The artifact of the contract that has its file's name."""
    name = Path(source).stem
    request = {
        "language": "Solidity",
        "sources": {source: {"content": (nodejs.ROOT / source).read_text()}},
        "settings": {**COMPILER["settings"], "outputSelection": {source: {name: OUTPUT}, "*": {"": ["ast"]}}},
    }
    answer = solcx.compile_standard(request, solc_binary=binary)
    for warning in answer.get("errors", []):
        if warning.get("sourceLocation", {}).get("file", "").startswith("contracts/"):
            print(warning["formattedMessage"], file=sys.stderr)
    contract = answer["contracts"][source][name]
    return {
        "contractName": name,
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
        "immutables": immutables(contract["evm"]["deployedBytecode"]["immutableReferences"], answer["sources"]),
        "compiler": COMPILER,
    }


def immutables(references: dict[str, list[dict[str, int]]], sources: dict[str, Any]) -> dict[str, list[int]]:
    """Where the runtime code leaves 32 bytes for each immutable, by the variable's name."""
    names = {node["id"]: node["name"] for node in _nodes(sources) if node.get("nodeType") == "VariableDeclaration"}
    found = {names[int(key)]: sorted(place["start"] for place in places) for key, places in references.items()}
    if len(found) < len(references):
        raise RuntimeError("two immutables have one name: they could not be told apart in deployed code")
    return dict(sorted(found.items()))


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    """Every object of a syntax tree."""
    if isinstance(tree, dict):
        yield tree
    if isinstance(tree, dict | list):
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from _nodes(branch)


def as_text(artifact: dict[str, Any]) -> str:
    """The one way an artifact is written down."""
    return json.dumps(artifact, indent=1, ensure_ascii=True) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Writes the artifacts, or with --check names those that differ (status 1)."""
    with solc() as binary:
        artifacts = {
            folder / f"{Path(source).stem}.json": compile_contract(binary, source)
            for source, folder in ARTIFACTS.items()
        }
    if "--check" not in arguments:
        for path, artifact in artifacts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(as_text(artifact))
            print(f"{path.relative_to(nodejs.ROOT)}: {len(artifact['deployedBytecode']) // 2 - 1} bytes of code")
        return 0
    stale = [path for path, found in artifacts.items() if not path.is_file() or path.read_text() != as_text(found)]
    for path in stale:
        print(f"{path.relative_to(nodejs.ROOT)} differs; run: python contracts/compile.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
