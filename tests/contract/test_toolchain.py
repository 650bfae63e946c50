"""The Node tools come from packages, run under the packaged Node.js, and ask or report nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import nodejs


def test_tools_run_under_the_packaged_node() -> None:
    script = "console.log(process.execPath, process.env.HARDHAT_DISABLE_TELEMETRY_PROMPT)"
    words = nodejs.command(["node", "-e", script])
    said = subprocess.run(words, env=nodejs.environment(), capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.split() == [str(nodejs.NODE), "true"]


def test_children_find_the_packaged_node_first() -> None:
    path = nodejs.environment({"PATH": "/usr/bin"})["PATH"]
    assert path.split(":") == [str(nodejs.NODE.parent), "/usr/bin"]


def test_a_missing_tool_is_named_with_the_command_that_brings_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert nodejs.main(["no-such-tool"]) == 127
    assert "npm ci" in capsys.readouterr().err


def test_compiler_versions_agree() -> None:
    wanted = json.loads((nodejs.ROOT / "contracts" / "compiler.json").read_text())["version"]
    installed = json.loads((nodejs.ROOT / "node_modules" / "solc" / "package.json").read_text())["version"]
    assert installed == wanted
    words = [sys.executable, str(nodejs.ROOT / "contracts" / "solc.py"), "--version"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said.startswith(wanted + "+commit.")
